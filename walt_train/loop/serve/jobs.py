"""The table of jobs: generations and their steps, leased to one worker at a time.

Every change is one transaction that holds only while the worker's lease does, so that a worker that was thought dead
and comes back changes nothing. A worker that died leaves a lease that runs out; whoever takes it begins the step that
was running again, and every step can be begun again.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Table, and_, func, insert, select, true, update
from sqlalchemy.exc import IntegrityError

from walt_edge.contract.errors import WaltError
from walt_train.loop.lineage.graph import taints
from walt_train.loop.lineage.made import Record
from walt_train.loop.serve.generation import ENDED as ENDED
from walt_train.loop.serve.generation import OPEN as OPEN
from walt_train.loop.serve.generation import Generation as Generation
from walt_train.loop.serve.generation import Order as Order
from walt_train.loop.serve.generation import State as State
from walt_train.loop.serve.generation import Step as Step
from walt_train.loop.serve.generation import StepName as StepName
from walt_train.loop.serve.triggers.tables import harvests
from walt_train.loop.store.database import transaction
from walt_train.loop.store.tables import generations, steps

_DAY_US = 86_400_000_000
_BUDGET_LOCK = 0x57414C55
_NO_FIELDS: Mapping[str, object] = {}
Clock = Callable[[], int]
"""Microseconds since 1970-01-01 UTC."""


def _nothing(connection: Connection) -> None:
    """Where a step came from is not told."""


class LeaseLostError(WaltError):
    """Another worker has taken the generation: what we do for it must not count."""


def worker_name() -> str:
    """A name that no other worker has, and that tells where to look for it."""
    return f"{socket.gethostname()[:60]}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def now_us() -> int:
    """The wall clock."""
    return time.time_ns() // 1000


class Jobs:
    """The table, as one worker sees it; any number of workers share it.

    Args:
        engine: The store's database.
        owner: The worker's name, unique.
        lease_s: How long a worker that gives no sign is believed to live, seconds.
        clock: The wall clock.
    """

    def __init__(self, engine: Engine, *, owner: str, lease_s: float = 30.0, clock: Clock = now_us) -> None:
        self._engine = engine
        self._owner = owner
        self._lease_us = round(lease_s * 1e6)
        self._clock = clock

    @property
    def clock(self) -> Clock:
        """The wall clock."""
        return self._clock

    def create(self, order: Order, *, a_day: int | None = None) -> Generation | None:
        """Begins a camera's next generation, leased to us.

        Args:
            order: What it is made of.
            a_day: How many the fleet may begin in 24 hours; None: any number.

        Returns:
            None if one is open, another worker was faster, or the budget is used up.
        """
        last = self.latest(order.camera)
        if last is not None and last.state not in ENDED:
            return None
        now = self._clock()
        key = {"camera": order.camera, "number": 1 if last is None else last.number + 1}
        row = msgspec.structs.asdict(order) | key
        cells = row.pop("cells")
        row |= {"state": State.PENDING.value, "reason": "", "created_us": now, "clipart_sha256": ""}
        row |= {"owner": self._owner, "until_us": now + self._lease_us, "due_us": 0}
        blank = {"state": State.PENDING.value, "attempts": 0, "failures": 0, "result": "{}", "reason": ""}
        try:
            with transaction(self._engine) as connection:
                if a_day is not None and _begun(connection, now - _DAY_US) >= a_day:
                    return None
                connection.execute(insert(generations), row)
                if cells is not None:
                    text = msgspec.json.encode(cells).decode()
                    connection.execute(insert(harvests), key | {"cells": text})
                names = enumerate(StepName)
                connection.execute(insert(steps), [{**key, **blank, "place": n, "name": s.value} for n, s in names])
        except IntegrityError:
            return None
        return self.latest(order.camera)

    def claim(self) -> Generation | None:
        """Leases the oldest open generation that nobody has and that is due; None if there is none."""
        now = self._clock()
        is_free = (generations.c.owner.in_(("", self._owner))) | (generations.c.until_us <= now)
        wanted = generations.c.state.in_(OPEN) & is_free & (generations.c.due_us <= now)
        query = select(generations.c.camera, generations.c.number).where(wanted).order_by(generations.c.created_us)
        with self._engine.connect() as connection:
            found = connection.execute(query).all()
        for camera, number in found:
            lease = {"owner": self._owner, "until_us": now + self._lease_us}
            with transaction(self._engine) as connection:
                mine = _key(generations, camera, number) & wanted
                taken = connection.execute(update(generations).where(mine).values(lease)).rowcount
            if taken:
                return self.read(camera, number)
        return None

    def renew(self, generation: Generation) -> None:
        """Says that we live; raises LeaseLostError if that comes too late."""
        self._change(generation)

    def release(self, generation: Generation) -> None:
        """Gives the lease back; what was running will be begun again."""
        self._change(generation, fields={"owner": "", "until_us": 0})

    def begin(self, generation: Generation, name: StepName) -> Generation:
        """Marks a step as running."""
        values = {"state": State.RUNNING, "attempts": steps.c.attempts + 1, "started_us": self._clock(), "reason": ""}
        return self._change(generation, (name, values), fields={"state": State.RUNNING})

    def finish(
        self,
        generation: Generation,
        name: StepName,
        result: Mapping[str, object],
        line: str = "",
        record: Record = _nothing,
    ) -> Generation:
        """Marks a step as done, with a line for people; the last one ends the generation in the same transaction.

        Args:
            generation: Whose step.
            name: Which.
            result: What it gave.
            line: For people.
            record: Writes where it came from, in the same transaction.
        """
        now = self._clock()
        text = msgspec.json.encode(result).decode()
        values = {"state": State.DONE, "ended_us": now, "result": text, "reason": line}
        fields: dict[str, object] = {}
        if name is StepName.CLIPART:
            fields["clipart_sha256"] = result["sha256"]
        if name is StepName.PUBLISH:
            fields = self._end(State.DONE, generation.step(StepName.JUDGE).reason)
        return self._change(generation, (name, values), record, fields)

    def fail(self, generation: Generation, name: StepName, reason: str, *, limit: int, retry_s: float) -> Generation:
        """Counts a failure: the step is tried again later, the `limit`-th time the generation fails."""
        failures = generation.step(name).failures + 1
        now = self._clock()
        if failures >= limit:
            values = {"state": State.FAILED, "failures": failures, "ended_us": now, "reason": reason}
            ended = self._end(State.FAILED, f"{name} failed: {reason}")
            return self._change(generation, (name, values), fields=ended)
        values = {"state": State.PENDING, "failures": failures, "reason": reason}
        due_us = now + round(retry_s * 2 ** (failures - 1) * 1e6)
        return self._change(generation, (name, values), fields={"owner": "", "until_us": 0, "due_us": due_us})

    def wait(self, generation: Generation, name: StepName, reason: str, wait_s: float) -> Generation:
        """Puts a step off that could not be done for want of something, such as space; this is no failure of it."""
        values = {"state": State.PENDING, "reason": reason}
        due_us = self._clock() + round(wait_s * 1e6)
        return self._change(generation, (name, values), fields={"owner": "", "until_us": 0, "due_us": due_us})

    def refuse(self, generation: Generation, name: StepName, reason: str) -> Generation:
        """The gate did not let it pass: the step and the generation are refused."""
        values = {"state": State.REFUSED, "ended_us": self._clock(), "reason": reason}
        return self._change(generation, (name, values), fields=self._end(State.REFUSED, reason))

    def reopen(self) -> list[Generation]:
        """Lets every camera's newest generation, if it failed, go on where it failed; returns those."""
        newest = {generation.camera: generation for generation in self.all()}
        failed = [generation for generation in newest.values() if generation.state is State.FAILED]
        for one in failed:
            with transaction(self._engine) as connection:
                mine = _key(generations, one.camera, one.number) & (generations.c.state == State.FAILED.value)
                fresh = {"state": State.PENDING, "reason": "", "ended_us": None, "due_us": 0}
                if connection.execute(update(generations).where(mine).values(fresh)).rowcount:
                    values = {"state": State.PENDING, "failures": 0, "ended_us": None}
                    where = _key(steps, one.camera, one.number) & (steps.c.state == State.FAILED.value)
                    connection.execute(update(steps).where(where).values(values))
        return failed

    # Reading

    def read(self, camera: str, number: int) -> Generation:
        """One generation."""
        [found] = self._read(lambda table: _key(table, camera, number))
        return found

    def latest(self, camera: str) -> Generation | None:
        """The camera's newest generation."""
        query = select(func.max(generations.c.number)).where(generations.c.camera == camera)
        with self._engine.connect() as connection:
            number = connection.scalar(query)
        return None if number is None else self.read(camera, number)

    def champion(self, camera: str) -> Generation | None:
        """The camera's newest published generation; one that learned from what was forgotten is none to be beaten."""
        with self._engine.connect() as connection:
            spoilt = taints(connection)
        done = (g for g in self.all(camera)[::-1] if g.state is State.DONE)
        return next((g for g in done if (g.camera, g.number) not in spoilt), None)

    def all(self, camera: str | None = None) -> list[Generation]:
        """All generations, by camera and number."""
        return self._read(lambda table: true() if camera is None else table.c.camera == camera)

    def _read(self, where: Callable[[Table], Any]) -> list[Generation]:
        query = select(generations).where(where(generations)).order_by(generations.c.camera, generations.c.number)
        parts = select(steps).where(where(steps)).order_by(steps.c.camera, steps.c.number, steps.c.place)
        with self._engine.connect() as connection:
            rows = [_plain(row) for row in connection.execute(query).mappings()]
            by_key: dict[tuple[str, int], list[dict[str, Any]]] = {}
            for part in connection.execute(parts).mappings():
                step = _plain(part) | {"result": msgspec.json.decode(part["result"])}
                by_key.setdefault((part["camera"], part["number"]), []).append(step)
        return [msgspec.convert(row | {"steps": by_key[row["camera"], row["number"]]}, Generation) for row in rows]

    def _end(self, state: State, reason: str) -> dict[str, object]:
        return {"state": state, "reason": reason, "ended_us": self._clock(), "owner": "", "until_us": 0}

    def _change(
        self,
        generation: Generation,
        step: tuple[StepName, Mapping[str, Any]] | None = None,
        record: Record = _nothing,
        fields: Mapping[str, object] = _NO_FIELDS,
    ) -> Generation:
        """Changes a generation and one of its steps while the lease is ours; renews it."""
        camera, number = generation.camera, generation.number
        values = {"until_us": self._clock() + self._lease_us, **fields}
        with transaction(self._engine) as connection:
            mine = and_(_key(generations, camera, number), generations.c.owner == self._owner)
            if connection.execute(update(generations).where(mine).values(values)).rowcount == 0:
                raise LeaseLostError(f"{generation.title}: another worker has taken it")
            if step is not None:
                _update_step(connection, camera, number, *step)
            record(connection)
        return self.read(camera, number)


def _update_step(connection: Connection, camera: str, number: int, name: StepName, values: Mapping[str, Any]) -> None:
    where = _key(steps, camera, number) & (steps.c.name == name.value)
    changed = connection.execute(update(steps).where(where).values(dict(values))).rowcount
    assert changed == 1


def _begun(connection: Connection, since_us: int) -> int:
    """How many generations the fleet has begun since, and will not have changed before this transaction ends."""
    if connection.dialect.name == "postgresql":
        # SQLite has one writer at a time as it is.
        connection.execute(select(func.pg_advisory_xact_lock(_BUDGET_LOCK)))
    query = select(func.count()).select_from(generations).where(generations.c.created_us > since_us)
    return int(connection.scalar(query) or 0)


def _key(table: Table, camera: str, number: int) -> Any:
    return and_(table.c.camera == camera, table.c.number == number)


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    # A column's name is a kind of str of SQLAlchemy's own.
    return {str(name): value for name, value in row.items()}
