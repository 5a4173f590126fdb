"""Writing down what was made of what. Everything may be written again and changes nothing then.

Each function takes the connection of an open transaction: what a step gave and where it came from are one commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.labels.tables import rejections
from walt_train.loop.lineage.tables import artifacts, edges, members, wishes
from walt_train.loop.store.tables import tombstones

_Item = TypeVar("_Item")
_LOCK = 0x57414C54
CHUNK = 500
"""Rows in a statement: SQLite takes 32,766 values at a time."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that was made.

    Attributes:
        id: The sha256 of its bytes, or `run:CAMERA/N`, or `release:N`.
        kind: `clipart`, `run`, `manifest`, `checkpoint`, `bundle` or `release`.
        name: How people call it.
        camera: Whose it is.
        place: Below the home folder; "" of what is no file.
        created_us: When.
    """

    id: str
    kind: str
    name: str
    camera: str
    place: str
    created_us: int


def run_id(camera: str, number: int) -> str:
    """The id of a generation."""
    return f"run:{camera}/{number}"


def release_id(number: int) -> str:
    """The id of a release."""
    return f"release:{number}"


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts the rows whose key is not there yet."""
    make = insert_postgresql if connection.dialect.name == "postgresql" else insert_sqlite
    for chunk in chunks(rows):
        connection.execute(make(table).on_conflict_do_nothing(), [dict(row) for row in chunk])


def chunks(items: Sequence[_Item], size: int = CHUNK) -> Iterable[Sequence[_Item]]:
    """Slices of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def hold(connection: Connection) -> None:
    """Lets one transaction at a time pass, on SQLite and PostgreSQL alike: freezing crops, and forgetting them.

    Whoever freezes crops looks for tombstones; whoever writes tombstones looks for frozen crops. Without this, on
    PostgreSQL, both could look before either has written.
    """
    # SQLite has one writer at a time as it is.
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def note(connection: Connection, made: Artifact, made_of: Iterable[str] = ()) -> None:
    """Writes an artifact and what it was made of."""
    row = {name: getattr(made, name) for name in Artifact.__slots__}
    insert_missing(connection, artifacts, [row])
    insert_missing(connection, edges, [{"child": made.id, "parent": parent} for parent in sorted(set(made_of))])


def note_members(connection: Connection, clipart: str, roles: Mapping[str, str]) -> None:
    """Writes what each crop and plate of a clip art is there for; a role that is known better now is corrected."""
    query = select(members.c.crop, members.c.role).where(members.c.clipart == clipart)
    known: dict[str, str] = dict(iter(connection.execute(query)))
    fresh = [{"clipart": clipart, "crop": crop, "role": role} for crop, role in roles.items() if crop not in known]
    insert_missing(connection, members, fresh)
    changed: dict[str, list[str]] = {}
    for crop, role in roles.items():
        if known.get(crop, role) != role:
            changed.setdefault(role, []).append(crop)
    for role, crops in changed.items():
        for chunk in chunks(crops):
            mine = (members.c.clipart == clipart) & members.c.crop.in_(chunk)
            connection.execute(update(members).where(mine).values(role=role))


def note_wishes(connection: Connection, release: int, devices: Iterable[DeviceTopics], told_us: int) -> None:
    """Writes whom a release was wished onto."""
    rows = [
        {"release": release, "device": one.device, "site": one.site, "told_us": told_us}
        for one in sorted(devices, key=lambda one: (one.site, one.device))
    ]
    insert_missing(connection, wishes, rows)


def buried(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of the ids that may not be in what is frozen: deleted ones, and such as people rejected."""
    found: set[str] = set()
    for chunk in chunks(ids):
        found |= set(connection.scalars(select(rejections.c.crop).where(rejections.c.crop.in_(chunk))))
        found |= set(connection.scalars(select(tombstones.c.id).where(tombstones.c.id.in_(chunk))))
    return found
