"""In-memory parts of the agent with the real interfaces: a camera, a watcher, a sender."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np

from tests.envelopes import FRAME_WH, image, sealed
from walt_edge.camera import CameraError, CameraStats, CameraTimeout, Frame
from walt_edge.capture.clock import live_moment
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.messages import Telemetry
from walt_edge.privacy import AnonymisedImage, SealedEnvelope
from walt_edge.vision.sightings import Sighting


@dataclass(eq=False)
class ScriptedCamera:
    """Gives `count` grey frames, then ends; `before` may raise or act before the frame with its index."""

    count: int
    before: Callable[[int], None] = lambda index: None
    stats: CameraStats = field(default_factory=CameraStats)
    resolution_wh: tuple[int, int] = FRAME_WH
    fps: float = 10.0

    def read(self, timeout_s: float) -> Frame | None:
        index = self.stats.frames_received
        self.before(index)
        if index == self.count:
            return None
        self.stats.frames_received += 1
        width, height = self.resolution_wh
        return Frame(np.full((height, width, 3), 90, np.uint8), index, live_moment(index / self.fps))

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, eq=False)
class ScriptedStep:
    image: AnonymisedImage
    sightings: tuple[Sighting, ...]
    sealed: tuple[SealedEnvelope, ...]


@dataclass(eq=False)
class ScriptedEyes:
    """Seals `per_frame` crops a frame and one at the end; frames whose index is in `failing` raise `failure`."""

    per_frame: int = 1
    failing: Sequence[int] = ()
    failure: Exception = field(default_factory=lambda: ValueError("scripted"))
    objects_seen: int = 0
    crops_chosen: int = 0
    rejected_by_reason: Counter[str] = field(default_factory=lambda: Counter({"border": 2}))
    made: list[str] = field(default_factory=list)

    def step(self, frame: Frame) -> ScriptedStep:
        if frame.index in self.failing:
            raise self.failure
        sighting = Sighting(PatchMask(10, 20, np.ones((30, 12), bool)), Label.PERSON, 0.8, (16.0, 50.0), track_id=3)
        return ScriptedStep(image(frame.bgr), (sighting,), self._seal(self.per_frame))

    def finish(self) -> tuple[SealedEnvelope, ...]:
        return self._seal(1)

    def _seal(self, count: int) -> tuple[SealedEnvelope, ...]:
        some = tuple(sealed(1000 + len(self.made) + n) for n in range(count))
        self.made += [one.id for one in some]
        self.crops_chosen += count
        return some


@dataclass(eq=False)
class RememberingSender:
    """Keeps what it is told."""

    notified: int = 0
    telemetry: list[Telemetry] = field(default_factory=list)

    def notify(self) -> None:
        self.notified += 1

    def send_telemetry(self, telemetry: Telemetry) -> None:
        self.telemetry.append(telemetry)


def raising(at: int, error: CameraError | CameraTimeout, times: int = 1) -> Callable[[int], None]:
    """A `before` that raises when frame `at` is asked for, so many times."""
    left = [times]

    def before(index: int) -> None:
        if index == at and left[0]:
            left[0] -= 1
            raise error

    return before
