"""Looks at the cameras in turn and knows which of them gains most by another generation.

A look reads one camera's crops. How soon the next one comes depends on what looks cost, so that two thousand cameras
take a small share of one processor and a single one is looked at all the time; where no crop came or went, a look
is one step in an index until a quarter of an hour is over. What a camera waits for is written down now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Engine, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from walt_train.loop.serve.triggers.reading import begun_since, cameras_of, open_cameras, read_facts, stamp_of
from walt_train.loop.serve.triggers.rules import Facts, Readiness, Rules, judge
from walt_train.loop.serve.triggers.tables import waits
from walt_train.loop.store.database import transaction

_SECOND: Final = 1_000_000
_DAY_US: Final = 86_400 * _SECOND
_SHARE: Final = 0.05
"""Of one processor, that looking may take."""
_FULL_S: Final = 900.0
_WRITE_EVERY_S: Final = 30.0
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Wait:
    """What a camera waits for.

    Attributes:
        camera: Its name.
        looked_us: When somebody looked, home's clock.
        is_ready: Whether it would begin, were it its turn.
        gain: How much it would gain; of those that are ready the greatest is first.
        line: For people.
    """

    camera: str
    looked_us: int
    is_ready: bool
    gain: float
    line: str


@dataclass(slots=True)
class _Seen:
    """What the last look at a camera found."""

    stamp: tuple[int, int]
    facts: Facts
    full_s: float
    found: Readiness
    written: str = ""


@dataclass(slots=True)
class Lookout:
    """One worker's; it holds nothing that is not in the tables.

    Args:
        engine: The store's database.
        rules: When generations are begun.
        clock: Home's, microseconds UTC.
        clock_s: A steady one, seconds.
    """

    engine: Engine
    rules: Rules
    clock: Callable[[], int]
    clock_s: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _due_s: float = 0.0
    _write_s: float = 0.0

    def look(self) -> dict[str, Readiness]:
        """Looks again where it is time; what is known of every camera that has no generation at work.

        Raises:
            StoreWriteError: What cameras wait for cannot be written.
        """
        began_s = self.clock_s()
        if began_s < self._due_s:
            return self._judged()
        with self.engine.connect() as connection:
            busy = open_cameras(connection)
            names = [name for name in cameras_of(connection) if name not in busy]
            for name in names:
                self._look_at(connection, name, began_s)
        for gone in self._seen.keys() - set(names):
            del self._seen[gone]
        now_s = self.clock_s()
        self._due_s = now_s + (now_s - began_s) / _SHARE
        found = self._judged()
        if now_s >= self._write_s:
            self._write(busy)
            self._write_s = now_s + _WRITE_EVERY_S
        return found

    def best(self) -> list[str]:
        """The cameras that are ready, the one that gains most first; none while the fleet's budget is used up."""
        ready = [(found.gain, name) for name, found in self.look().items() if found.is_ready]
        if not ready or self._is_spent():
            return []
        return [name for _, name in sorted(ready, key=lambda one: (-one[0], one[1]))]

    def forget(self, camera: str) -> None:
        """Has a camera looked at anew the next time, which is at once."""
        self._seen.pop(camera, None)
        self._due_s = 0.0

    def readiness(self, camera: str) -> Readiness:
        """Of one camera, looked at now."""
        now_us = self.clock()
        with self.engine.connect() as connection:
            return judge(read_facts(connection, camera, now_us), self.rules, now_us)

    def _look_at(self, connection: Connection, camera: str, now_s: float) -> None:
        stamp = stamp_of(connection, camera)
        seen = self._seen.get(camera)
        if seen is not None and seen.stamp == stamp and now_s < seen.full_s:
            return
        facts = read_facts(connection, camera, self.clock())
        written = seen.written if seen is not None else ""
        self._seen[camera] = _Seen(stamp, facts, now_s + _FULL_S, Readiness("", ""), written)

    def _judged(self) -> dict[str, Readiness]:
        now_us = self.clock()
        for seen in self._seen.values():
            seen.found = judge(seen.facts, self.rules, now_us)
        return {name: seen.found for name, seen in self._seen.items()}

    def _is_spent(self) -> bool:
        if self.rules.a_day is None:
            return False
        with self.engine.connect() as connection:
            return begun_since(connection, self.clock() - _DAY_US) >= self.rules.a_day

    def _write(self, busy: set[str]) -> None:
        """Writes what cameras wait for, where it has changed."""
        lines = {name: self._line(seen.found) for name, seen in self._seen.items()}
        changed = [name for name, line in lines.items() if self._seen[name].written != line]
        rows = [
            {"camera": name, "looked_us": self.clock(), "line": lines[name]}
            | {"is_ready": self._seen[name].found.is_ready, "gain": self._seen[name].found.gain}
            for name in changed
        ]
        with self.engine.connect() as connection:
            held = set(connection.scalars(select(waits.c.camera)))
        gone = sorted(held - self._seen.keys())
        if not rows and not gone:
            return
        with transaction(self.engine) as connection:
            for start in range(0, len(gone), _CHUNK):
                connection.execute(delete(waits).where(waits.c.camera.in_(gone[start : start + _CHUNK])))
            _upsert(connection, sorted(rows, key=lambda row: str(row["camera"])))
        for name in changed:
            self._seen[name].written = lines[name]

    def _line(self, found: Readiness) -> str:
        if found.is_ready and self.rules.a_day is not None:
            return f"{found.line}; waits for its turn, the fleet begins {self.rules.a_day} a day"
        return found.line


def waiting(engine: Engine) -> list[Wait]:
    """What cameras wait for, as somebody wrote it last; those that are ready first, then by what they gain."""
    query = select(waits).order_by(waits.c.is_ready.desc(), waits.c.gain.desc(), waits.c.camera)
    with engine.connect() as connection:
        return [Wait(**row) for row in connection.execute(query).mappings()]


def _upsert(connection: Connection, rows: list[dict[str, object]]) -> None:
    if not rows:
        return
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = make(waits)
    new = {name: statement.excluded[name] for name in ("looked_us", "is_ready", "gain", "line")}
    connection.execute(statement.on_conflict_do_update(index_elements=["camera"], set_=new), rows)
