"""What a person decides: who is approved, which cameras are held, what a device may send; and what there is to see.

Every decision is one transaction that also sets stored envelopes right; doing it again does no harm, and repairs what
a worker stored before it had heard.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, case, delete, func, insert, select, update

from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import DeviceTopics, Kind, check_name
from walt_train.loop.admission.anomaly import Past
from walt_train.loop.admission.inspector import note_cameras
from walt_train.loop.admission.names import claim, hand_over
from walt_train.loop.admission.policy import OTHERS_NAME
from walt_train.loop.admission.snapshot import settle
from walt_train.loop.admission.tables import camera_owners, camera_pasts, held_cameras, met, standings
from walt_train.loop.identity.tables import devices
from walt_train.loop.store.database import transaction
from walt_train.loop.store.tables import envelopes

_WHO_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """A device as an operator sees it; times in microseconds UTC.

    Attributes:
        site: Where it was enrolled, or claims to be.
        device: Its id.
        state: `new`, `approved`, `revoked`, `unknown` (sends, and was never enrolled) or `open` (stored without
            identities).
        first_us: First stored envelope; None if there is none.
        last_us: Last stored envelope.
        crops: Stored.
        held: Envelopes of any kind that may not train yet.
        over_rate: Messages that came faster than they may, and were let go.
        refused: Messages that were refused.
        cameras: Held ones, with the reason.
        taken: Names of cameras that crops wait for, with whose name it is: SITE/DEVICE; "" if it is nobody's, since
            the device has taken as many names as it may.
    """

    site: str
    device: str
    state: str
    first_us: int | None
    last_us: int | None
    crops: int
    held: int
    over_rate: int
    refused: int
    cameras: tuple[tuple[str, str], ...]
    taken: tuple[tuple[str, str], ...] = ()


def seen(engine: Engine) -> list[Seen]:
    """Every device that was enrolled, or sent something; by site and id."""
    with engine.connect() as connection:
        known = {row.device: row for row in connection.execute(select(devices))}
        standing = {row.device: row for row in connection.execute(select(standings))}
        counted = {row.device: row for row in connection.execute(select(met))}
        stored = {row.device: row for row in connection.execute(_stored())}
        cameras = connection.execute(select(held_cameras).order_by(held_cameras.c.camera)).all()
        taken = connection.execute(_taken()).all()
    names = known.keys() | stored.keys() | counted.keys()
    found = []
    for name in names:
        theirs, count, enrolled = stored.get(name), counted.get(name), known.get(name)
        site = next((row.site for row in (enrolled, theirs, count) if row is not None), "")
        found.append(
            Seen(
                site=site,
                device=name,
                state=_state(enrolled, standing.get(name), theirs is not None),
                first_us=theirs.first_us if theirs else None,
                last_us=theirs.last_us if theirs else None,
                crops=theirs.crops if theirs else 0,
                held=theirs.held if theirs else 0,
                over_rate=count.over_rate if count else 0,
                refused=count.refused if count else 0,
                cameras=tuple((row.camera, row.reason) for row in cameras if row.device == name),
                taken=tuple(
                    (row.camera, f"{row.owner_site}/{row.owner}" if row.owner else "")
                    for row in taken
                    if row.device == name
                ),
            )
        )
    return sorted(found, key=lambda one: (one.site, one.device))


def approve(engine: Engine, names: DeviceTopics, who: str) -> int:
    """Has a device's crops train, those that wait for it too; returns how many envelopes that freed.

    Raises:
        UsageError: It was never enrolled.
        StoreWriteError: It cannot be written.
    """
    with transaction(engine) as connection:
        _check(connection, names)
        _set(connection, names.device, approved_us=_now_us(), approved_by=who[:_WHO_LENGTH])
        cameras = select(envelopes.c.camera).where(envelopes.c.device == names.device).distinct()
        note_cameras(connection, [(names.device, camera) for camera in connection.scalars(cameras)])
        return settle(connection)


def hold(engine: Engine, names: DeviceTopics, camera: str | None, reason: str) -> None:
    """Has crops wait for a person: of one camera, or, from now on, of the device as if it were new.

    Args:
        engine: Of the store.
        names: The device.
        camera: Of it; None for all.
        reason: Why, for people; of a camera.

    Raises:
        UsageError: The device was never enrolled.
        StoreWriteError: It cannot be written.
    """
    with transaction(engine) as connection:
        _check(connection, names)
        if camera is None:
            _set(connection, names.device, approved_us=None, approved_by="")
            return
        theirs = (held_cameras.c.device == names.device) & (held_cameras.c.camera == camera)
        connection.execute(delete(held_cameras).where(theirs))
        row = {"device": names.device, "camera": camera, "since_us": _now_us(), "held_us": _now_us()}
        connection.execute(insert(held_cameras), {**row, "reason": reason})


def release(engine: Engine, names: DeviceTopics, camera: str, *, anew: bool = False) -> int:
    """Has a held camera's crops train; returns how many envelopes that freed.

    Args:
        engine: Of the store.
        names: The device.
        camera: Of it.
        anew: Whether what it sends is to be as ever from now on: it forgets its past. Else the crops that it was held
            for are let by, and later ones are compared as before.

    Raises:
        UsageError: The device was never enrolled, or that camera is not held.
        StoreWriteError: It cannot be written.
    """
    with transaction(engine) as connection:
        _check(connection, names)
        theirs = (held_cameras.c.device == names.device) & (held_cameras.c.camera == camera)
        if not connection.execute(delete(held_cameras).where(theirs)).rowcount:
            raise UsageError(
                f"camera {camera} of {names.site}/{names.device} is not held: walt-loop devices lists them; "
                "a name that is another device's is handed over by: walt-loop devices give"
            )
        values: dict[str, Any] = {"through_us": _now_us()}
        if anew:
            values["past"] = msgspec.json.encode(Past()).decode()
        its_past = (camera_pasts.c.device == names.device) & (camera_pasts.c.camera == camera)
        connection.execute(update(camera_pasts).where(its_past).values(values))
        return settle(connection)


def give(engine: Engine, names: DeviceTopics, camera: str) -> int:
    """Makes a camera's name a device's, as where it replaces another; returns how many envelopes that freed.

    What the device sent under that name and waits trains then, if the device is approved. What the one whose name it
    was has trained stays; what of it waits, and what it sends from now on, waits for good.

    Raises:
        UsageError: The device was never enrolled.
        TopicError: That is no camera's name.
        StoreWriteError: It cannot be written.
    """
    check_name(camera, "camera")
    with transaction(engine) as connection:
        _check(connection, names)
    claim(engine, names.device, camera)
    theirs = (envelopes.c.device == names.device) & (envelopes.c.camera == camera)
    waiting = select(func.count(envelopes.c.held)).where(theirs)
    with transaction(engine) as connection:
        hand_over(connection, names.device, camera, _now_us())
        note_cameras(connection, [(names.device, camera)])
        before = connection.scalar(waiting) or 0
        settle(connection)
        return before - (connection.scalar(waiting) or 0)


def limit(engine: Engine, names: DeviceTopics, messages_an_hour: float | None, bytes_an_hour: float | None) -> None:
    """Sets what a device may send; None is the default.

    Raises:
        UsageError: It was never enrolled, or a limit is below 0.
        StoreWriteError: It cannot be written.
    """
    for value in (messages_an_hour, bytes_an_hour):
        if value is not None and value < 0:
            raise UsageError(f"a limit of {value:g}: give 0 or more")
    with transaction(engine) as connection:
        _check(connection, names)
        _set(connection, names.device, messages_an_hour=messages_an_hour, bytes_an_hour=bytes_an_hour)


def _stored() -> Any:
    row = envelopes.c
    columns = (
        row.device,
        func.min(row.site).label("site"),
        func.min(row.received_us).label("first_us"),
        func.max(row.received_us).label("last_us"),
        func.sum(case((row.kind == Kind.CROP.value, 1), else_=0)).label("crops"),
        func.count(row.held).label("held"),
    )
    return select(*columns).group_by(row.device)


def _taken() -> Any:
    row, owner = envelopes.c, camera_owners.c
    waiting = select(row.device, row.camera).where(row.held == OTHERS_NAME).distinct().subquery()
    query = select(
        waiting.c.device, waiting.c.camera, owner.device.label("owner"), devices.c.site.label("owner_site")
    )
    query = query.outerjoin(camera_owners, owner.camera == waiting.c.camera)
    return query.outerjoin(devices, devices.c.device == owner.device).order_by(waiting.c.camera)


def _state(enrolled: Any, standing: Any, is_stored: bool) -> str:
    if enrolled is None:
        return "open" if is_stored else "unknown"
    if enrolled.revoked_us is not None:
        return "revoked"
    return "approved" if standing is not None and standing.approved_us is not None else "new"


def _check(connection: Connection, names: DeviceTopics) -> None:
    site = connection.scalar(select(devices.c.site).where(devices.c.device == names.device))
    if site != names.site:
        raise UsageError(f"no device {names.site}/{names.device} was enrolled: walt-loop devices lists them")


def _set(connection: Connection, device: str, **values: Any) -> None:
    values["changed_us"] = _now_us()
    if not connection.execute(update(standings).where(standings.c.device == device).values(values)).rowcount:
        row = {"approved_us": None, "approved_by": "", "messages_an_hour": None, "bytes_an_hour": None}
        connection.execute(insert(standings), {"device": device, **row, **values})


def _now_us() -> int:
    return time.time_ns() // 1000
