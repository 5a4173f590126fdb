"""Rejecting crops, and taking that back: what a person has seen to be bad never trains again.

Nothing is deleted: the row of a rejection stands beside the crop, and whatever chooses what trains asks for it.
Models that have learned from a crop already keep what they learned; they are named, so that a person can decide.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, literal, select

from walt_edge.contract.errors import UsageError
from walt_train.loop.labels.choosing import Crops
from walt_train.loop.labels.tables import NAME_LENGTH, not_rejected, rejections
from walt_train.loop.lineage.affected import Affected, affected
from walt_train.loop.lineage.record import chunks, hold
from walt_train.loop.store.database import transaction
from walt_train.loop.store.tables import envelopes

REASON_LENGTH = 500
AT_ONCE = 100_000
"""Of a choice, at most: nobody else writes to SQLite meanwhile."""
_NAMED_MOST = 5000
"""Of so many crops, at most, it is looked up who learned from them."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """What became of it.

    Attributes:
        count: Crops that were not rejected before.
        at_us: Names this act, together with who did it: `undo_act` takes all of it back.
        learned: Generations that the crops were frozen for, which a rejection cannot change.
        more: Whether more is meant than can be rejected at once.
    """

    count: int
    at_us: int
    learned: tuple[Affected, ...] = ()
    more: bool = False


def reject(engine: Engine, ids: Sequence[str], by: str, reason: str) -> Rejected:
    """Rejects crops; ids that are no stored crop's, or rejected already, change nothing.

    Raises:
        UsageError: The name or the reason is too long.
        StoreWriteError: It cannot be written now.
    """
    _check(by, reason)
    wanted = sorted(set(ids))
    with transaction(engine) as connection:
        hold(connection)
        at_us = _own_moment(connection, by, _now_us())
        for chunk in chunks(wanted):
            _insert(connection, envelopes.c.id.in_(chunk) & envelopes.c.label.is_not(None), by, reason, at_us)
        count = _count(connection, by, at_us)
        learned = affected(connection, wanted[:_NAMED_MOST])
    return Rejected(count, at_us, tuple(learned))


def reject_all(engine: Engine, crops: Crops, by: str, reason: str) -> Rejected:
    """Rejects what a choice means, at most `AT_ONCE`: a track, an hour, a camera between two times.

    Raises:
        UsageError: The choice is too wide to be meant, or a name is too long.
        StoreWriteError: It cannot be written now.
    """
    _check(by, reason)
    if not crops.is_bounded:
        raise UsageError("that would reject crops of all times: choose a track, or a camera and two times")
    with transaction(engine) as connection:
        hold(connection)
        at_us = _own_moment(connection, by, _now_us())
        _insert(connection, crops.where(), by, reason, at_us)
        count = _count(connection, by, at_us)
        ids = list(connection.scalars(select(rejections.c.crop).where(_act(by, at_us)).limit(_NAMED_MOST)))
        learned = affected(connection, ids)
    return Rejected(count, at_us, tuple(learned), more=count == AT_ONCE)


def undo(engine: Engine, ids: Sequence[str]) -> int:
    """Has rejected crops train again; returns how many were rejected. Raises StoreWriteError."""
    count = 0
    with transaction(engine) as connection:
        for chunk in chunks(sorted(set(ids))):
            count += connection.execute(delete(rejections).where(rejections.c.crop.in_(chunk))).rowcount
    return count


def undo_act(engine: Engine, by: str, at_us: int) -> int:
    """Takes one act back, however many crops it rejected; returns how many. Raises StoreWriteError."""
    with transaction(engine) as connection:
        return connection.execute(delete(rejections).where(_act(by, at_us))).rowcount


def learned_from(connection: Connection, ids: Sequence[str]) -> list[Affected]:
    """The generations that some crops were frozen for."""
    return affected(connection, ids[:_NAMED_MOST])


def _insert(connection: Connection, where: ColumnElement[bool], by: str, reason: str, at_us: int) -> None:
    """Rejects what is meant; what is rejected already keeps who did it first."""
    fresh = select(envelopes.c.id, literal(by), literal(at_us), literal(reason)).where(where, not_rejected())
    rows = fresh.order_by(envelopes.c.id).limit(AT_ONCE)
    connection.execute(insert(rejections).from_select(["crop", "by", "at_us", "reason"], rows))


def _act(by: str, at_us: int) -> ColumnElement[bool]:
    return (rejections.c.at_us == at_us) & (rejections.c.by == by)


def _count(connection: Connection, by: str, at_us: int) -> int:
    """How many an act rejected: not every driver tells."""
    return int(connection.scalar(select(func.count()).select_from(rejections).where(_act(by, at_us))) or 0)


def _own_moment(connection: Connection, by: str, at_us: int) -> int:
    """A moment that no other act of the same person has."""
    query = select(func.max(rejections.c.at_us)).where(rejections.c.by == by, rejections.c.at_us >= at_us)
    newest = connection.scalar(query)
    return at_us if newest is None else int(newest) + 1


def _check(by: str, reason: str) -> None:
    if not 0 < len(by) <= NAME_LENGTH or len(reason) > REASON_LENGTH:
        raise UsageError(
            f"a name of {len(by)} and a reason of {len(reason)} characters: "
            f"give 1 to {NAME_LENGTH}, and at most {REASON_LENGTH}"
        )


def _now_us() -> int:
    return time.time_ns() // 1000
