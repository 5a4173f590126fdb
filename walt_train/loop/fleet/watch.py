"""The fleet's watch: hears, keeps, judges and tells, in a thread of its own between `start` and `stop`.

    watch = FleetWatch(store.engine, BrokerConfig(host, port, client_id="walt-fleet-1"))
    watch.start()
    ...
    watch.stop()

Any number may run against one database: one listens, the others stand by. Whatever dies is begun anew from what was
written last: alerts are written as they are judged, and of samples at most the newest ten minutes are lost, whose
counters are made good by the next message.
"""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from walt_edge.contract.backoff import Backoff
from walt_train.loop.broker.connection import BrokerConfig, BrokerError
from walt_train.loop.fleet.conditions import KINDS, Home
from walt_train.loop.fleet.enrolled import expiries
from walt_train.loop.fleet.fleet import Fleet, Outcome, anybody
from walt_train.loop.fleet.judging import Alert, History, Judgement, Subject, judge
from walt_train.loop.fleet.keeping import Keeper, LeaseLostError, Part, load
from walt_train.loop.fleet.listening import Ear
from walt_train.loop.fleet.rules import Rules
from walt_train.loop.fleet.webhook import Messenger
from walt_train.loop.store.database import UNAVAILABLE
from walt_train.loop.store.errors import StoreError

LOGGER = logging.getLogger(__name__)
_SECOND: Final = 1_000_000
_BACKOFF_S: Final = (0.5, 30.0)
_TIDY_S: Final = 3600.0
_FLUSH_S: Final = (30.0, 600.0)
_NAMED_MOST: Final = 20
# Messages between two looks at the clock, so that a flood cannot keep the watch from judging.
_TURN_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """How the watch works.

    Attributes:
        rules: Thresholds, webhook, and when a device is forgotten.
        is_known: Whether a device of that site and name belongs to the fleet; it is asked often.
        folder: Where the store lies on a disk of this machine; None: it does not.
        judge_s: Between two judgements, seconds.
        flush_s: Between two batches; None: one second for each camera, from 30 s to ten minutes.
        lease_s: How long after its last sign of life another watch takes over.
    """

    rules: Rules = field(default_factory=Rules)
    is_known: Callable[[str, str], bool] = anybody
    folder: Path | None = None
    judge_s: float = 15.0
    flush_s: float | None = None
    lease_s: float = 60.0


