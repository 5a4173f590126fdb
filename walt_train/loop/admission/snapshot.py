"""What the database says of devices, read as a whole and only when something in it has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, case, func, select, update

from walt_train.loop.admission.policy import CAMERA_HELD, NEW_DEVICE, OTHERS_NAME, Standing, held_text
from walt_train.loop.admission.rates import Limits
from walt_train.loop.admission.tables import camera_owners, held_cameras, standings
from walt_train.loop.identity.tables import devices
from walt_train.loop.store.tables import envelopes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The devices that count, by their ids, at one version of the tables."""

    version: tuple[Any, ...] = ()
    devices: Mapping[str, Standing] = field(default_factory=dict)


def version_of(connection: Connection) -> tuple[Any, ...]:
    """Changes whenever a device is enrolled, revoked, approved or limited, or a camera held, released or given away.

    Not when a camera's name is taken: whoever meets that name finds out.
    """
    return tuple(connection.execute(_VERSION).one())


def read_snapshot(connection: Connection) -> Snapshot:
    """Reads all of it."""
    version = version_of(connection)
    held: dict[str, dict[str, str]] = defaultdict(dict)
    for row in connection.execute(select(held_cameras)):
        held[row.device][row.camera] = row.reason
    known = {row.device: row for row in connection.execute(select(standings))}
    found = {}
    for row in connection.execute(select(devices.c.device, devices.c.site, devices.c.revoked_us)):
        standing = known.get(row.device)
        found[row.device] = Standing(
            site=row.site,
            is_revoked=row.revoked_us is not None,
            is_approved=standing is not None and standing.approved_us is not None,
            limits=_limits(standing),
            held=held.get(row.device, {}),
        )
    return Snapshot(version, found)


def settle(connection: Connection) -> int:
    """Brings stored envelopes in line with who is approved and what is held; returns how many changed.

    Those that changed because of whose a camera's name is do not count. A worker that has not heard yet of an
    approval stores a last crop as held; whoever hears of it puts that right.
    """
    _settle_names(connection)
    approved = select(standings.c.device).where(standings.c.approved_us.is_not(None))
    is_new = (envelopes.c.held == NEW_DEVICE) & envelopes.c.device.in_(approved)
    changed = connection.execute(update(envelopes).where(is_new).values(held=None)).rowcount
    held = select(held_cameras.c.device).where(
        held_cameras.c.device == envelopes.c.device, held_cameras.c.camera == envelopes.c.camera
    )
    is_released = envelopes.c.held.startswith(CAMERA_HELD) & ~held.exists()
    changed += connection.execute(update(envelopes).where(is_released).values(held=None)).rowcount
    for row in connection.execute(select(held_cameras)).all():
        theirs = (envelopes.c.device == row.device) & (envelopes.c.camera == row.camera) & envelopes.c.held.is_(None)
        since = update(envelopes).where(theirs, envelopes.c.received_us >= row.since_us)
        changed += connection.execute(since.values(held=held_text(row.reason))).rowcount
    return changed


def _settle_names(connection: Connection) -> None:
    """What came under a name that was given away waits; what waits for a name that is its own by now, does not.

    Whose name it was keeps what trained before: it was its own then.
    """
    row, owner = envelopes.c, camera_owners.c
    for given in connection.execute(select(camera_owners).where(owner.given_us.is_not(None))).all():
        theirs = (row.device == given.was) & (row.camera == given.camera)
        waits = row.held.is_not(None) & (row.held != OTHERS_NAME)
        is_late = row.held.is_(None) & (row.received_us >= given.given_us)
        connection.execute(update(envelopes).where(theirs, waits | is_late).values(held=OTHERS_NAME))
    owned = select(owner.camera).where(owner.camera == row.camera, owner.device == row.device)
    approved = select(standings.c.device).where(standings.c.approved_us.is_not(None))
    becomes = case((row.device.in_(approved), None), else_=NEW_DEVICE)
    connection.execute(update(envelopes).where(row.held == OTHERS_NAME, owned.exists()).values(held=becomes))


def _limits(standing: Any) -> Limits:
    default = Limits()
    if standing is None:
        return default
    return Limits(
        messages_an_hour=_or(standing.messages_an_hour, default.messages_an_hour),
        bytes_an_hour=_or(standing.bytes_an_hour, default.bytes_an_hour),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)


def _version() -> Select[Any]:
    parts = (
        select(func.max(devices.c.enrolled_us)),
        select(func.max(devices.c.revoked_us)),
        select(func.count(devices.c.revoked_us)),
        select(func.count()).select_from(devices),
        select(func.max(standings.c.changed_us)),
        select(func.max(held_cameras.c.held_us)),
        select(func.count()).select_from(held_cameras),
        select(func.max(camera_owners.c.given_us)),
    )
    return select(*(part.scalar_subquery() for part in parts))


_VERSION = _version()
