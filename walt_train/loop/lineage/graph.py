"""Reading back what was made of what: functions of a connection that change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, select

from walt_train.loop.lineage.record import Artifact, chunks
from walt_train.loop.lineage.tables import artifacts, edges, members, tainted, wishes
from walt_train.loop.store.tables import envelopes, tombstones

LEARNED_ROLES = ("clip", "train", "validate")
"""Of a clip whose role is not known better, a model is believed to have learned."""
_DAY_US = 86_400 * 10**6


@dataclass(frozen=True, slots=True)
class Crop:
    """An envelope, as far as it is known.

    Attributes:
        id: Its sha256.
        kind: `crop`, `plate` or `frame`; "" once it is gone.
        camera: Its camera, or "".
        device: SITE/DEVICE, or "".
        captured_us: When it was captured, or 0.
        fate: `stored`, `deleted: WHY`, or `gone`.
    """

    id: str
    kind: str
    camera: str
    device: str
    captured_us: int
    fate: str


@dataclass(frozen=True, slots=True)
class Runs:
    """Where a release was sent."""

    release: int
    device: str
    told_us: int
    is_newest: bool


def find(connection: Connection, prefix: str) -> dict[str, str]:
    """Everything whose id begins with these hexadecimal digits: kinds by id, 20 at most."""
    found: dict[str, str] = {}
    for column, kind in (
        (envelopes.c.id, envelopes.c.kind),
        (members.c.crop, None),
        (tombstones.c.id, None),
        (artifacts.c.id, artifacts.c.kind),
    ):
        # As a range, so that an index finds them: no hexadecimal digit comes after "f".
        begins = (column >= prefix) & (column < f"{prefix}g")
        query = select(column, *([] if kind is None else [kind])).where(begins).distinct().limit(20)
        for row in connection.execute(query):
            found.setdefault(row[0], row[1] if kind is not None else "crop")
    return dict(sorted(found.items())[:20])


def artifact(connection: Connection, key: str) -> Artifact | None:
    """The artifact of that id."""
    row = connection.execute(select(artifacts).where(artifacts.c.id == key)).mappings().first()
    return None if row is None else Artifact(**{str(name): value for name, value in row.items()})


def parents(connection: Connection, key: str) -> list[str]:
    """What it was made of."""
    return sorted(connection.scalars(select(edges.c.parent).where(edges.c.child == key)))


def children(connection: Connection, key: str) -> list[str]:
    """What was made of it."""
    return sorted(connection.scalars(select(edges.c.child).where(edges.c.parent == key)))


def descendants(connection: Connection, keys: Iterable[str]) -> set[str]:
    """Everything that was made of these, of what was made of them, and so on; without themselves."""
    found: set[str] = set()
    fresh = set(keys)
    while fresh:
        made: set[str] = set()
        for chunk in chunks(sorted(fresh)):
            made |= set(connection.scalars(select(edges.c.child).where(edges.c.parent.in_(chunk))))
        fresh = made - found
        found |= made
    return found


def crop(connection: Connection, sha256: str) -> Crop:
    """What is known of an envelope."""
    row = connection.execute(select(envelopes).where(envelopes.c.id == sha256)).mappings().first()
    if row is not None:
        return Crop(
            sha256, row["kind"], row["camera"], f"{row['site']}/{row['device']}", row["captured_us"], "stored"
        )
    reason = connection.scalar(select(tombstones.c.reason).where(tombstones.c.id == sha256))
    return Crop(sha256, "", "", "", 0, "gone" if reason is None else f"deleted: {reason}")


def frozen_in(connection: Connection, sha256: str) -> list[tuple[str, str]]:
    """(clip art, role) of every clip art that an envelope is in."""
    query = select(members.c.clipart, members.c.role).where(members.c.crop == sha256).order_by(members.c.clipart)
    return [(clipart, role) for clipart, role in connection.execute(query)]


def frozen_of(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Roles by id, by clip art, of every clip art that one of the ids is in."""
    found: dict[str, dict[str, str]] = {}
    for chunk in chunks(ids):
        query = select(members.c.clipart, members.c.crop, members.c.role).where(members.c.crop.in_(chunk))
        for clipart, sha256, role in connection.execute(query):
            found.setdefault(clipart, {})[sha256] = role
    return found


def roles(connection: Connection, clipart: str) -> dict[str, list[str]]:
    """Ids in a clip art by role, sorted."""
    query = select(members.c.role, members.c.crop).where(members.c.clipart == clipart).order_by(members.c.crop)
    found: dict[str, list[str]] = {}
    for role, sha256 in connection.execute(query):
        found.setdefault(role, []).append(sha256)
    return found


def days(connection: Connection, clipart: str) -> dict[str, dict[str, dict[str, int]]]:
    """How many there are by role, camera and day; `gone` is the camera of what is not stored any more."""
    day = (envelopes.c.captured_us // _DAY_US).label("day")
    query = (
        select(members.c.role, envelopes.c.camera, day, func.count())
        .select_from(members.outerjoin(envelopes, members.c.crop == envelopes.c.id))
        .where(members.c.clipart == clipart)
        .group_by(members.c.role, envelopes.c.camera, day)
    )
    found: dict[str, dict[str, dict[str, int]]] = {}
    for role, camera, number, count in connection.execute(query):
        told = "-" if number is None else f"{datetime.fromtimestamp(int(number) * 86_400, tz=UTC):%Y-%m-%d}"
        found.setdefault(role, {}).setdefault(camera or "gone", {})[told] = count
    return found


def runs(connection: Connection, release: int | None = None) -> list[Runs]:
    """Whom releases were wished onto, and whether that is the newest that the device was told."""
    newest = select(wishes.c.device, func.max(wishes.c.release).label("newest")).group_by(wishes.c.device)
    last = newest.subquery()
    query = select(wishes, last.c.newest).join(last, wishes.c.device == last.c.device)
    if release is not None:
        query = query.where(wishes.c.release == release)
    rows: Sequence[Any] = connection.execute(query.order_by(wishes.c.site, wishes.c.device)).all()
    return [Runs(row.release, f"{row.site}/{row.device}", row.told_us, row.release == row.newest) for row in rows]


def taints(connection: Connection) -> dict[tuple[str, int], int]:
    """How many forgotten crops a generation learned from, by camera and number."""
    query = select(tainted.c.camera, tainted.c.number, tainted.c.crops)
    return {(camera, number): crops for camera, number, crops in connection.execute(query)}
