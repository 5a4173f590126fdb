"""How the agent is doing, in numbers that a person can act on: ages, times and reasons, not only means.

Every camera has a meter of its own. Its lane writes into it and other threads (telemetry, metrics, the web page) read
from it without locks: each number is one Python object that is replaced whole, durations lie in rings of a fixed
size, and a reader that comes in the middle of a step sees figures that are a frame apart at most. Nothing here grows
with the time that an agent runs.
"""

from __future__ import annotations

import enum
import time
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.camera import CameraStats
from walt_edge.capture.clock import clock_state
from walt_edge.contract.telemetry import Disk, Lens, SpoolCounts, Telemetry

_SAMPLES: Final = 1024
_RATE_WINDOW_S: Final = 10.0


class Stage(enum.StrEnum):
    """What a lane does with a frame, in this order; `STEP` is the whole, from the frame in hand to the next read."""

    LOOK = "look"
    WATCH = "watch"
    ANONYMISE = "anonymise"
    SELECT = "select"
    SPOOL = "spool"
    STEP = "step"


class Skip(enum.StrEnum):
    """Why a frame that the camera gave was not processed."""

    SUPERSEDED = "superseded"
    GATED = "gated"
    FAILED = "failed"


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A duration as it was lately (percentiles) and since the start (count, total).

    Attributes:
        p50_ms: Median of the newest samples, milliseconds.
        p99_ms: Their 99th percentile.
        count: Samples since the start.
        total_s: Their sum, seconds.
    """

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    count: int = 0
    total_s: float = 0.0


class LaneFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One camera's figures; counts are since the start.

    Attributes:
        camera: Its name.
        frames_received: What the camera gave.
        frames_processed: What was watched and anonymised.
        frames_skipped: The others, by `Skip` value; received = processed + all of these + those in work.
        fps: Processed frames a second, over the newest 10 s.
        since_frame_s: How long ago the newest frame was read; -1 before the first.
        since_turn_s: How long ago the lane's loop last came round.
        frame_age: From a frame's capture to the end of its step.
        stages: By `Stage` value, those that have run.
        looks: How often the model looked.
        objects_now: In the newest frame.
        hidden_now: Of these, the ones that are hidden in part or altogether.
        objects_seen: Tracks.
        crops_chosen: Crops that were sealed.
        refused: Objects and envelopes that were not taken, by reason.
        anonymiser_failures: Frames of which nothing was kept.
        failures_in_a_row: Of these, the newest without one that succeeded since.
        reconnects: How often the camera was lost and found again.
    """

    camera: str
    frames_received: int = 0
    frames_processed: int = 0
    frames_skipped: dict[str, int] = {}
    fps: float = 0.0
    since_frame_s: float = -1.0
    since_turn_s: float = 0.0
    frame_age: Spread = Spread()
    stages: dict[str, Spread] = {}
    looks: int = 0
    objects_now: int = 0
    hidden_now: int = 0
    objects_seen: int = 0
    crops_chosen: int = 0
    refused: dict[str, int] = {}
    anonymiser_failures: int = 0
    failures_in_a_row: int = 0
    reconnects: int = 0


class Times:
    """The newest samples of one duration, milliseconds; one thread adds, any may read."""

    __slots__ = ("_count", "_ring", "_total_ms")

    def __init__(self) -> None:
        self._ring = array("d", bytes(8 * _SAMPLES))
        self._count = 0
        self._total_ms = 0.0

    def add(self, milliseconds: float) -> None:
        """Takes a sample."""
        self._ring[self._count % _SAMPLES] = milliseconds
        self._total_ms += milliseconds
        self._count += 1  # Last: a reader never sees a place that was not written.

    @property
    def count(self) -> int:
        """Samples since the start."""
        return self._count

    def percentile(self, percent: float) -> float:
        """A percentile of the samples held; 0 without any."""
        held = self._held()
        return float(np.percentile(held, percent)) if held.size else 0.0

    def spread(self) -> Spread:
        """Lately and since the start."""
        held = self._held()
        p50, p99 = np.percentile(held, (50, 99)).tolist() if held.size else (0.0, 0.0)
        return Spread(p50_ms=p50, p99_ms=p99, count=self._count, total_s=self._total_ms / 1e3)

    def _held(self) -> NDArray[np.float64]:
        return np.array(self._ring[: self._count], np.float64)


