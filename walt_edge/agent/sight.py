"""What the model makes of one camera's frames, and who is who in them.

It looks at raw pixels, which stay in memory: what it gives holds none. Sinks run behind, so the newest sights are
kept until the picture of their frame is shown.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from walt_edge.agent.gating import LookBudget
from walt_edge.agent.telemetry import Meter
from walt_edge.camera import Frame
from walt_edge.tracking.tracker import AmodalTracker, TrackedObject
from walt_edge.update.holder import Look

_KEPT = 64


class Looks(Protocol):
    """What looks: `walt_edge.agent.looking.Looker`, or a `ModelHolder` of one's own."""

    def look(self, bgr: NDArray[np.uint8]) -> Look | None:
        """What the model makes of a frame; None without a model. Never raises."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """One frame as the model sees it.

    Attributes:
        index: The frame's.
        look: What is in it.
        objects: Who that is, and who is expected there and hidden.
    """

    index: int
    look: Look
    objects: tuple[TrackedObject, ...]


class Sights:
    """The model's eyes on one camera; used by its lane's thread.

    Args:
        looks: What looks.
        meter: The lane's.
        budget: Which frames it looks at; None: all.

    Attributes:
        budget: As given.
    """

    def __init__(self, looks: Looks, meter: Meter, budget: LookBudget | None = None) -> None:
        self._looks = looks
        self._meter = meter
        self.budget = budget
        self._tracker = AmodalTracker()
        self._time_s = -math.inf
        self._newest: deque[Sight] = deque(maxlen=_KEPT)

    def look(self, frame: Frame, *, quiet: bool = False) -> Sight | None:
        """Looks at a frame, if its turn has come; None without a model. Never raises.

        Args:
            frame: The raw frame.
            quiet: Nothing has moved for some time.
        """
        if self.budget is not None and not self.budget.wants(time.monotonic(), quiet=quiet):
            return None
        look = self._looks.look(frame.bgr)
        if look is None:
            return None
        self._meter.looked(look.took_ms, look.instances.scores)
        if self.budget is not None:
            self.budget.note(look.took_ms)
        sight = Sight(frame.index, look, self._follow(look, frame.captured.media_time_s))
        self._newest.append(sight)
        return sight

    def of(self, index: int) -> Sight | None:
        """The sight of a frame of late; None if the model did not look at it.

        Frames are shown in their order, so older sights are let go: of a crowd each takes as much as the picture.
        """
        while self._newest and self._newest[0].index < index:
            self._newest.popleft()
        return self._newest[0] if self._newest and self._newest[0].index == index else None

    def forget(self) -> None:
        """Lets all sights go: none of their frames will be shown."""
        self._newest.clear()

    def _follow(self, look: Look, time_s: float) -> tuple[TrackedObject, ...]:
        if time_s <= self._time_s:
            self._tracker = AmodalTracker()  # The camera's clock has begun anew, and with it maybe its count.
            self._newest.clear()
        self._time_s = time_s
        return tuple(self._tracker.update(look.instances, time_s))


def instance_ids(objects: Sequence[TrackedObject], count: int) -> tuple[int, ...]:
    """The tracks of a look's instances, in their order; -1 for none."""
    ids = [-1] * count
    for one in objects:
        if one.instance is not None and one.state != "tentative":
            ids[one.instance] = one.id
    return tuple(ids)
