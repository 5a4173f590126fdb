"""Whose a camera's name is at home: the first enrolled device's that sent it, until a person gives it to another.

Home knows a camera by its name alone, and trains a model for each. Were a name anybody's, two devices that chose the
same one would train one model together, and whoever was let in could spoil the model of any camera.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from walt_train.loop.admission.tables import camera_owners
from walt_train.loop.store.database import UNAVAILABLE, StoreWriteError, cause, place_of, transaction

NAMES_A_DEVICE: Final = 64
"""So many names a device may take; no agent watches as many cameras. Without a bound one could take all names."""


class Names:
    """What a worker knows of the owners of names. An owner found once stays, unless a person gave the name away.

    Args:
        engine: Of the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._owners: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def read(self, connection: Connection) -> None:
        """Learns all owners anew."""
        rows = connection.execute(select(camera_owners.c.camera, camera_owners.c.device))
        self._owners = {row.camera: row.device for row in rows}
        self._counts = Counter(self._owners.values())

    def is_own(self, device: str, camera: str) -> bool:
        """Whether a camera's name is a device's; a name that is nobody's becomes its, on the disk, by asking.

        Raises:
            StoreWriteError: The database is away, and it is not known.
        """
        owner = self._owners.get(camera)
        if owner is None:
            if self._counts[device] >= NAMES_A_DEVICE:
                return False
            owner = self._owners[camera] = claim(self._engine, device, camera)
            self._counts[owner] += 1
        return owner == device


def claim(engine: Engine, device: str, camera: str) -> str:
    """Gives a name that is nobody's to a device; returns whose it is from now on, for everybody the same.

    Raises:
        StoreWriteError: It cannot be written.
    """
    owner = select(camera_owners.c.device).where(camera_owners.c.camera == camera)
    try:
        with transaction(engine) as connection:
            found = connection.scalar(owner)
            if found is None:
                connection.execute(insert(camera_owners), {"camera": camera, "device": device, "was": ""})
        return device if found is None else str(found)
    except IntegrityError:
        # Another worker was the first, and its row never goes.
        try:
            with engine.connect() as connection:
                return str(connection.scalars(owner).one())
        except UNAVAILABLE as error:
            raise StoreWriteError(f"cannot read {place_of(engine)}: {cause(error)}") from error


def hand_over(connection: Connection, device: str, camera: str, now_us: int) -> None:
    """Gives a name that is somebody's to a device; harmless where it is its already."""
    other = (camera_owners.c.camera == camera) & (camera_owners.c.device != device)
    values = {"device": device, "was": camera_owners.c.device, "given_us": now_us}
    connection.execute(update(camera_owners).where(other).values(values))
