"""How long things are kept: by age, which is a promise to people, and by bytes, which is a matter of space.

Age holds for everything of a kind, whatever it is good for: what is promised to be gone after 90 days is gone. By
bytes, a camera gives only what it has above its fair share, and each gives first what is missed least (see `Rank`).
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, delete, exists, func, or_, select, true

from walt_edge.contract.messages import Clock
from walt_edge.contract.topics import Kind
from walt_train.loop.labels.tables import drop
from walt_train.loop.lineage.record import chunks, insert_missing
from walt_train.loop.lineage.tables import members, tainted
from walt_train.loop.serve.jobs import State
from walt_train.loop.store.database import transaction
from walt_train.loop.store.horizon import raise_horizon, read_horizons
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes, generations, tombstones

EXPIRED = "expired"
EXPIRED_BY_OUR_CLOCK = "expired by our clock"
_DAY_US = 86_400 * 10**6
_BATCH = 1000
_SET = envelopes.c.clock == Clock.SYNCHRONISED.value


class Rank(enum.IntEnum):
    """What goes first when space is needed, the oldest of each first.

    What may not train yet may never; frames come anew every day; a crop that no running model learned from has had
    its chance; plates are few, and every crop stands before one; what the running model learned from is needed to
    make it again; what was held out is all that can judge, and cannot be had again.
    """

    HELD = 0
    FRAME = 1
    CROP = 2
    PLATE = 3
    LEARNED = 4
    HOLDOUT = 5


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept.

    Attributes:
        days: Most, by kind.
        bytes: Most, by kind; of everything together under None.
    """

    days: Mapping[Kind, float] = field(default_factory=dict)
    bytes: Mapping[Kind | None, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether everything is kept."""
        return not self.days and not self.bytes


@dataclass(slots=True)
class Kept:
    """What became of a pass.

    Attributes:
        aged: How many expired by age, by kind.
        crowded: How many went for space, by camera.
        freed: Bytes.
    """

    aged: dict[str, int] = field(default_factory=dict)
    crowded: dict[str, int] = field(default_factory=dict)
    freed: int = 0

    @property
    def count(self) -> int:
        """How many in all."""
        return sum(self.aged.values()) + sum(self.crowded.values())


@dataclass(frozen=True, slots=True)
class _Row:
    """What may go."""

    id: str
    bytes: int
    is_before: bool
    clock_is_set: bool


Note = Callable[[int], None]


def keep(
    store: Store, policy: Policy, *, do: bool, now_us: int | None = None, note: Note = lambda count: None
) -> Kept:
    """One pass. May be killed at any moment: the next one goes on.

    Args:
        store: The store.
        policy: What is kept.
        do: Whether to do it; else it is told alone.
        now_us: The time.
        note: Is told how many went.

    Raises:
        StoreWriteError: The store cannot be written now.
    """
    now = time.time_ns() // 1000 if now_us is None else now_us
    kept = Kept()
    for kind, days in policy.days.items():
        _by_age(store, kind, now - round(days * _DAY_US), kept, do, note)
    for kind_or_all, limit in policy.bytes.items():
        _by_bytes(store, kind_or_all, limit, kept, do, note)
    if do:
        _trim(store)
    return kept


def _by_age(store: Store, kind: Kind, horizon_us: int, kept: Kept, do: bool, note: Note) -> None:
    before = _SET & (envelopes.c.captured_us < horizon_us)
    # A clock that was ahead, or that nobody had set, does not keep anything longer than our own.
    is_old = (envelopes.c.kind == kind.value) & or_(before, envelopes.c.received_us < horizon_us)
    if not do:
        with store.engine.connect() as connection:
            count, size = connection.execute(
                select(func.count(), func.coalesce(func.sum(envelopes.c.bytes), 0)).where(is_old)
            ).one()
        kept.aged[kind.value] = int(count)
        kept.freed += int(size)
        return
    with transaction(store.engine) as connection:
        # First, so that nothing that goes now can come back by a resend.
        raise_horizon(connection, kind.value, horizon_us)
    columns = (envelopes.c.id, envelopes.c.bytes, before, _SET)
    while rows := _batch(store, select(*columns).where(is_old).order_by(envelopes.c.received_us)):
        kept.aged[kind.value] = kept.aged.get(kind.value, 0) + len(rows)
        _drop(store, rows, kept, note)


def _by_bytes(store: Store, kind: Kind | None, limit: int, kept: Kept, do: bool, note: Note) -> None:
    of_kind = true() if kind is None else envelopes.c.kind == kind.value
    with store.engine.connect() as connection:
        query = select(envelopes.c.camera, func.sum(envelopes.c.bytes)).where(of_kind).group_by(envelopes.c.camera)
        sizes = {camera: int(size) for camera, size in connection.execute(query)}
    share = fair_share(list(sizes.values()), limit)
    for camera, size in sorted(sizes.items()):
        over = size - share
        for row_group in _to_go(store, of_kind & (envelopes.c.camera == camera), over, do):
            kept.crowded[camera] = kept.crowded.get(camera, 0) + len(row_group)
            if do:
                _drop(store, row_group, kept, note)
            else:
                kept.freed += sum(row.bytes for row in row_group)


def fair_share(sizes: Sequence[int], limit: int) -> int:
    """The most bytes that each may have, so that all fit: who has less keeps it and leaves the rest to others."""
    left = limit
    ordered = sorted(sizes)
    for place, size in enumerate(ordered):
        share = left // (len(ordered) - place)
        if size > share:
            return share
        left -= size
    return max(ordered, default=0)


def _to_go(store: Store, where: ColumnElement[bool], over: int, do: bool) -> Iterator[list[_Row]]:
    """Groups of rows, what is missed least first, until as many bytes are found."""
    skipped = 0
    while over > 0:
        columns = (envelopes.c.id, envelopes.c.bytes, envelopes.c.captured_us <= envelopes.c.received_us, _SET)
        query = select(*columns).where(where).order_by(rank(), envelopes.c.received_us, envelopes.c.captured_us)
        # What was dropped is not found again; what is told alone is.
        rows = _batch(store, query.offset(0 if do else skipped))
        group = []
        for row in rows:
            if over <= 0:
                break
            group.append(row)
            over -= row.bytes
        if not group:
            return
        skipped += len(group)
        yield group


def rank() -> ColumnElement[int]:
    """`Rank` of a row."""
    spoilt = exists().where(tainted.c.camera == generations.c.camera, tainted.c.number == generations.c.number)
    newest = (
        select(func.max(generations.c.number))
        .where(generations.c.camera == envelopes.c.camera, generations.c.state == State.DONE.value, ~spoilt)
        .correlate(envelopes)
        .scalar_subquery()
    )
    runs = (
        select(generations.c.clipart_sha256)
        .where(generations.c.camera == envelopes.c.camera, generations.c.number == newest)
        .correlate(envelopes)
        .scalar_subquery()
    )
    learned = exists().where(members.c.crop == envelopes.c.id, members.c.clipart == runs, members.c.role != "left")
    return case(
        (envelopes.c.holdout, int(Rank.HOLDOUT)),
        (envelopes.c.held.is_not(None), int(Rank.HELD)),
        (envelopes.c.kind == Kind.FRAME.value, int(Rank.FRAME)),
        (learned, int(Rank.LEARNED)),
        (envelopes.c.kind == Kind.PLATE.value, int(Rank.PLATE)),
        else_=int(Rank.CROP),
    )


def _batch(store: Store, query: Select[Any]) -> list[_Row]:
    with store.engine.connect() as connection:
        return [
            _Row(sha256, size, bool(a), bool(b)) for sha256, size, a, b in connection.execute(query.limit(_BATCH))
        ]


def _drop(store: Store, rows: Sequence[_Row], kept: Kept, note: Note) -> None:
    """Removes rows and blobs; a tombstone stays of what no horizon speaks for."""
    by_age = read_limits(store)
    with transaction(store.engine) as connection:
        buried = _tombstones(connection, rows, by_age)
        insert_missing(connection, tombstones, buried)
        for chunk in chunks([row.id for row in rows]):
            connection.execute(delete(envelopes).where(envelopes.c.id.in_(chunk)))
            drop(connection, chunk)
    for row in rows:
        store.blobs.delete(row.id)
    kept.freed += sum(row.bytes for row in rows)
    note(len(rows))


def read_limits(store: Store) -> dict[str, int]:
    """Horizons by kind."""
    with store.engine.connect() as connection:
        return read_horizons(connection)


def _tombstones(connection: Connection, rows: Sequence[_Row], limits: Mapping[str, int]) -> list[dict[str, Any]]:
    ids = [row.id for row in rows]
    spoken_for: set[str] = set()
    if limits:
        of_kinds = ((envelopes.c.kind == kind) & (envelopes.c.captured_us < us) for kind, us in limits.items())
        is_before = or_(*of_kinds)
        for chunk in chunks(ids):
            query = select(envelopes.c.id).where(envelopes.c.id.in_(chunk) & _SET & is_before)
            spoken_for |= set(connection.scalars(query))
    now_us = time.time_ns() // 1000
    return [
        {
            "id": row.id,
            "deleted_us": now_us,
            "reason": EXPIRED if row.clock_is_set and row.is_before else EXPIRED_BY_OUR_CLOCK,
        }
        for row in rows
        if row.id not in spoken_for
    ]


def _trim(store: Store) -> None:
    """Removes tombstones that a horizon has come to speak for: what expired before it was captured before it too."""
    limits = read_limits(store)
    if set(limits) != {kind.value for kind in Kind}:
        return
    with transaction(store.engine) as connection:
        past = (tombstones.c.reason == EXPIRED) & (tombstones.c.deleted_us < min(limits.values()))
        connection.execute(delete(tombstones).where(past))