class Timed:
    """Adds how long a `with` block took, unless it raised: a step that failed says nothing of how long steps take."""

    __slots__ = ("_start_s", "_times")

    def __init__(self, times: Times) -> None:
        self._times = times
        self._start_s = 0.0

    def __enter__(self) -> None:
        self._start_s = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._times.add(1e3 * (time.perf_counter() - self._start_s))


class Rate:
    """Events a second over the newest 10 seconds, or over as many as are held."""

    __slots__ = ("_count", "_ring")

    def __init__(self) -> None:
        self._ring = array("d", bytes(8 * _SAMPLES))
        self._count = 0

    def note(self) -> None:
        """One event, now."""
        self._ring[self._count % _SAMPLES] = time.monotonic()
        self._count += 1

    def per_s(self) -> float:
        """The rate; 0 without events in the window."""
        now_s = time.monotonic()
        times_s = np.array(self._ring[: self._count], np.float64)
        lately_s = times_s[times_s > now_s - _RATE_WINDOW_S]
        if lately_s.size < 2:
            return lately_s.size / _RATE_WINDOW_S
        # From the first event in the window, so that a young or a dense window is not taken for a sparse one; up
        # to now, so that a camera that went silent fades.
        return float((lately_s.size - 1) / max(now_s - lately_s.min(), 1e-6))


