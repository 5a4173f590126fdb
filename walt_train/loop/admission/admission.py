"""The door between what the broker brings and the store: who may send, how much, and what has to wait for a person.

It answers from memory. Once a second, at most, one small query asks whether anything has changed; what was met is
written every few seconds. Everything is shared through the database, so that any number of workers agree.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from walt_edge.contract.topics import EnvelopeTopic
from walt_train.loop.admission.inspector import inspect, note_cameras
from walt_train.loop.admission.names import Names
from walt_train.loop.admission.policy import Decision, Entry, Policy, decide, hold_reason
from walt_train.loop.admission.rates import Limits, Meter
from walt_train.loop.admission.snapshot import Snapshot, read_snapshot, settle, version_of
from walt_train.loop.admission.tables import met, workers
from walt_train.loop.store.database import UNAVAILABLE, StoreWriteError, cause, place_of, transaction

LOGGER = logging.getLogger(__name__)
REFRESH_S: Final = 1.0
NOTE_S: Final = 5.0
INSPECT_S: Final = 10.0
_ALIVE_S: Final = 30.0
# Whatever names a hostile publisher makes up, the table stays small.
_NAMES: Final = 10_000
_OPEN: Final = Decision(Entry.OPEN)
_NOWHERE: Final = "(no device)"


@dataclass(slots=True)
class _Met:
    """What one device sent that was not stored, since it was last written down."""

    site: str
    counts: Counter[Entry] = field(default_factory=Counter)
    over_rate: int = 0


class Admission:
    """Decides about messages, for one worker.

    Args:
        engine: Of the store.
        policy: Whom envelopes are taken from.
        worker: This worker's own name, the same after a restart.
        clock: Seconds, never set back.

    Attributes:
        policy: Whom envelopes are taken from.
        leads: Whether this is the worker that looks after the cameras.
    """

    def __init__(
        self, engine: Engine, policy: Policy, worker: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.policy = policy
        self.leads = False
        self._engine = engine
        self._worker = worker
        self._clock = clock
        self._meter = Meter()
        self._snapshot: Snapshot | None = None
        self._names = Names(engine)
        self._unclear: set[tuple[str, str]] = set()
        self._met: dict[str, _Met] = {}
        self._cameras: set[tuple[str, str]] = set()
        self._new_cameras: set[tuple[str, str]] = set()
        self._looked_s = self._noted_s = self._inspected_s = float("-inf")
        self._warned = False

    def refresh(self) -> None:
        """Learns what has changed, if the last look is a second ago; called before a group of messages.

        Raises:
            StoreWriteError: The database is away: nothing can be decided, nor stored.
        """
        now_s = self._clock()
        if now_s - self._looked_s < REFRESH_S:
            return
        if self.policy is Policy.ENROLLED:
            self._look()
            self._clear_up()
        if now_s - self._noted_s >= NOTE_S:
            self.note()
            self._noted_s = now_s
        self._looked_s = now_s

    def enter(self, topic: EnvelopeTopic | None, size: int) -> Decision:
        """Whether a message is looked into: by its topic and size alone, before its bytes cost anything.

        Args:
            topic: Where it came; None if that is no envelope's topic.
            size: In bytes.
        """
        if self.policy is Policy.OPEN:
            return _OPEN
        now_s = self._clock()
        if topic is None:
            # Whoever they come from share one bucket, so that rubbish can fill neither the quarantine nor the log.
            return self._metered(_NOWHERE, "", size, Limits(), now_s)
        standing = (self._snapshot or Snapshot()).devices.get(topic.device)
        decision = decide(standing, topic.site, topic.device)
        if standing is None:
            self._note(topic.device, topic.site).counts[Entry.UNKNOWN] += 1
            return decision
        allowed = self._metered(topic.device, standing.site, size, standing.limits, now_s)
        return decision if allowed.entry is Entry.OPEN else allowed

    def held(self, device: str, camera: str) -> str | None:
        """Why a crop may not train yet, at most 64 characters; None if it may.

        The first crop that ever came under a camera's name makes the name its device's, which is written at once.
        """
        if self.policy is Policy.OPEN:
            return None
        standing = (self._snapshot or Snapshot()).devices.get(device)
        if standing is None:
            return None
        is_own = self._is_own(device, camera)
        if is_own and (device, camera) not in self._cameras and len(self._cameras) < _NAMES:
            self._cameras.add((device, camera))
            self._new_cameras.add((device, camera))
        return hold_reason(standing, camera, is_own=is_own)

    def inspect(self) -> None:
        """Judges what cameras sent lately, if this worker is the one that does; raises StoreWriteError."""
        now_s = self._clock()
        if self.leads and self.policy is Policy.ENROLLED and now_s - self._inspected_s >= INSPECT_S:
            for one in inspect(self._engine):
                LOGGER.warning("holding camera %s of %s: %s", one.camera, one.device, one.reason)
            self._inspected_s = now_s

    def refused(self, device: str, site: str) -> None:
        """Counts a refusal of what a device sent."""
        if self.policy is Policy.ENROLLED:
            self._note(device, site).counts[Entry.REFUSED] += 1

    def note(self) -> None:
        """Writes down what was met, and that this worker works; raises StoreWriteError."""
        try:
            with transaction(self._engine) as connection:
                self._say_alive(connection)
                self._write_met(connection)
                note_cameras(connection, self._new_cameras)
        except IntegrityError:
            # Another worker was the first to write of the same device; next time its row is there.
            return
        self._met.clear()
        self._new_cameras.clear()

    def close(self) -> None:
        """Writes down what was met, and that this worker works no more; raises StoreWriteError."""
        self.note()
        with transaction(self._engine) as connection:
            connection.execute(delete(workers).where(workers.c.name == self._worker))

    def _look(self) -> None:
        try:
            with self._engine.connect() as connection:
                if self._snapshot is not None and version_of(connection) == self._snapshot.version:
                    return
        except UNAVAILABLE as error:
            raise StoreWriteError(f"cannot read {place_of(self._engine)}: {cause(error)}") from error
        with transaction(self._engine) as connection:
            self._snapshot = read_snapshot(connection)
            self._names.read(connection)
            settle(connection)
        if not self._snapshot.devices:
            LOGGER.warning("no device is enrolled, so nothing is stored: walt-loop enroll, or --policy open")

    def _is_own(self, device: str, camera: str) -> bool:
        """Whether a camera's name is a device's; if that cannot be found out now, its crop waits until it can."""
        try:
            return self._names.is_own(device, camera)
        except StoreWriteError:
            if len(self._unclear) < _NAMES:
                self._unclear.add((device, camera))
            return False

    def _clear_up(self) -> None:
        """Finds out what could not be found out, and frees what waited for that alone; raises StoreWriteError."""
        if self._unclear:
            for device, camera in sorted(self._unclear):
                self._names.is_own(device, camera)
            with transaction(self._engine) as connection:
                settle(connection)
            self._unclear.clear()

    def _metered(self, device: str, site: str, size: int, limits: Limits, now_s: float) -> Decision:
        if self._meter.take(device, size, limits, now_s):
            return _OPEN
        self._note(device, site).over_rate += 1
        return Decision(Entry.OVER_RATE, f"{device} sends more than it may")

    def _note(self, device: str, site: str) -> _Met:
        return self._met.setdefault(device if len(self._met) < _NAMES else _NOWHERE, _Met(site))

    def _say_alive(self, connection: Connection) -> None:
        now_us = time.time_ns() // 1000
        mine = workers.c.name == self._worker
        if not connection.execute(update(workers).where(mine).values(seen_us=now_us)).rowcount:
            connection.execute(insert(workers), {"name": self._worker, "seen_us": now_us})
        connection.execute(delete(workers).where(workers.c.seen_us < now_us - round(_ALIVE_S * 1e6)))
        names = sorted(connection.scalars(select(workers.c.name)))
        self._meter.share = 1 / len(names)
        self.leads = names[0] == self._worker
        if len(names) > 1 and self._engine.dialect.name == "sqlite" and not self._warned:
            self._warned = True
            LOGGER.warning(
                "%d workers share one SQLite file: safe, but no faster than one; PostgreSQL is for several",
                len(names),
            )

    def _write_met(self, connection: Connection) -> None:
        now_us = time.time_ns() // 1000
        known = connection.scalar(select(func.count()).select_from(met)) or 0 if self._met else 0
        for device, one in self._met.items():
            counts = {
                "over_rate": one.over_rate,
                "unknown": one.counts[Entry.UNKNOWN],
                "refused": one.counts[Entry.REFUSED],
            }
            more = {name: met.c[name] + count for name, count in counts.items()}
            theirs = update(met).where(met.c.device == device)
            if connection.execute(theirs.values(seen_us=now_us, **more)).rowcount:
                continue
            if known < _NAMES:
                known += 1
                row = {"device": device, "site": one.site, "seen_us": now_us, **counts}
                connection.execute(insert(met), row)
