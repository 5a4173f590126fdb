"""The worker: finds what there is to do, does it step by step, and writes down what became of it.

It works on one generation at a time. Several workers may share a store and a home: each leases the generation that
it works on, and the others turn to other cameras meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from walt_edge.contract.errors import WaltError
from walt_train.loop.serve.attempt import Watch
from walt_train.loop.serve.folder import Folder, ProgressFile
from walt_train.loop.serve.jobs import ENDED, Generation, Jobs, LeaseLostError, Order, State, StepName
from walt_train.loop.serve.space import wants_space
from walt_train.loop.serve.steps import Outcome, RefusedError, Workshop
from walt_train.loop.serve.triggers.lookout import Lookout
from walt_train.loop.serve.triggers.reading import devices_of, harvest_of
from walt_train.loop.serve.triggers.rules import Readiness, Rules
from walt_train.loop.store.database import StoreWriteError, cause
from walt_train.loop.store.store import Store

LOGGER = logging.getLogger(__name__)
_POLL_CHILD_S = 0.1
_SHOW_EVERY_S = 1.0
_TOLD_SINGLY = 20
_AWAY = (StoreWriteError, DBAPIError, PoolTimeoutError)


class ServeError(WaltError):
    """A generation was refused or failed; the text is its verdict."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How a worker works.

    Attributes:
        home: Where generations lie.
        recipe: Of new generations.
        seed: Of new generations.
        training_steps: Of new generations; None = what the recipe says.
        rules: When one is begun.
        once: Whether to return when nothing is left to do and a generation has ended.
        attempts: How often a failing step is tried.
        retry_s: Wait before the second attempt, seconds; doubled with each.
        lease_s: How long a worker that gives no sign is believed to live, seconds.
        poll_s: How often an idle worker looks for work, seconds.
        space_s: Wait before a step that found no space on the disk is tried again, seconds.
    """

    home: Path
    recipe: str = "demo"
    seed: int = 0
    training_steps: int | None = None
    rules: Rules = field(default_factory=Rules)
    once: bool = False
    attempts: int = 3
    retry_s: float = 15.0
    lease_s: float = 30.0
    poll_s: float = 2.0
    space_s: float = 60.0


class _StoppedError(Exception):
    """Somebody asked us to end; not a failure."""


class Worker:
    """Runs until `stop` is called.

    Args:
        store: Where clip art is.
        jobs: The table.
        workshop: Does the steps.
        config: How to work.
        keep: What is to be done now and then while there is no work.
    """

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        workshop: Workshop,
        config: WorkerConfig,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._workshop = workshop
        self._config = config
        self._keep = keep
        self._lookout = Lookout(store.engine, config.rules, jobs.clock)
        self._stopping = threading.Event()
        self._said: set[str] = set()
        self._shared: set[str] = set()
        self._is_away = False

    def stop(self) -> None:
        """Asks `run` to end what it does and return; may be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Works until `stop`, or with `once` until nothing is left.

        Raises:
            ServeError: With `once`: a camera's last generation was refused or failed.
            StoreWriteError, DBAPIError: With `once`: the table cannot be read or written; what is in it will be taken
                up by the next worker. Otherwise that is told and waited for.
        """
        while not self._stopping.is_set():
            try:
                if self._turn():
                    return
                self._is_away = False
            except _AWAY as error:
                if self._config.once:
                    raise
                self._wait_for_table(error)
        LOGGER.info("stopped; what is open goes on at the next start")

    def _turn(self) -> bool:
        """Works on one generation, or waits a moment; says whether, with `once`, nothing is left."""
        generation = self._jobs.claim() or self._begin_one()
        if generation is not None:
            self._work(generation)
        elif self._config.once and self._is_all_done():
            self._raise_verdicts()
            return True
        else:
            self._keep()
            self._stopping.wait(self._config.poll_s)
        return False

    def _wait_for_table(self, error: Exception) -> None:
        level = logging.DEBUG if self._is_away else logging.ERROR
        LOGGER.log(level, "waits for the table of jobs: %s: free space, or start the database", cause(error))
        self._is_away = True
        self._stopping.wait(max(self._config.poll_s, 1.0))

    def _begin_one(self) -> Generation | None:
        """Creates a generation of the camera that gains most by one, if any is ready."""
        best = self._lookout.best()
        self._say_waits(self._lookout.look())
        for camera in best:
            if self._is_shared(camera):
                continue
            found = self._lookout.readiness(camera)
            self._lookout.forget(camera)
            if not found.is_ready:
                continue
            generation = self._create(camera, found)
            if generation is not None:
                return generation
        return None

    def _create(self, camera: str, found: Readiness) -> Generation | None:
        harvest, config = harvest_of(self._store.engine, camera), self._config
        order = Order(
            camera=camera,
            recipe=config.recipe,
            seed=config.seed,
            training_steps=config.training_steps,
            crops=harvest.crops,
            tracks=harvest.tracks,
            why=found.why,
            cells=harvest.cells,
        )
        generation = self._jobs.create(order, a_day=config.rules.a_day)
        if generation is not None:
            LOGGER.info("%s begins: %s; %d crops in all", generation.title, found.why, harvest.crops)
        return generation

    def _is_shared(self, camera: str) -> bool:
        """Whether several devices give the name: what one of them saw must not teach, or reach, another one."""
        devices = [f"{device.site}/{device.device}" for device in devices_of(self._store.engine, camera)]
        if len(devices) > 1 and camera not in self._shared:
            self._shared.add(camera)
            LOGGER.error(
                "%s: %d devices name a camera so (%s ...): nothing is trained of it; give each a name of its own "
                "(walt-edge run --camera), and remove what came under this one",
                camera,
                len(devices),
                ", ".join(devices[:3]),
            )
        return len(devices) > 1

    def _say_waits(self, found: Mapping[str, Readiness]) -> None:
        """Says once what each camera waits for; of many cameras, how many wait."""
        fresh = {name: one for name, one in found.items() if not one.is_ready and name not in self._said}
        for name in self._said - found.keys():
            # It has a generation at work, and is told of again after it.
            self._said.discard(name)
        if len(fresh) > _TOLD_SINGLY:
            LOGGER.info("%d cameras wait for clip art; /api/v1/waiting tells for what each", len(fresh))
        else:
            for name, one in sorted(fresh.items()):
                LOGGER.info("%s: waits, %s", name, one.line)
        self._said |= fresh.keys()

    def _is_all_done(self) -> bool:
        found = self._jobs.all()
        return bool(found) and all(generation.state in ENDED for generation in found)

    def _raise_verdicts(self) -> None:
        last = {generation.camera: generation for generation in self._jobs.all()}
        bad = [f"{one.title}: {one.reason}" for one in last.values() if one.state is not State.DONE]
        if bad:
            raise ServeError("; ".join(bad))

    def _work(self, generation: Generation) -> None:
        """Takes a generation as far as it goes now: to its end, or to a step that failed."""
        with _Sentry(self._jobs, generation, self._stopping, self._config) as sentry:
            try:
                while (name := generation.following()) is not None:
                    generation = self._attempt(generation, name, sentry)
                    if not generation.owner:
                        break
            except LeaseLostError as error:
                LOGGER.warning("%s", error)
            except _StoppedError:
                with contextlib.suppress(LeaseLostError):
                    self._jobs.release(generation)

    def _attempt(self, generation: Generation, name: StepName, sentry: _Sentry) -> Generation:
        """Does a step once and writes down what became of it."""
        sentry.look()
        generation = sentry.follow(self._jobs.begin(generation, name))
        LOGGER.info("%s: %s begins", generation.title, name)
        began_s = time.monotonic()
        try:
            outcome = self._workshop.do(name, generation, sentry)
            finished = self._finish(generation, name, outcome)
        except RefusedError as error:
            LOGGER.warning("%s: %s", generation.title, error)
            return sentry.follow(self._jobs.refuse(generation, name, str(error)))
        except (LeaseLostError, _StoppedError, StoreWriteError):
            raise
        except (WaltError, OSError) as error:
            give_up = self._fail if self._config.once or not wants_space(error, self._config.home) else self._put_off
            return sentry.follow(give_up(generation, name, _one_line(error)))
        except Exception as error:
            # One camera's trouble, foreseen or not, must not stop the others.
            LOGGER.exception("%s: %s", generation.title, name)
            return sentry.follow(self._fail(generation, name, f"{type(error).__name__}: {_one_line(error)}"))
        took_s = time.monotonic() - began_s
        LOGGER.info("%s: %s done in %.1f s%s", finished.title, name, took_s, _after_comma(outcome.line))
        return sentry.follow(finished)

    def _finish(self, generation: Generation, name: StepName, outcome: Outcome) -> Generation:
        return self._jobs.finish(generation, name, outcome.result, outcome.line, outcome.record)

    def _put_off(self, generation: Generation, name: StepName, reason: str) -> Generation:
        """A disk that is full is no fault of a generation's: it waits until there is space."""
        wait_s = self._config.space_s
        LOGGER.error("%s: %s waits for space, tried again in %.0f s: %s", generation.title, name, wait_s, reason)
        return self._jobs.wait(generation, name, f"waits for space: {reason}", wait_s)

    def _fail(self, generation: Generation, name: StepName, reason: str) -> Generation:
        config = self._config
        failed = self._jobs.fail(generation, name, reason, limit=config.attempts, retry_s=config.retry_s)
        is_over = failed.state is State.FAILED
        what = "given up" if is_over else f"attempt {failed.step(name).failures} of {config.attempts}"
        LOGGER.error("%s: %s failed (%s): %s", generation.title, name, what, reason)
        return failed


