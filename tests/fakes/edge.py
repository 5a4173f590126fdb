"""In-memory parts of the agent with the real interfaces: a camera, a watcher, a sender."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.envelopes import FRAME_WH, image, sealed
from walt_edge.camera import CameraError, CameraStats, CameraTimeout, Frame
from walt_edge.capture.clock import live_moment
from walt_edge.contract.closing import Closing
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.messages import Telemetry
from walt_edge.contract.telemetry import Lens
from walt_edge.privacy.anonymiser import AnonymisedImage, SealedEnvelope
from walt_edge.privacy.holdover import FrameStamp
from walt_edge.vision.sightings import Sighting


@dataclass(eq=False)
class ScriptedCamera(Closing):
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


@dataclass(frozen=True, eq=False)
class ScriptedStep:
    image: AnonymisedImage | None
    sightings: tuple[Sighting, ...]
    sealed: tuple[SealedEnvelope, ...]
    frame: FrameStamp | None = None
    is_busy: bool = True
    is_learning: bool = False


@dataclass(eq=False)
class ScriptedEyes:
    """Seals `per_frame` crops a frame and one at the end; frames whose index is in `failing` raise `failure`.

    Pictures are shown `behind` frames later; frames whose index is not in `busy` have nothing in them.
    """

    per_frame: int = 1
    failing: Sequence[int] = ()
    failure: Exception = field(default_factory=lambda: ValueError("scripted"))
    objects_seen: int = 0
    crops_chosen: int = 0
    rejected_by_reason: Counter[str] = field(default_factory=lambda: Counter({"border": 2}))
    made: list[str] = field(default_factory=list)
    lens: Lens = field(default_factory=Lens)
    behind: int = 0
    busy: Container[int] = range(1_000_000)
    told: list[AmodalInstances | None] = field(default_factory=list)
    waiting: list[Frame] = field(default_factory=list)

    def step(self, frame: Frame, seen: AmodalInstances | None = None) -> ScriptedStep:
        if frame.index in self.failing:
            raise self.failure
        self.told.append(seen)
        self.waiting.append(frame)
        sealed, is_busy = self._seal(self.per_frame), frame.index in self.busy
        if len(self.waiting) <= self.behind:
            return ScriptedStep(None, (), sealed, None, is_busy)
        return self._shown(self.waiting.pop(0), sealed, is_busy)

    def drain(self) -> Iterator[ScriptedStep]:
        while self.waiting:
            yield self._shown(self.waiting.pop(0), (), is_busy=False)

    def _shown(self, frame: Frame, sealed: tuple[SealedEnvelope, ...], is_busy: bool) -> ScriptedStep:
        sighting = Sighting(PatchMask(10, 20, np.ones((30, 12), bool)), Label.PERSON, 0.8, (16.0, 50.0), track_id=3)
        return ScriptedStep(image(frame.bgr), (sighting,), sealed, FrameStamp.of(frame), is_busy)

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
