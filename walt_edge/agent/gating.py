"""Which frames of a quiet street need not be watched: an idle camera costs almost nothing.

The gate compares a frame with the last one that was watched, block by block, against what that block usually does:
leaves, rain and the sensor's noise are learned while the eyes find nothing. It only ever thins out: a quiet street is
still watched `idle_step_s` apart, so whatever the gate misses is seen half a second later, and from the first object
on every frame is watched until the street has been calm for some time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.camera import Frame

_LEARN = 0.1  # weight of the newest quiet frame: some five seconds of an idle street


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How quiet is quiet.

    Attributes:
        idle_step_s: A quiet street is watched this often, media time.
        calm_s: So long after the last object a street counts as quiet; longer than the sinks' delay.
        block_px: Side of a block: a person twenty pixels high fills one.
        change_level: Mean change of a block, grey levels, beyond what it usually does, that opens the gate.
        spread: ... or this many of its usual deviations, if that is more.
    """

    idle_step_s: float = 0.5
    calm_s: float = 2.0
    block_px: int = 8
    change_level: float = 2.5
    spread: float = 5.0


class StillGate:
    """The gate of one camera; used by one thread.

    Args:
        settings: How quiet is quiet.

    Attributes:
        is_open: Lets everything pass; may be set from any thread.
    """

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        self.is_open = False
        self._watched: NDArray[np.uint8] | None = None
        self._watched_s = -np.inf
        self._busy_s = -np.inf
        self._usual: NDArray[np.float32] | None = None
        self._deviation: NDArray[np.float32] | None = None
        self._change: NDArray[np.float32] | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has been there for some time, as of the last watched frame."""
        return self._watched_s - self._busy_s > self._settings.calm_s

    def wants(self, frame: Frame) -> bool:
        """Whether the frame has to be watched; `note` must follow if it was."""
        grey = cv2.cvtColor(frame.bgr, cv2.COLOR_BGR2GRAY)
        time_s = frame.captured.media_time_s
        self._change = self._changed(grey)
        due = not 0.0 <= time_s - self._watched_s < self._settings.idle_step_s
        if not (due or self.is_open) and self.is_quiet and self._is_usual():
            return False
        self._watched, self._watched_s = np.asarray(grey, np.uint8), time_s
        return True

    def note(self, *, busy: bool) -> None:
        """What watching the frame came to.

        Args:
            busy: Something is there, or nobody can tell yet.
        """
        if busy:
            self._busy_s = self._watched_s
        elif self._change is not None:
            self._learn(self._change)

    def _changed(self, grey: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """(h, w) mean change of each block since the last watched frame; None without one of this size."""
        if self._watched is None or self._watched.shape != grey.shape:
            self._usual = self._deviation = None
            return None
        side = self._settings.block_px
        size = (max(1, grey.shape[1] // side), max(1, grey.shape[0] // side))
        difference = cv2.absdiff(grey, self._watched)
        return np.asarray(cv2.resize(difference, size, interpolation=cv2.INTER_AREA), np.float32)

    def _is_usual(self) -> bool:
        if self._change is None or self._usual is None or self._deviation is None:
            return False
        slack = np.maximum(self._settings.spread * self._deviation, self._settings.change_level)
        return not bool((self._change > self._usual + slack).any())

    def _learn(self, change: NDArray[np.float32]) -> None:
        if self._usual is None or self._deviation is None:
            self._usual, self._deviation = change.copy(), np.zeros_like(change)
            return
        apart = change - self._usual
        self._usual += _LEARN * apart
        self._deviation += _LEARN * (np.abs(apart) - self._deviation)


@dataclass(frozen=True, slots=True)
class LookSettings:
    """How much of the machine a model may take.

    Attributes:
        max_fps: Looks a second and camera at most; 0 for every frame.
        idle_look_s: A quiet street is looked at this often: who stands still moves nothing.
        cpu_budget: Share of the time in which the model may be at work, all cameras together, 0..1.
    """

    max_fps: float = 0.0
    idle_look_s: float = 5.0
    cpu_budget: float = 1.0


class LookBudget:
    """Says which watched frames of one camera the model looks at; used by one thread.

    It goes by how long looks really take, so that a machine that is busy with other things, or a larger model, gets
    fewer looks and not older frames.

    Args:
        settings: How much.
        cameras: How many share the model.
    """

    def __init__(self, settings: LookSettings | None = None, cameras: int = 1) -> None:
        self.settings = settings or LookSettings()
        self._cameras = cameras
        self._began_s = -np.inf
        self._took_s = 0.0

    def wants(self, now_s: float, *, quiet: bool) -> bool:
        """Whether to look now (monotonic time, seconds)."""
        settings = self.settings
        pause_s = 1.0 / settings.max_fps if settings.max_fps > 0 else 0.0
        if settings.cpu_budget < 1.0:
            pause_s = max(pause_s, self._cameras * self._took_s / max(settings.cpu_budget, 1e-3))
        if quiet:
            pause_s = max(pause_s, settings.idle_look_s)
        if now_s < self._began_s + pause_s:
            return False
        # Counted from when it was due: a pause that is no multiple of the camera's must not grow to the next one.
        self._began_s = max(self._began_s + pause_s, now_s - pause_s)
        return True

    def note(self, took_ms: float) -> None:
        """How long a look took; one slow look alone changes little."""
        self._took_s += 0.2 * (1e-3 * took_ms - self._took_s)
