"""Whether a model that passed its trial does well on the camera: what is counted of it, and what is made of that."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from walt_edge.contract.bundle import Limits

_WINDOW = 1000


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How a model did on its last frames.

    Attributes:
        frames: That it looked at, in all.
        failed: Share of the last of them on which it failed, 0..1.
        things: Instances in a frame on which it did not, on average.
        latency_ms_p99: How long one took.
    """

    frames: int = 0
    failed: float = 0.0
    things: float = 0.0
    latency_ms_p99: float = 0.0


class LookLog:
    """The last frames of one model, a thousand at most; used under the holder's lock."""

    def __init__(self) -> None:
        self._frames = 0
        self._last: deque[tuple[float, int | None]] = deque(maxlen=_WINDOW)

    def note(self, took_ms: float, things: int | None) -> None:
        """One frame: how long it took, and how many instances it gave; None if it failed."""
        self._frames += 1
        self._last.append((took_ms, things))

    def figures(self) -> Figures:
        """All that in four numbers."""
        if not self._last:
            return Figures()
        times_ms = sorted(took_ms for took_ms, _ in self._last)
        given = [things for _, things in self._last if things is not None]
        return Figures(
            frames=self._frames,
            failed=1 - len(given) / len(self._last),
            things=sum(given) / len(given) if given else 0.0,
            latency_ms_p99=times_ms[math.ceil(0.99 * len(times_ms)) - 1],
        )


@dataclass(frozen=True, slots=True)
class ProbationRules:
    """What a model has to stand on the camera.

    Attributes:
        seconds: So long; 0: no probation.
        frames: And so many frames.
        failed: It fails on no larger share of them, 0..1.
        judged_frames: So many frames of the model before it, and of its own, before their numbers of things compare.
        seen: Where the one before it saw so many things in a frame, it must see some.
        flood: Nor may it see so many times as many.
        grown_mb: What the agent's memory may grow by meanwhile, after those frames.
    """

    seconds: float = 600.0
    frames: int = 30
    failed: float = 0.05
    judged_frames: int = 100
    seen: float = 1.0
    flood: float = 10.0
    grown_mb: float = 150.0


class Probation:
    """One model's, from the moment on at which the pipeline took it.

    Args:
        rules: What it has to stand.
        limits: Of the manifest and of the agent; the strictest holds.
        before: How the model before it did; None if there was none.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        rules: ProbationRules,
        limits: Sequence[Limits],
        before: Figures | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._latency_ms = min((one.latency_ms for one in limits if one.latency_ms is not None), default=math.inf)
        self._before = before or Figures()
        self._memory_mb: float | None = None
        self._clock = clock
        self._begun_s = clock()

    def is_over(self, found: Figures) -> bool:
        """Whether it has lasted long enough."""
        rules = self._rules
        return self._clock() - self._begun_s >= rules.seconds and found.frames >= rules.frames

    def trouble(self, found: Figures, memory_mb: float) -> str:
        """Why the model has to go, in a few words; nothing while it does well."""
        rules, before = self._rules, self._before
        if found.frames < rules.frames:
            return ""
        if self._memory_mb is None:  # from here on: what an agent takes until it is in full swing is not the model's
            self._memory_mb = memory_mb
        grown_mb = memory_mb - self._memory_mb
        if grown_mb > rules.grown_mb:
            return f"the agent's memory grew by {grown_mb:.0f} MB, allowed {rules.grown_mb:g} MB"
        if found.failed > rules.failed:
            return f"it fails on {found.failed:.0%} of the frames"
        if found.latency_ms_p99 > self._latency_ms:
            return f"it takes {found.latency_ms_p99:.0f} ms a frame (p99), allowed {self._latency_ms:g} ms"
        if min(before.frames, found.frames) < rules.judged_frames:
            return ""
        if before.things >= rules.seen and found.things == 0:
            return f"it sees nothing where the model before it saw {before.things:.1f} things in a frame"
        if found.things > rules.flood * max(before.things, rules.seen):
            return f"it sees {found.things:.0f} things in a frame, the model before it {before.things:.1f}"
        return ""
