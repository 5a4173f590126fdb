"""Letting one training that failed go on where it failed."""

from __future__ import annotations

from sqlalchemy import Engine, select, update

from walt_edge.contract.errors import WaltError
from walt_train.loop.serve.jobs import ENDED, State
from walt_train.loop.store.database import transaction
from walt_train.loop.store.tables import generations, steps


class RetryError(WaltError):
    """It cannot go on; the text says why, and what to do."""


def retry(engine: Engine, camera: str, number: int) -> None:
    """Opens a failed generation again; a worker takes it up as any other.

    Raises:
        RetryError: It did not fail, or a later one of its camera has taken its place.
        StoreWriteError: The database cannot be written now.
    """
    table, title = generations.c, f"{camera} generation {number}"
    mine = (table.camera == camera) & (table.number == number) & (table.state == State.FAILED.value)
    with transaction(engine) as connection:
        newest = connection.execute(
            select(table.number, table.state).where(table.camera == camera).order_by(table.number.desc()).limit(1)
        ).first()
        if newest is not None and newest.number != number:
            after = "wait for it" if newest.state not in ENDED else "look at that one"
            raise RetryError(f"{title}: generation {newest.number} has come after it, {after}")
        fresh = {"state": State.PENDING, "reason": "", "ended_us": None, "due_us": 0}
        if not connection.execute(update(generations).where(mine).values(fresh)).rowcount:
            raise RetryError(f"{title} has not failed: there is nothing to be tried again")
        values = {"state": State.PENDING, "failures": 0, "ended_us": None}
        where = (steps.c.camera == camera) & (steps.c.number == number) & (steps.c.state == State.FAILED.value)
        connection.execute(update(steps).where(where).values(values))
