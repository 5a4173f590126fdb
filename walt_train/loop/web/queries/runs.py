"""Generations as people look at them: lists by cursor, one with its steps, lineage and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, and_, func, or_, select, tuple_

from walt_train.loop.lineage.graph import taints
from walt_train.loop.lineage.tables import members
from walt_train.loop.serve.jobs import ENDED, Generation, State, StepName
from walt_train.loop.store.tables import envelopes, generations, steps

PAGE: Final = 50
Cursor = tuple[int, str, int]
"""created_us, camera and number of the last one of a page."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate said of a generation, as a chart needs it.

    Attributes:
        camera: Its camera.
        number: Its number.
        decision: `passed`, `refused` or `unjudged`.
        line: The same for people.
        candidate: Mask IoU x 100 of the candidate; None where it was not judged.
        baseline: Of what it had to beat.
        against: What that was.
        points: How much better it is.
        interval: Paired 95 % interval of `points`.
        ended_us: When it was judged.
    """

    camera: str
    number: int
    decision: str
    line: str
    candidate: float | None
    baseline: float | None
    against: str
    points: float | None
    interval: tuple[float, float] | None
    ended_us: int


@dataclass(frozen=True, slots=True)
class Sources:
    """What a generation learned from: how many by role, and some that can be shown."""

    roles: Mapping[str, int]
    shown: tuple[str, ...]
    forgotten: int


def listed(
    engine: Engine, *, camera: str = "", state: str = "", before: Cursor | None = None, limit: int = PAGE
) -> list[Generation]:
    """Generations, the newest first, at most `limit` that come after `before`."""
    table = generations.c
    query = select(generations).order_by(table.created_us.desc(), table.camera.desc(), table.number.desc())
    if camera:
        query = query.where(table.camera == camera)
    if state:
        query = query.where(table.state == state)
    if before is not None:
        query = query.where(_is_before(before))
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(query.limit(limit)).mappings()]
        return _with_steps(connection, rows)


def one(engine: Engine, camera: str, number: int) -> Generation | None:
    """A generation, if there is one of that number."""
    table = generations.c
    query = select(generations).where(table.camera == camera, table.number == number)
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
        return next(iter(_with_steps(connection, rows)), None)


def cursor_of(last: Generation) -> str:
    """What asks for the page after one that ends with this."""
    return f"{last.created_us}.{last.number}.{last.camera}"


def parse_cursor(text: str) -> Cursor | None:
    """Reads that back; None: there is no such page, so it is the first."""
    created_us, _, rest = text.partition(".")
    number, _, camera = rest.partition(".")
    if not (created_us.isascii() and created_us.isdecimal() and number.isascii() and number.isdecimal()):
        return None
    is_small = len(created_us) < 19 and len(number) < 10
    return (int(created_us), camera, int(number)) if is_small else None


def counts(engine: Engine) -> dict[str, int]:
    """How many there are by state."""
    query = select(generations.c.state, func.count()).group_by(generations.c.state)
    with engine.connect() as connection:
        return {state: int(count) for state, count in connection.execute(query)}


def judged(engine: Engine, camera: str, limit: int = 60) -> list[Judged]:
    """A camera's verdicts, the oldest of the newest `limit` first."""
    table = steps.c
    query = (
        select(table.camera, table.number, table.result, table.ended_us)
        .where(table.camera == camera, table.name == StepName.JUDGE.value, table.state == State.DONE.value)
        .order_by(table.number.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    return [judged_from(row.camera, row.number, _result(row.result), row.ended_us) for row in reversed(rows)]


def judged_from(camera: str, number: int, told: Mapping[str, Any], ended_us: int | None) -> Judged:
    """Reads a verdict as the table keeps it; one of another version shows what is understood of it."""
    interval = told.get("interval")
    return Judged(
        camera=camera,
        number=number,
        decision=str(told.get("decision", "")),
        line=str(told.get("line", "")),
        candidate=_number(told.get("candidate")),
        baseline=_number(told.get("baseline")),
        against=str(told.get("against", "")),
        points=_number(told.get("points")),
        interval=(float(interval[0]), float(interval[1])) if interval else None,
        ended_us=ended_us or 0,
    )


def newest_release(engine: Engine, camera: str) -> int:
    """The newest release that a camera's trainings have made; 0: none."""
    table = steps.c
    query = (
        select(table.result)
        .where(table.camera == camera, table.name == StepName.PUBLISH.value, table.state == State.DONE.value)
        .order_by(table.number.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        found = connection.scalar(query)
    release = _result(found).get("release") if found else None
    return release if isinstance(release, int) else 0


def sources(engine: Engine, generation: Generation, shown: int = 24) -> Sources:
    """What a generation learned from, by its frozen clip art."""
    clipart = generation.clipart_sha256
    counted = select(members.c.role, func.count()).where(members.c.clipart == clipart).group_by(members.c.role)
    crops = (
        select(members.c.crop)
        .join(envelopes, envelopes.c.id == members.c.crop)
        .where(members.c.clipart == clipart, members.c.role.in_(("clip", "train")))
        .order_by(members.c.crop)
        .limit(shown)
    )
    with engine.connect() as connection:
        forgotten = taints(connection).get((generation.camera, generation.number), 0)
        if not clipart:
            return Sources({}, (), forgotten)
        roles = {role: int(count) for role, count in connection.execute(counted)}
        return Sources(roles, tuple(connection.scalars(crops)), forgotten)


def is_open(generation: Generation) -> bool:
    """Whether something of it is still to be done."""
    return generation.state not in ENDED


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _is_before(cursor: Cursor) -> Any:
    table, (created_us, camera, number) = generations.c, cursor
    same = table.created_us == created_us
    return or_(
        table.created_us < created_us,
        and_(same, table.camera < camera),
        and_(same, table.camera == camera, table.number < number),
    )


def _with_steps(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[Generation]:
    if not rows:
        return []
    parts: dict[tuple[str, int], list[dict[str, Any]]] = {(row["camera"], row["number"]): [] for row in rows}
    cameras, numbers = zip(*parts, strict=True)
    # The pairs are what is meant, and many more lie between; SQLite finds them by the first two conditions alone.
    query = (
        select(steps)
        .where(steps.c.camera.in_(set(cameras)), steps.c.number.between(min(numbers), max(numbers)))
        .where(tuple_(steps.c.camera, steps.c.number).in_(list(parts)))
        .order_by(steps.c.camera, steps.c.number, steps.c.place)
    )
    for part in connection.execute(query).mappings():
        found = {str(name): value for name, value in part.items()} | {"result": _result(part["result"])}
        parts[part["camera"], part["number"]].append(found)
    return [
        msgspec.convert({**_plain(row), "steps": parts[row["camera"], row["number"]]}, Generation) for row in rows
    ]


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    # A column's name is a kind of str of SQLAlchemy's own.
    return {str(name): value for name, value in row.items()}


def _result(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])
