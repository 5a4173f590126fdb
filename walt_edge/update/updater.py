"""The thread that brings the wished-for model: fetch, verify, golden pictures, swap, commit, report.

The agent watches on meanwhile; whatever goes wrong here, it stays with what it had.
"""

from __future__ import annotations

import logging
import queue
import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.messages import Desired, Reported
from walt_edge.update.errors import CancelledError, NotNowError, RefusedError, UnreachableError, UpdateError
from walt_edge.update.holder import Fitted, Model, ModelHolder
from walt_edge.update.slots import Slots
from walt_edge.window import Backoff

LOG = logging.getLogger(__name__)

_GOLDEN_ROUNDS = 3
_LOOK_ROUND_S = 0.1
_MAX_REASON = 500
_GOODBYE_S = 5.0


class Source(Protocol):
    """Where bundles come from: `Trust`."""

    def fetch(self, wish: Desired, into: Path, is_cancelled: Callable[[], bool]) -> None:
        """Brings a bundle that may be believed, or raises UpdateError."""


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """Pauses between attempts; they double, jittered.

    Attributes:
        network_min_s: After the network failed.
        network_max_s: Where that doubling ends.
        home_min_s: After something that home has to mend.
        home_max_s: Where that doubling ends.
    """

    network_min_s: float = 2.0
    network_max_s: float = 600.0
    home_min_s: float = 60.0
    home_max_s: float = 3600.0


@dataclass(slots=True)
class UpdateStats:
    """Counts since the start."""

    swapped: int = 0
    refused: int = 0
    postponed: int = 0
    put_down: int = 0
    failures: int = 0