@dataclass(slots=True)
class Meter:
    """What one camera's lane counts by itself.

    Attributes:
        boot_id: Of this boot.
        camera: The camera's name, or "" where there is one only.
        started_s: Monotonic time of the start.
        turned_s: Monotonic time at which the lane's loop last came round, whether or not there was a frame.
        frame_s: Monotonic time at which the newest frame was read; 0 before the first.
        frames_processed: Frames that were watched and anonymised; raise it by `processed`, which keeps the rate too.
        skipped: Frames that were not, by reason; what the camera itself passed over is in `CameraStats`.
        objects_now: Objects in the newest frame.
        hidden_now: Of these, the ones that are hidden in part or altogether.
        anonymiser_failures: Frames of which nothing was kept because a step failed; raise it by `failed`.
        failures_in_a_row: Of these, the newest without one that succeeded since.
        refused_by_reason: Envelopes that the spool did not take, by reason.
        scored: Instances that the model saw.
        score_milli: Sum of their scores, thousandths.
        frame_age_ms: From a frame's capture to the end of its step.
        stages: One duration for each stage.
        rate: Of processed frames.
    """

    boot_id: str
    camera: str = ""
    started_s: float = field(default_factory=time.monotonic)
    turned_s: float = field(default_factory=time.monotonic)
    frame_s: float = 0.0
    frames_processed: int = 0
    skipped: Counter[Skip] = field(default_factory=Counter)
    objects_now: int = 0
    hidden_now: int = 0
    anonymiser_failures: int = 0
    failures_in_a_row: int = 0
    refused_by_reason: Counter[str] = field(default_factory=Counter)
    scored: int = 0
    score_milli: int = 0
    frame_age_ms: Times = field(default_factory=Times)
    stages: dict[Stage, Times] = field(default_factory=lambda: {stage: Times() for stage in Stage})
    rate: Rate = field(default_factory=Rate)

    @property
    def step_ms(self) -> Times:
        """One step of the lane."""
        return self.stages[Stage.STEP]

    @property
    def infer_ms(self) -> Times:
        """One look of the model."""
        return self.stages[Stage.LOOK]

    def timed(self, stage: Stage) -> Timed:
        """Times a `with` block as that stage."""
        return Timed(self.stages[stage])

    def turn(self) -> None:
        """The lane's loop came round: what `/livez` looks at."""
        self.turned_s = time.monotonic()

    def received(self) -> None:
        """A frame was read: what `/readyz` looks at."""
        self.frame_s = time.monotonic()

    def processed(self, captured_ns: int) -> None:
        """A frame's step is done.

        Args:
            captured_ns: Monotonic time of its capture.
        """
        self.frames_processed += 1
        self.failures_in_a_row = 0
        self.frame_age_ms.add((time.monotonic_ns() - captured_ns) / 1e6)
        self.rate.note()

    def looked(self, took_ms: float, scores: NDArray[np.float32]) -> None:
        """The model has looked at a frame.

        Args:
            took_ms: How long it took.
            scores: (N,) of what it saw, 0..1.
        """
        self.infer_ms.add(took_ms)
        self.scored += len(scores)
        self.score_milli += round(1000 * float(scores.sum()))

    def failed(self) -> None:
        """A frame's step failed and nothing of it was kept."""
        self.anonymiser_failures += 1
        self.failures_in_a_row += 1
        self.skipped[Skip.FAILED] += 1

    def report(
        self,
        camera: CameraStats,
        spool: SpoolCounts,
        *,
        objects_seen: int,
        crops_chosen: int,
        rejected_by_reason: Mapping[str, int],
        model_release: int = 0,
        lens: Lens | None = None,
        disk: Disk | None = None,
    ) -> Telemetry:
        """The message for home; counts are since the start."""
        step, age = self.step_ms.spread(), self.frame_age_ms.spread()
        return Telemetry(
            boot_id=self.boot_id,
            utc_us=time.time_ns() // 1000,
            uptime_s=time.monotonic() - self.started_s,
            frames_received=camera.frames_received,
            frames_processed=self.frames_processed,
            frames_skipped=camera.frames_skipped,
            frame_age_ms_p50=age.p50_ms,
            frame_age_ms_p99=age.p99_ms,
            step_ms_p50=step.p50_ms,
            step_ms_p99=step.p99_ms,
            camera_reconnects=camera.reconnects,
            anonymiser_failures=self.anonymiser_failures,
            objects_seen=objects_seen,
            crops_chosen=crops_chosen,
            rejected_by_reason=self._refused(rejected_by_reason),
            spool=spool,
            model_release=model_release,
            infer_ms_p50=self.infer_ms.percentile(50),
            camera=self.camera,
            clock=clock_state().value,
            silence_s=time.monotonic() - self.frame_s if self.frame_s else -1.0,
            failures_in_a_row=self.failures_in_a_row,
            lens=lens,
            disk=disk,
            looks=self.infer_ms.count,
            scored=self.scored,
            score_milli=self.score_milli,
        )

    def figures(
        self, camera: CameraStats, *, objects_seen: int, crops_chosen: int, rejected_by_reason: Mapping[str, int]
    ) -> LaneFigures:
        """The same for the page and the metrics of this device, stage by stage."""
        now_s = time.monotonic()
        return LaneFigures(
            camera=self.camera,
            frames_received=camera.frames_received,
            frames_processed=self.frames_processed,
            frames_skipped=self._skipped(camera),
            fps=self.rate.per_s(),
            since_frame_s=now_s - self.frame_s if self.frame_s else -1.0,
            since_turn_s=now_s - self.turned_s,
            frame_age=self.frame_age_ms.spread(),
            stages={str(stage): times.spread() for stage, times in self.stages.items() if times.count},
            looks=self.infer_ms.count,
            objects_now=self.objects_now,
            hidden_now=self.hidden_now,
            objects_seen=objects_seen,
            crops_chosen=crops_chosen,
            refused=self._refused(rejected_by_reason),
            anonymiser_failures=self.anonymiser_failures,
            failures_in_a_row=self.failures_in_a_row,
            reconnects=camera.reconnects,
        )

    def _skipped(self, camera: CameraStats) -> dict[str, int]:
        # A camera counts what it passed over itself in one number: superseded by a newer frame, or corrupt.
        own = {**self.skipped, Skip.SUPERSEDED: camera.frames_skipped}
        return {str(reason): own[reason] for reason in Skip if own.get(reason)}

    def _refused(self, rejected_by_reason: Mapping[str, int]) -> dict[str, int]:
        # Copies first: `Counter` has methods in Python, between whose lines a lane may add a reason.
        both = Counter(dict(self.refused_by_reason))
        both.update(dict(rejected_by_reason))
        return {str(reason): count for reason, count in both.items()}
