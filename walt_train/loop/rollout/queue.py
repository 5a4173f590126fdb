"""Who has to wait for whom: a device is in one rollout at a time."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from walt_train.loop.rollout.model import Rollout, State
from walt_train.loop.rollout.tables import rollout_events, rollout_members, rollouts


def blocking(connection: Connection, rollout: Rollout) -> list[int]:
    """Other rollouts that have one of the devices now, or waited for it before."""
    others = rollout_members.alias()
    mine = rollout_members.c
    at_work = rollouts.c.state.in_([State.RUNNING.value, State.PAUSED.value, State.ROLLING_BACK.value])
    before = (rollouts.c.state == State.WAITING.value) & (rollouts.c.id < rollout.id)
    query = (
        select(others.c.rollout)
        .distinct()
        .join(rollout_members, (mine.device == others.c.device) & (mine.site == others.c.site))
        .join(rollouts, rollouts.c.id == others.c.rollout)
        .where(mine.rollout == rollout.id, mine.outside.is_(False), others.c.outside.is_(False))
        .where(others.c.rollout != rollout.id, at_work | before)
    )
    return sorted(connection.scalars(query))


def makes_room(connection: Connection, older: int, newer: Rollout) -> bool:
    """Whether an older rollout ends for a newer one, which is for everybody whom it told.

    It does if its devices did not answer in time, or if the newer is of the same camera's next generation: what had
    to beat the older one need not wait until that is proven.
    """
    row = connection.execute(select(rollouts).where(rollouts.c.id == older)).one()
    has_failed = row.state == State.PAUSED.value and last_event(connection, older) == "patience"
    is_beaten = (
        row.state == State.RUNNING.value and row.camera == newer.camera and 0 < row.generation < newer.generation
    )
    if older > newer.id or not (has_failed or is_beaten):
        return False
    touched = (rollout_members.c.rollout == older) & rollout_members.c.touched_us.is_not(None)
    told = connection.execute(select(rollout_members.c.site, rollout_members.c.device).where(touched)).all()
    mine = (rollout_members.c.rollout == newer.id) & rollout_members.c.outside.is_(False)
    ours = connection.execute(select(rollout_members.c.site, rollout_members.c.device).where(mine)).all()
    return set(map(tuple, told)) <= set(map(tuple, ours))


def last_event(connection: Connection, rollout: int, among: Sequence[str] = ()) -> str:
    """The last thing that happened, or the last among these."""
    query = select(rollout_events.c.what).where(rollout_events.c.rollout == rollout)
    if among:
        query = query.where(rollout_events.c.what.in_(among))
    return connection.scalar(query.order_by(rollout_events.c.number.desc()).limit(1)) or ""