@dataclass(eq=False)
class ModelUpdater:
    """Runs in a thread of its own between `start` and `stop`.

    Attributes:
        source: Where bundles come from.
        slots: Where they are kept.
        holder: Where the pipeline finds its model.
        load: Opens a bundle.
        tell: Called with what to report home, from this thread.
        settings: Pauses.
        chance: Source of jitter.
        prepare: Called before a bundle is fetched; raises UsageError where this machine could not open any.
        stats: Counts since the start.
    """

    source: Source
    slots: Slots
    holder: ModelHolder
    load: Callable[[Path], Model]
    tell: Callable[[Reported], None]
    settings: UpdateSettings = field(default_factory=UpdateSettings)
    chance: random.Random = field(default_factory=random.Random)
    prepare: Callable[[], object] = lambda: None
    stats: UpdateStats = field(default_factory=UpdateStats)

    def __post_init__(self) -> None:
        options = self.settings
        self._network = Backoff(options.network_min_s, options.network_max_s, self.chance)
        self._home = Backoff(options.home_min_s, options.home_max_s, self.chance)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._asked: Desired | None = None
        self._wish: Desired | None = None
        self._fitted: Fitted | None = None
        self._reported: Reported | None = None
        self._due_s: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="updater", daemon=True)
        self.holder.on_put_down = lambda fitted, reason: self._inbox.put(partial(self._put_down, fitted, reason))

    def restore(self) -> None:
        """Lays out the committed model for the pipeline's first frame; called before `start`."""
        self._fall_to_committed()
        refused = self.slots.refused
        if refused is not None:
            self._report("refused", refused.wish, refused.reason)
        else:
            self._report("active", self._running)

    @property
    def _running(self) -> Desired | None:
        """What was laid out for the pipeline, or is already looking."""
        return self._fitted.wish if self._fitted else None

    def start(self) -> None:
        """Begins to wait for wishes."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; an update on its way is given up."""
        self._stopping.set()
        self._inbox.put(_nothing)
        self._thread.join(_GOODBYE_S)

    def desire(self, wish: Desired | None) -> None:
        """Home's wish, or that there is none any more; from any thread. The same wish again changes nothing."""
        if wish != self._asked:
            self._asked = wish
            self._inbox.put(partial(self._take_up, wish))

    def _main(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception:
                # The thread's boundary: the next wish shall find somebody at home.
                self.stats.failures += 1
                LOG.exception("the updater failed and begins anew")
                self._due_s = time.monotonic() + self._home.next()

    def _turn(self) -> None:
        """Handles one event, or tries again when it is time."""
        timeout_s = None if self._due_s is None else max(0.0, self._due_s - time.monotonic())
        try:
            self._inbox.get(timeout=timeout_s)()
        except queue.Empty:
            self._attempt()

    def _take_up(self, wish: Desired | None) -> None:
        self._wish, self._due_s = wish, None
        self._network.reset()
        self._home.reset()
        self._attempt()

    def _attempt(self) -> None:
        """Tries to fulfil the wish once, and decides when to try again, if at all."""
        wish, self._due_s = self._wish, None
        if wish is None:
            return
        try:
            self._fulfil(wish)
        except CancelledError:
            self._due_s = time.monotonic()
        except RefusedError as error:
            self._refuse(wish, str(error))
        except UpdateError as error:
            backoff = self._network if isinstance(error, UnreachableError) else self._home
            pause_s = backoff.next()
            self._due_s = time.monotonic() + pause_s
            self.stats.postponed += 1
            LOG.warning("release %d is not taken now, next attempt in %.0f s: %s", wish.release, pause_s, error)
            self._report("refused", wish, str(error))
        finally:
            self.slots.drop_candidate()

    def _fulfil(self, wish: Desired) -> None:
        if wish != self._running:
            self.slots.check(wish)
            if self._reported is None or self._reported.desired != wish.release:
                self._report("updating", wish)
            self._prepare()
            self.source.fetch(wish, self.slots.candidate, self._is_called)
            self.slots.begin_trial(wish)
            self._swap(self._fit(self.slots.candidate, wish))
        self._report("active", wish)

    def _prepare(self) -> None:
        """What can be told before a bundle is fetched need not be told again after every download."""
        try:
            self.prepare()
        except UsageError as error:
            raise NotNowError(str(error)) from error

    def _fit(self, path: Path, wish: Desired) -> Fitted:
        """Opens a bundle and has it answer its golden pictures.

        Raises:
            RefusedError: It is not the release, cannot be opened, or disagrees.
            NotNowError: This machine lacks what it takes to run it, for now.
        """
        times_ms = []
        try:
            model = self.load(path)
            for _ in range(_GOLDEN_ROUNDS):
                start_s = time.perf_counter()
                model.check_golden()
                times_ms.append(1e3 * (time.perf_counter() - start_s) / max(1, len(model.manifest.golden)))
        except UsageError as error:
            raise NotNowError(str(error)) from error
        except MemoryError as error:
            raise NotNowError("not enough memory to open it here: free some, or wish for a smaller one") from error
        except WaltError as error:
            raise RefusedError(str(error)) from error
        except Exception as error:
            # A boundary: a model is data from elsewhere, and may make a runtime raise anything.
            LOG.debug("release %d does not load", wish.release, exc_info=True)
            raise RefusedError(f"it does not load: {type(error).__name__}: {error}") from error
        if model.sha256 != wish.sha256:
            raise RefusedError(f"its sha256 is {model.sha256[:12]}..., not {wish.sha256[:12]}...")
        return Fitted(model, wish, statistics.median(times_ms))

    def _swap(self, fitted: Fitted) -> None:
        """Has the pipeline take a model between two frames, and commits it."""
        offer = self.holder.offer(fitted)
        while not offer.taken.wait(_LOOK_ROUND_S):
            if self._is_called() and self.holder.withdraw(offer):
                raise CancelledError("something else came up")
        try:
            self.slots.commit(fitted.wish)
        except UpdateError:
            self.holder.offer(self._fitted)
            raise
        self._fitted = fitted
        self.stats.swapped += 1
        LOG.info("release %d (%s) looks from now on", fitted.wish.release, fitted.model.manifest.name)

    def _refuse(self, wish: Desired, reason: str) -> None:
        self.stats.refused += 1
        LOG.warning("release %d is refused: %s", wish.release, reason)
        try:
            self.slots.refuse(wish, reason)
        except UpdateError as error:
            LOG.error("cannot note that: %s", error)
        self._report("refused", wish, reason)

    def _put_down(self, fitted: Fitted, reason: str) -> None:
        """The pipeline has put a model down: back to the one before it, or to none."""
        self.stats.put_down += 1
        if self.slots.active == fitted.wish:
            self._give_up_slot()
        self._fall_to_committed()
        self._refuse(fitted.wish, reason)

    def _fall_to_committed(self) -> None:
        """Offers the committed model; a damaged one is given up for what was before it, or none."""
        self._fitted = None
        while self._fitted is None and (wish := self.slots.active) is not None:
            path = self.slots.active_path
            assert path is not None
            try:
                self._fitted = self._fit(path, wish)
            except NotNowError as error:
                LOG.error("release %d cannot be used, watching without a model: %s", wish.release, error)
                break
            except RefusedError as error:
                LOG.error("release %d is damaged here and given up: %s", wish.release, error)
                if not self._give_up_slot():
                    break
        self.holder.offer(self._fitted)

    def _give_up_slot(self) -> bool:
        try:
            self.slots.fall_back()
        except UpdateError as error:
            LOG.error("cannot note which model to fall back to: %s", error)
            return False
        return True

    def _is_called(self) -> bool:
        return self._stopping.is_set() or not self._inbox.empty()

    def _report(
        self, state: Literal["active", "updating", "refused"], wish: Desired | None, reason: str = ""
    ) -> None:
        running = self._running
        reported = Reported(
            release=running.release if running else 0,
            sha256=running.sha256 if running else "",
            state=state,
            desired=wish.release if wish else 0,
            reason=" ".join(reason.split())[:_MAX_REASON],
        )
        if reported != self._reported:
            self._reported = reported
            self.tell(reported)


def _nothing() -> None:
    """Wakes the thread."""