class _Sentry(Watch):
    """Keeps the lease and the progress file while a generation is worked on; a context manager."""

    def __init__(self, jobs: Jobs, generation: Generation, stopping: threading.Event, config: WorkerConfig) -> None:
        self._jobs = jobs
        self._generation = generation
        self._stopping = stopping
        self._progress = ProgressFile(Folder.of(config.home, generation))
        self._every_s = config.lease_s / 3
        self._left = threading.Event()
        self._lost: LeaseLostError | None = None
        self._shown_s = 0.0
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def follow(self, generation: Generation) -> Generation:
        """Takes note of a change, and shows it."""
        self._generation = generation
        self._progress.update(generation)
        return generation

    def look(self) -> None:
        """Raises if we are to end, or if the generation is not ours any more."""
        if self._stopping.is_set():
            raise _StoppedError
        if self._lost is not None:
            raise self._lost
        if time.monotonic() - self._shown_s >= _SHOW_EVERY_S:
            self._shown_s = time.monotonic()
            self._progress.update(self._generation)

    def wait(self) -> None:
        """Lets a moment pass, shorter if we are to end."""
        self._stopping.wait(_POLL_CHILD_S)

    def _renew(self) -> None:
        said = False
        while not self._left.wait(self._every_s):
            try:
                self._jobs.renew(self._generation)
                said = False
            except LeaseLostError as error:
                self._lost = error
                return
            except _AWAY as error:
                # The work goes on: by the time it is done the disk may be mended, or have space again.
                level = logging.DEBUG if said else logging.WARNING
                LOGGER.log(level, "cannot keep the lease, working on (%s): free space", cause(error))
                said = True

    def __enter__(self) -> _Sentry:
        self._progress.update(self._generation)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()


def _one_line(error: Exception) -> str:
    words = str(error) if isinstance(error, WaltError) else getattr(error, "strerror", None) or str(error)
    name = getattr(error, "filename", None)
    return " ".join(f"{words}{f': {name}' if name else ''}".split())


def _after_comma(line: str) -> str:
    return f", {line}" if line else ""
