"""The thread that brings the wished-for model: fetch, verify, trial, swap, probation, commit or roll back, report.

The agent watches on meanwhile; whatever goes wrong here, it stays with what it had.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from walt_edge.contract.backoff import Backoff
from walt_edge.contract.messages import Desired, Reported
from walt_edge.runtimes.memory import give_back_memory
from walt_edge.update.engines import Engines
from walt_edge.update.errors import CancelledError, NotNowError, RefusedError, UnreachableError, UpdateError
from walt_edge.update.fitting import be_ready, build_engine, fit, fit_best
from walt_edge.update.holder import Fitted, Model, ModelHolder
from walt_edge.update.probation import Figures, Probation
from walt_edge.update.reports import Reports, State
from walt_edge.update.settings import Source, UpdateSettings, UpdateStats
from walt_edge.update.slots import Slots
from walt_edge.update.trial import Measured, check_limits, resident_mb

LOG = logging.getLogger(__name__)

_LOOK_ROUND_S = 0.1
_TEND_S = 1.0
_KEEP_TIME_S = 60.0
_GOODBYE_S = 5.0


@dataclass(eq=False)
class ModelUpdater:
    """Runs in a thread of its own between `start` and `stop`.

    Attributes:
        source: Where bundles come from.
        slots: Where they are kept.
        holder: Where the pipeline finds its model.
        load: Opens a bundle.
        tell: Called with what to report home, from this thread.
        settings: Pauses, and what a model has to stand.
        chance: Source of jitter.
        prepare: Called before a bundle is fetched; raises UsageError where this machine could not open any.
        try_out: Tries a bundle where it can do no harm, and measures it; raises UpdateError. None: it is only opened.
        fallback: What looks where nothing from home does: a model of the user's own, or none.
        engines: Builds engines of what is committed, while that looks; None: none are built.
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
    try_out: Callable[[Path, Callable[[], bool]], Measured] | None = None
    fallback: Callable[[], Fitted | None] = lambda: None
    engines: Engines | None = None
    stats: UpdateStats = field(default_factory=UpdateStats)

    def __post_init__(self) -> None:
        options = self.settings
        self._network = Backoff(options.network_min_s, options.network_max_s, self.chance)
        self._home = Backoff(options.home_min_s, options.home_max_s, self.chance)
        self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._asked: Desired | None = None
        self._wish: Desired | None = None
        self._fitted: Fitted | None = None
        self._probation: Probation | None = None
        self._keep_time_s = 0.0
        self._engine_due_s: float | None = None
        self._reports = Reports(self.tell)
        self._due_s: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="updater", daemon=True)
        self.holder.on_put_down = lambda fitted, reason: self._inbox.put(partial(self._put_down, fitted, reason))

    def restore(self) -> None:
        """Lays out for the pipeline's first frame what is on probation or committed; called before `start`."""
        if not self._continue_probation():
            self._fall_to_committed()
        refused = self.slots.refused
        if refused is not None and self._probation is None:
            self._report("refused", refused.wish, refused.reason)
        else:
            self._report_running(self.running)

    @property
    def running(self) -> Desired | None:
        """What was laid out for the pipeline, or is already looking, of what home has published."""
        return self._fitted.wish if self._fitted else None

    @property
    def is_on_probation(self) -> bool:
        """Whether what runs has yet to show that it does well here."""
        return self._probation is not None

    def start(self) -> None:
        """Begins to wait for wishes."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; an update on its way is given up."""
        self._stopping.set()
        self._inbox.put(self._stopping.is_set)  # wakes the thread
        self._thread.join(_GOODBYE_S)
        if not self._thread.is_alive():
            self.slots.end_well()

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
                self._due_s = time.monotonic() + self._home.next_s()

    def _turn(self) -> None:
        """Handles one event, or looks after things when there is none."""
        try:
            work = self._inbox.get(timeout=self._pause_s())
        except queue.Empty:
            self._tend()
        else:
            work()

    def _pause_s(self) -> float:
        """Until something has to be looked after."""
        due_s = min(one for one in (self._keep_time_s, self._due_s, self._engine_due_s) if one is not None)
        pause_s = max(0.0, due_s - time.monotonic())
        return pause_s if self._probation is None else min(pause_s, _TEND_S, self.settings.probation.seconds / 4)

    def _tend(self) -> None:
        """What is done from time to time, of itself."""
        self._keep_time()
        self._judge()
        now_s = time.monotonic()
        if self._due_s is not None and now_s >= self._due_s:
            self._attempt()
        elif self._engine_due_s is not None and now_s >= self._engine_due_s:
            self._make_engine()

    def _keep_time(self) -> None:
        if time.monotonic() >= self._keep_time_s:
            self._keep_time_s = time.monotonic() + _KEEP_TIME_S
            self.source.keep_time()

    def _take_up(self, wish: Desired | None) -> None:
        self._wish, self._due_s = wish, None
        self.source.want(wish)
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
            self._due_s = time.monotonic() + (pause_s := backoff.next_s())
            self.stats.postponed += 1
            LOG.warning("release %d is not taken now, next attempt in %.0f s: %s", wish.release, pause_s, error)
            self._report("refused", wish, str(error), postponed=True)
        finally:
            self.slots.drop_candidate()

    def _fulfil(self, wish: Desired) -> None:
        if wish.is_nothing:
            # Home wants nothing of its own to run here: back to the packaged model, or to none.
            self.slots.stand_down(wish)
            self._probation = None
            self._fall_to_committed()
        elif wish != self.running:
            self.stats.attempts += 1
            self.slots.check(wish)
            if self._reports.desired != wish.release:
                self._report("updating", wish)
            be_ready(self.prepare)
            self.source.fetch(wish, self.slots.candidate, self._look_up)
            self.slots.begin_trial(wish)
            measured = self.try_out(self.slots.candidate, self._look_up) if self.try_out else None
            fitted = fit(self.load, self.slots.candidate, wish)
            if measured is not None:
                check_limits(measured, fitted.model.manifest.promised, self.settings.budget)
            self._swap(fitted)
        self._report_running(wish)

    def _swap(self, fitted: Fitted) -> None:
        """Has the pipeline take a model between two frames, on probation."""
        before = self.holder.figures()
        self._hand_over(fitted)
        try:
            self.slots.admit(fitted.wish, before)
        except UpdateError:
            self._offer_former()
            raise
        self._fitted = fitted
        self.stats.swapped += 1
        give_back_memory()
        LOG.info("release %d (%s) looks from now on", fitted.wish.release, fitted.model.manifest.name)
        self._begin_probation(before)

    def _hand_over(self, fitted: Fitted) -> None:
        offer = self.holder.offer(fitted)
        while not offer.taken.wait(_LOOK_ROUND_S):
            if self._look_up() and self.holder.withdraw(offer):
                raise CancelledError("something else came up")

    def _begin_probation(self, before: Figures | None) -> None:
        """Of the model that looks now, or soon; without a probation it is committed at once."""
        assert self._fitted is not None
        limits = (self._fitted.model.manifest.promised, self.settings.budget)
        self._probation = Probation(self.settings.probation, limits, before)
        if not self.settings.probation.seconds:
            self._commit()

    def _continue_probation(self) -> bool:
        """Begins again with what is on probation, if anything is and it may; False: with what is committed."""
        noted, path = self.slots.on_probation, self.slots.probation_path
        if noted is None or path is None:
            return False
        try:
            self.slots.begin_again()
            self._fitted = fit_best(self.engines, self.load, path, noted.wish)
        except NotNowError as error:
            LOG.error("release %d cannot be used, beginning with what is committed: %s", noted.wish.release, error)
            return False
        except RefusedError as error:
            LOG.error("release %d is given up: %s", noted.wish.release, error)
            if self.slots.on_probation is not None:
                self._note_rolled_back(str(error))
            return False
        self.holder.offer(self._fitted)
        self._begin_probation(noted.before)
        return True

    def _judge(self) -> None:
        """Commits what has stood its probation, and takes back what has not."""
        probation, current = self._probation, self.holder.current
        if probation is None or current is None or current is not self._fitted:
            return
        found = self.holder.figures()
        trouble = probation.trouble(found, resident_mb())
        if trouble:
            self._roll_back(current.wish, f"taken back on probation: {trouble}")
        elif probation.is_over(found):
            self._commit()
            self._report_running(current.wish)

    def _commit(self) -> None:
        assert self._fitted is not None
        self.slots.commit(self._fitted.wish)
        self._probation = None
        self._engine_due_s = time.monotonic()
        self.stats.committed += 1
        LOG.info("release %d is committed", self._fitted.wish.release)

    def _roll_back(self, wish: Desired, reason: str) -> None:
        """Back to what is committed, or to none; the release is not taken again."""
        LOG.error("release %d is %s", wish.release, reason)
        self._note_rolled_back(reason)
        self._fall_to_committed()
        self._report("refused", wish, reason)

    def _note_rolled_back(self, reason: str) -> None:
        self._probation = None
        self.stats.rolled_back += 1
        try:
            self.slots.roll_back(reason)
        except UpdateError as error:
            LOG.error("cannot note that: %s", error)

    def _make_engine(self) -> None:
        """Has the engine of what is committed built, which looks meanwhile, and take over."""
        self._engine_due_s = None
        former, path = self._fitted, self.slots.active_path
        if self.engines is None or former is None or path is None or self._probation is not None:
            return
        try:
            fitted = None if former.is_engine else build_engine(self.engines, path, former.wish, self._look_up)
            if fitted is not None:
                self._hand_over(fitted)
                self._fitted = fitted
                self.stats.engines += 1
                give_back_memory()
                self._report_running(fitted.wish)
        except CancelledError:
            self._engine_due_s = time.monotonic()
        except UpdateError as error:
            if isinstance(error, NotNowError):
                self._engine_due_s = time.monotonic() + self.settings.home_max_s
            self._note_engine_failed(former.wish, str(error))

    def _give_up_engine(self, fitted: Fitted, reason: str) -> None:
        """An engine fails on the camera: the same release, as it was before."""
        path = self.slots.active_path
        if self.engines is not None and path is not None:
            self.engines.give_up(path, reason)
        self._fall_to_committed()
        self._note_engine_failed(fitted.wish, reason)

    def _note_engine_failed(self, wish: Desired, reason: str) -> None:
        self.stats.engines_failed += 1
        LOG.warning("release %d goes on without an engine: %s", wish.release, reason)
        self._report("active", wish, f"no engine: {reason}")

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
        if fitted is not self._fitted:
            return  # something else looks by now, or it is the user's own
        if self._probation is not None:
            self._roll_back(fitted.wish, reason)
            return
        if fitted.is_engine:
            self._give_up_engine(fitted, reason)
            return
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
                self._fitted = fit_best(self.engines, self.load, path, wish)
            except NotNowError as error:
                LOG.error("release %d cannot be used, watching without a model: %s", wish.release, error)
                break
            except RefusedError as error:
                LOG.error("release %d is damaged here and given up: %s", wish.release, error)
                if not self._give_up_slot():
                    break
        self._offer_former()
        self._engine_due_s = time.monotonic()

    def _offer_former(self) -> None:
        self.holder.offer(self._fitted or self.fallback())

    def _give_up_slot(self) -> bool:
        try:
            self.slots.fall_back()
        except UpdateError as error:
            LOG.error("cannot note which model to fall back to: %s", error)
            return False
        return True

    def _report_running(self, wish: Desired | None) -> None:
        """That what was wished for runs, committed or on probation."""
        if self._probation is None:
            self._report("active", wish)
        else:
            self._report("updating", wish, "on probation")

    def _look_up(self) -> bool:
        """Called in the middle of long work: whether something else came up."""
        self._keep_time()
        return self._stopping.is_set() or not self._inbox.empty()

    def _report(self, state: State, wish: Desired | None, reason: str = "", *, postponed: bool = False) -> None:
        self._reports.report(state, self.running, wish, reason, postponed=postponed)
