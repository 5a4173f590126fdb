"""What a camera waits for until its next generation, as the one who trains wrote it last."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, select

from walt_train.loop.serve.jobs import ENDED, Generation
from walt_train.loop.serve.triggers.tables import waits as table


@dataclass(frozen=True, slots=True)
class Waits:
    """One line, and when somebody looked; 0: nobody has."""

    line: str
    looked_us: int
    is_ready: bool


def waits(engine: Engine, camera: str, last: Generation | None) -> Waits:
    """What the camera waits for; `last` is its newest generation."""
    if last is not None and last.state not in ENDED:
        return Waits(f"generation {last.number} is at work", last.created_us, True)
    with engine.connect() as connection:
        row = connection.execute(select(table).where(table.c.camera == camera)).first()
    if row is None:
        return Waits("nobody has looked yet: walt-loop serve trains, and says here what it waits for", 0, False)
    return Waits(row.line, row.looked_us, bool(row.is_ready))
