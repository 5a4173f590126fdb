"""What home has to do now and then, whether or not something trains."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from walt_edge.contract.errors import WaltError
from walt_train.loop.lineage.carry import Hands, take_up
from walt_train.loop.lineage.keep import Policy, keep
from walt_train.loop.lineage.thin import thin
from walt_train.loop.serve.jobs import OPEN, now_us
from walt_train.loop.serve.runners.ray import RayRunner
from walt_train.loop.serve.tidy import LOG_DAYS, tidy
from walt_train.loop.store.database import UNAVAILABLE, cause

LOGGER = logging.getLogger(__name__)
_HOUR_S = 3600.0
_SOON_S = 60.0
_END_S = 60.0


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do.

    Attributes:
        name: How the log calls it.
        every_s: Seconds between two beginnings of it.
        do: Does it; gives lines for people. May be killed at any moment.
    """

    name: str
    every_s: float
    do: Callable[[], Sequence[str]]


def duties_of(
    hands: Hands, policy: Policy, runner: RayRunner | None = None, log_days: float = LOG_DAYS
) -> list[Duty]:
    """The duties of `walt-loop serve`.

    Args:
        hands: What they work with.
        policy: How long things are kept.
        runner: A cluster that may have jobs which nobody wants any more.
        log_days: How long logs of ended generations stay.
    """
    store, jobs, home = hands.store, hands.jobs, hands.home

    def expire() -> Iterator[str]:
        kept = keep(store, policy, do=True)
        if kept.count:
            yield f"{kept.count} expired, {kept.freed / 1e6:.1f} MB freed"
        erased = thin(store.engine, jobs, home) if home is not None else None
        if erased and erased.files:
            yield f"{erased.files} pictures of frozen clip art removed"

    def collect() -> Iterator[str]:
        count = store.collect_orphans()
        if count:
            yield f"{count} blobs that no row names removed"

    def clear() -> Iterator[str]:
        count = tidy(jobs, home, now_us(), log_days) if home is not None else 0
        if count:
            yield f"{count} ended generations rid of what they do not need"

    def is_open(camera: str, number: int) -> bool:
        return any(one.number == number and one.state in OPEN for one in jobs.all(camera))

    duties = [
        Duty("forgetting", _SOON_S, lambda: take_up(hands)),
        Duty("collecting", _HOUR_S, lambda: list(collect())),
        Duty("tidying", _HOUR_S, lambda: list(clear())),
    ]
    if runner is not None:
        duties.append(Duty("sweeping", _SOON_S, lambda: runner.sweep(is_open)))
    return duties if policy.is_empty else [*duties, Duty("keeping", _HOUR_S, lambda: list(expire()))]


class Duties:
    """Does duties in a thread of its own, one after another; a context manager.

    Args:
        duties: Which; each for the first time at once.
    """

    def __init__(self, duties: Sequence[Duty]) -> None:
        self._duties = tuple(duties)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="duties", daemon=True)

    def _run(self) -> None:
        due_s = {duty.name: 0.0 for duty in self._duties}
        while not self._stopping.is_set():
            for duty in self._duties:
                if time.monotonic() >= due_s[duty.name] and not self._stopping.is_set():
                    due_s[duty.name] = time.monotonic() + duty.every_s
                    _do(duty)
            first_s = min(due_s.values(), default=_HOUR_S)
            self._stopping.wait(max(0.0, first_s - time.monotonic()))

    def __enter__(self) -> Duties:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        # Whatever it is in the middle of may be killed, and is done again at the next start.
        self._thread.join(_END_S if kind is None else 0.0)


def _do(duty: Duty) -> None:
    try:
        for line in duty.do():
            LOGGER.info("%s: %s", duty.name, line)
    except WaltError as error:
        LOGGER.warning("%s: %s; tried again later", duty.name, error)
    except UNAVAILABLE as error:
        LOGGER.warning("%s: %s; tried again later", duty.name, cause(error))
    except Exception:
        # One duty's trouble, foreseen or not, must not stop the others, nor the loop.
        LOGGER.exception("%s", duty.name)
