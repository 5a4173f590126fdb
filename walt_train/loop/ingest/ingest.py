"""The ingest: takes envelopes from the broker and stores each exactly once.

A group of messages (32, or what 20 ms bring) is checked, stored in one commit, then answered to the devices, and
released at the broker once that has the answer. Whatever dies in between comes again and is found to be a duplicate.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from walt_edge.contract.backoff import Backoff
from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import Ack, AckState
from walt_edge.contract.topics import subscriptions
from walt_train.loop.admission.admission import Admission
from walt_train.loop.admission.policy import Policy
from walt_train.loop.broker.connection import BrokerConfig, BrokerError
from walt_train.loop.broker.link import Delivery, Link
from walt_train.loop.ingest.arrivals import Judged, Later, judge
from walt_train.loop.store.store import Accepted, Refused, Store, StoreWriteError

LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")
_IDLE_S = 0.2
_REPORT_EVERY_S = 60.0
# Two clients of one id throw each other out again and again, and not every broker says so.
_BRIEF_S = 10.0
_SUSPICIOUS = 3


class IngestError(WaltError):
    """The ingest cannot go on."""


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """How the ingest works.

    Attributes:
        broker: How to reach the broker.
        group: Name of the shared subscription: workers of one group share the load.
        group_size: Most envelopes in a commit.
        group_wait_s: How long to wait for a commit to fill, seconds.
        backoff_s: First and longest wait between attempts to connect, seconds; jittered and doubled.
        wait_for_broker: Whether to wait for a broker that is down at the start.
        storage_patience_s: How long a store that cannot be written is tried again before giving up.
        storage_retry_s: First and longest wait between these attempts, seconds; jittered and doubled.
        policy: Whom envelopes are taken from.
    """

    broker: BrokerConfig
    group: str = "ingest"
    group_size: int = 32
    group_wait_s: float = 0.02
    backoff_s: tuple[float, float] = (0.25, 30.0)
    wait_for_broker: bool = True
    storage_patience_s: float = 120.0
    storage_retry_s: tuple[float, float] = (0.5, 10.0)
    policy: Policy = Policy.OPEN


@dataclass(slots=True)
class Tally:
    """What this process has done since it started."""

    states: Counter[AckState] = field(default_factory=Counter)
    later: int = 0

    def line(self) -> str:
        """One line for the log."""
        told = ", ".join(f"{self.states[state]} {state.value}" for state in AckState)
        return f"{told}, {self.later} let go to come later" if self.later else told


class Ingest:
    """Runs until `stop` is called.

    Args:
        store: Where envelopes go.
        config: How to work.

    Attributes:
        connected: Set while subscribed at a broker.
        tally: What was done so far.
    """

    def __init__(self, store: Store, config: IngestConfig) -> None:
        self._store = store
        self._config = config
        self._admission = Admission(store.engine, config.policy, config.broker.client_id)
        self._stopping = threading.Event()
        self._reported_s = time.monotonic()
        self.connected = threading.Event()
        self.tally = Tally()

    def stop(self) -> None:
        """Asks `run` to finish its group and return; may be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Stores what arrives until `stop`.

        Raises:
            BrokerError: The broker was down at the start and `wait_for_broker` is off.
            IngestError: The store could not be written for `storage_patience_s`.
        """
        try:
            self._work()
        finally:
            with suppress(StoreWriteError):
                self._admission.close()
        LOGGER.info("stopped: %s", self.tally.line())

    def _work(self) -> None:
        first, brief = True, 0
        while not self._stopping.is_set():
            link = self._connect(first, brief)
            if link is None:
                break
            first, since_s = False, time.monotonic()
            self._serve(link)
            brief = brief + 1 if time.monotonic() - since_s < _BRIEF_S else 0
            if brief == _SUSPICIOUS or link.taken_over:
                client_id = self._config.broker.client_id
                LOGGER.error("is another client connected as '%s'? Give each worker its own --client-id", client_id)

    def _connect(self, first: bool, brief: int) -> Link | None:
        """Connects, however long it takes; returns None if asked to stop meanwhile.

        Args:
            first: Whether there was no connection before.
            brief: How many connections in a row ended as soon as they had begun.
        """
        shortest_s, longest_s = self._config.backoff_s
        first_s = min(longest_s, shortest_s * 2**brief)
        if brief:
            self._stopping.wait(Backoff(first_s, longest_s).next_s())
        backoff = Backoff(first_s, longest_s)
        said = False
        while not self._stopping.is_set():
            try:
                link = Link(self._config.broker, subscriptions(self._config.group))
            except BrokerError as error:
                if first and not self._config.wait_for_broker:
                    raise
                LOGGER.log(logging.DEBUG if said else logging.WARNING, "%s: trying again until it answers", error)
                said = True
                self._stopping.wait(backoff.next_s())
            else:
                state = "session resumed" if link.resumed else "new session"
                LOGGER.info("connected to %s as %s, %s", self._config.broker.address, link_name(self._config), state)
                return link
        return None

    def _serve(self, link: Link) -> None:
        self.connected.set()
        try:
            while link.alive and self._patiently(self._learn) and not self._stopping.is_set():
                group = link.collect(self._config.group_size, self._config.group_wait_s, _IDLE_S)
                if group:
                    self._take(link, group)
                self._report()
        finally:
            self.connected.clear()
            link.close()
            if link.unpromised:
                LOGGER.warning("passed over %d messages of QoS 0: devices send with QoS 1", link.unpromised)
        if not link.alive and not self._stopping.is_set():
            LOGGER.warning("lost the broker %s (%s)", self._config.broker.address, link.why)

    def _take(self, link: Link, group: Sequence[Delivery]) -> None:
        """Checks, stores, answers and releases one group."""
        judged = [judge(delivery.arrival, self._admission) for delivery in group]
        accepted = [one.verdict for one in judged if isinstance(one.verdict, Accepted)]
        refused = [one.verdict for one in judged if isinstance(one.verdict, Refused)]
        stored: list[AckState] | None = []
        if accepted or refused:
            stored = self._patiently(lambda: self._store.add_group(accepted, refused))
        if stored is None:
            return
        states = iter(stored)
        for delivery, one in zip(group, judged, strict=True):
            self._settle(link, delivery, one, states)
        if refused:
            # One line a group: whoever sends rubbish shall not fill the log.
            LOGGER.warning("refused %d, the first at %s: %s", len(refused), refused[0].topic, refused[0].reason)

    def _settle(self, link: Link, delivery: Delivery, judged: Judged, states: Iterator[AckState]) -> None:
        """Answers one message, or lets it go without a word."""
        verdict = judged.verdict
        if isinstance(verdict, Later):
            self.tally.later += 1
            link.release(delivery)
            return
        state = next(states) if isinstance(verdict, Accepted) else AckState.REJECTED
        self.tally.states[state] += 1
        if judged.ack_topic:
            link.answer(delivery, judged.ack_topic, Ack(state, getattr(verdict, "reason", "")))
        else:
            link.release(delivery)

    def _learn(self) -> bool:
        self._admission.refresh()
        self._admission.inspect()
        return True

    def _patiently(self, step: Callable[[], _T]) -> _T | None:
        """Does what needs the store, waiting for one that is down or full; returns None if asked to stop meanwhile.

        Raises:
            IngestError: It was so for `storage_patience_s`.
        """
        since_s, said = time.monotonic(), False
        backoff = Backoff(*self._config.storage_retry_s)
        while True:
            try:
                done = step()
            except StoreWriteError as error:
                if time.monotonic() - since_s >= self._config.storage_patience_s:
                    raise IngestError(
                        f"{error}: free space or start what is down, then start again; what was acknowledged is safe"
                    ) from error
                if not said:
                    LOGGER.error("%s; nothing is acknowledged until it can be written", error)
                    said = True
                if self._stopping.wait(backoff.next_s()):
                    return None
            else:
                if said:
                    LOGGER.info("the store can be written again")
                return done

    def _report(self) -> None:
        if time.monotonic() - self._reported_s >= _REPORT_EVERY_S:
            self._reported_s = time.monotonic()
            LOGGER.info("so far: %s", self.tally.line())


def link_name(config: IngestConfig) -> str:
    """How the log names a worker: its client id and group."""
    return f"{config.broker.client_id} (group {config.group})"