class FleetWatch:
    """Listens to the fleet.

    Args:
        engine: The store's.
        broker: How to reach the broker; `client_id` is stable and no other connection's.
        config: How to work.

    Attributes:
        fleet: What is known now; for the metrics, from any thread.
        listening: Set while the broker's messages come.
        home: What home knows of itself, as it was last judged.
    """

    def __init__(self, engine: Engine, broker: BrokerConfig, config: WatchConfig | None = None) -> None:
        self._engine = engine
        self._broker = broker
        self._config = config or WatchConfig()
        # The client's id is stable, so that who was killed need not wait for the end of its own lease.
        self._keeper = Keeper(engine, f"{socket.gethostname()[:80]}/{broker.client_id[:64]}", self._config.lease_s)
        self._messenger = Messenger(self._keeper, self._config.rules.webhook)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="fleet", daemon=True)
        self._ear: Ear | None = None
        self._backoff = Backoff(*_BACKOFF_S)
        self._connect_s = 0.0
        self._due_s: dict[str, float] = {}
        self._said = ""
        self._alerts: dict[Subject, Alert] = {}
        self._parts: deque[Part] = deque()
        self.fleet = Fleet(self._config.is_known)
        self.listening = threading.Event()
        self.home = Home(None)

    @property
    def alerts(self) -> dict[Subject, Alert]:
        """Pending and raised, as they were last judged; replaced whole."""
        return self._alerts

    def start(self) -> None:
        """Begins to listen, and keeps at it."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what was heard, and ends the thread; may be called twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=60)

    def ask_to_stop(self) -> None:
        """Has `run` return soon; may be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Listens until it is asked to stop; a store or a broker that is away is waited for."""
        self._messenger.start()
        try:
            while not self._stopping.is_set():
                try:
                    self._stand_by()
                    self._listen()
                except LeaseLostError as error:
                    self._say(f"{error}: standing by")
                except (StoreError, *UNAVAILABLE) as error:
                    self._say(f"the fleet cannot be watched: {error}")
                    self._stopping.wait(self._config.judge_s)
                except Exception:
                    # The thread's boundary: an ingest that stores goes on, and a watch that ended would say nothing.
                    LOGGER.exception("the fleet's watch failed and begins anew")
                    self._stopping.wait(self._config.judge_s)
                finally:
                    self._close_ear()
        finally:
            self._messenger.stop()

    def _stand_by(self) -> None:
        """Waits for the lease, then goes on from what was written last."""
        while not self._keeper.acquire(_now_us()):
            if self._stopping.wait(min(5.0, self._config.lease_s / 4)):
                return
        held = load(self._engine)
        self.fleet.restore(held.devices, held.cameras)
        self._alerts = held.alerts
        self._due_s, self._said = {}, ""
        self._parts.clear()
        self.home = Home(None, None, expiries(self._engine))
        LOGGER.info("watching %d devices with %d cameras", len(held.devices), len(held.cameras))

    def _listen(self) -> None:
        try:
            while not self._stopping.is_set():
                self._connect()
                self._hear(0.0 if self._parts else min(1.0, self._config.judge_s))
                if self._is_due("tidy", _TIDY_S):
                    self._tidy()
                if self._is_due("judge", self._config.judge_s):
                    self._judge()
                if not self._parts and self._is_due("flush", self._flush_s()):
                    self._begin_batch()
                self._write_part()
        finally:
            self._close_ear()
        self._write_all()
        self._keeper.release(_now_us())

    def _connect(self) -> None:
        """Has a connection, or an attempt at one whose time has come."""
        if self._ear is not None and self._ear.alive:
            return
        if self._ear is not None:
            LOGGER.warning("the fleet's watch lost the broker %s (%s)", self._broker.address, self._ear.why)
            self._close_ear()
        if time.monotonic() < self._connect_s:
            return
        try:
            self._ear = Ear(self._broker)
        except BrokerError as error:
            self._connect_s = time.monotonic() + self._backoff.next_s()
            self._say(f"{error}: no device is heard")
            return
        self._backoff.reset()
        self._said = ""
        self.home = Home(_now_us(), self.home.free_bytes, self.home.expires_us)
        self.listening.set()

    def _close_ear(self) -> None:
        if self._ear is not None:
            self._ear.close()
            self._ear = None
        self.listening.clear()
        self.home = Home(None, self.home.free_bytes, self.home.expires_us)

    def _hear(self, wait_s: float) -> None:
        if self._ear is None:
            self._stopping.wait(wait_s)
            return
        spoken = self._ear.hear(wait_s)
        for _ in range(_TURN_MOST):
            if spoken is None:
                break
            self.fleet.take(spoken.topic, spoken.payload, spoken.received_us)
            spoken = self._ear.hear(0)
        self.fleet.outcomes[Outcome.LOST] += self._ear.lost
        self._ear.lost = 0

    def _is_due(self, what: str, every_s: float) -> bool:
        now_s = time.monotonic()
        if now_s < self._due_s.setdefault(what, now_s + every_s):
            return False
        self._due_s[what] = now_s + every_s
        return True

    def _flush_s(self) -> float:
        least, most = _FLUSH_S
        return self._config.flush_s or min(max(least, float(len(self.fleet.cameras))), most)

    def _begin_batch(self) -> None:
        """What was heard so far is to be written, part by part; what comes now is of the next batch."""
        self._parts = deque(self.fleet.batch.parts())
        self.fleet.next_batch()
        if self.fleet.last:
            LOGGER.warning("devices send what is malformed, the newest: %s", self.fleet.last)
            self.fleet.last = ""

    def _write_part(self) -> None:
        if self._parts:
            self._keeper.write(self._parts[0], _now_us())
            self._parts.popleft()

    def _write_all(self) -> None:
        while self._parts:
            self._write_part()
        self._begin_batch()
        while self._parts:
            self._write_part()

    def _judge(self) -> None:
        now_us = _now_us()
        self.home = Home(self.home.listening_us, free_bytes_of(self._config.folder), self.home.expires_us)
        judgement = judge(
            History(self.fleet.devices, self.fleet.cameras, self.home), self._alerts, now_us, self._rules
        )
        self._keeper.note(judgement, self._alerts, now_us, self.home.listening_us)
        self._alerts = dict(judgement.alerts)
        tell(judgement)
        if judgement.raised or judgement.cleared:
            self._messenger.wake()

    def _tidy(self) -> None:
        now_us = _now_us()
        before_us = now_us - int(self._rules.forget_days * 86_400) * _SECOND
        self.fleet.forget(before_us)
        self._keeper.tidy(now_us, before_us, self.fleet.devices)
        self.home = Home(self.home.listening_us, self.home.free_bytes, expiries(self._engine))

    @property
    def _rules(self) -> Rules:
        return self._config.rules

    def _say(self, line: str) -> None:
        """Once for each trouble, however long it lasts."""
        if line != self._said:
            LOGGER.warning("%s", line)
        self._said = line


def tell(judgement: Judgement) -> None:
    """One line in the log for each alert that was raised or cleared, up to a number."""
    for subject in judgement.raised[:_NAMED_MOST]:
        kind = KINDS[subject.kind]
        LOGGER.warning("%s%s: %s; %s", _place(subject), kind.title, judgement.alerts[subject].detail, kind.remedy)
    for subject, why in judgement.cleared[:_NAMED_MOST]:
        LOGGER.info("%sno longer: %s (%s)", _place(subject), KINDS[subject.kind].title, why)
    more = max(0, len(judgement.raised) - _NAMED_MOST) + max(0, len(judgement.cleared) - _NAMED_MOST)
    if more:
        LOGGER.warning("%d more alerts were raised or cleared at this moment: walt-loop fleet lists them", more)


def free_bytes_of(folder: Path | None) -> int | None:
    """Free on the disk of a folder; None where there is no folder or it cannot be asked."""
    if folder is None:
        return None
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _place(subject: Subject) -> str:
    words = "/".join(word for word in subject[1:] if word)
    return f"{words}: " if words else ""


def _now_us() -> int:
    return time.time_ns() // 1000
