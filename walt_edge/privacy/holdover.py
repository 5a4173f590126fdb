"""Sinks run behind, so that what is learned about a head covers the frames before and after as well.

The newest frames wait in memory, raw, and nowhere else. What is found in each (outlines, faces, people whom a model
sees) is noted at once; a frame is anonymised when it is `delay_s` old, with what the frames around it have told
(`walt_edge.privacy.head_memory`). Memory is bounded in bytes too: of large frames fewer wait, and sinks get fewer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from walt_edge.camera import Frame
from walt_edge.contract.errors import UsageError
from walt_edge.contract.masks import Mask
from walt_edge.contract.messages import Moment
from walt_edge.privacy.anonymiser import AnonymisedImage, Anonymiser, fail_closed
from walt_edge.privacy.head_memory import HeadMemory
from walt_edge.vision.sightings import Sighting
from walt_edge.watching.judging import Looks

DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 10.0
MEMORY_BYTES: Final = 64 << 20
SLACK_S: Final = 1.0  # frames come unevenly: one leaves with each that comes, a little late rather than not at all
_SAME_S = 1e-6


@dataclass(frozen=True, slots=True)
class FrameStamp:
    """Which frame a picture shows, without its raw pixels.

    Attributes:
        index: Of the frame, as `Frame.index`.
        captured: When, as `Frame.captured`.
    """

    index: int
    captured: Moment

    @classmethod
    def of(cls, frame: Frame) -> FrameStamp:
        """Of a frame."""
        return cls(frame.index, frame.captured)


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """A frame whose time has come.

    Attributes:
        stamp: Which one.
        image: Anonymised.
        sightings: Its objects, as judged then.
        looks: What the judge noted of them then.
    """

    stamp: FrameStamp
    image: AnonymisedImage
    sightings: tuple[Sighting, ...]
    looks: Looks


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A frame that waits: raw pixels, never to leave memory."""

    bgr: NDArray[np.uint8]
    stamp: FrameStamp
    sightings: tuple[Sighting, ...]
    lone: tuple[Sighting, ...]
    moving: Mask
    looks: Looks

    @property
    def time_s(self) -> float:
        return self.stamp.captured.media_time_s


class Holdover:
    """Frames of one camera position, on their way from the eyes to the sinks.

    Args:
        anonymiser: Passes every frame.
        frame_wh: Of the frames, pixels.
        delay_s: How long frames wait, media time. 0 looks back alone: heads before a first detection show.
        memory_bytes: Bound on what waits; two frames may wait always.

    Raises:
        UsageError: The delay is out of range.
    """

    def __init__(
        self,
        anonymiser: Anonymiser,
        frame_wh: tuple[int, int],
        delay_s: float = DELAY_S,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        check_delay(delay_s)
        self._anonymiser = anonymiser
        self._delay_s = delay_s
        self._memory_bytes = memory_bytes
        self._heads = HeadMemory(frame_wh)
        self._waiting: deque[_Waiting] = deque()
        self._kept_s = -np.inf

    @property
    def oldest_s(self) -> float:
        """Media time of the oldest frame that waits; infinite if none does."""
        return self._waiting[0].time_s if self._waiting else np.inf

    def __len__(self) -> int:
        return len(self._waiting)

    def push(
        self, frame: Frame, sightings: Sequence[Sighting], lone: Sequence[Sighting], moving: Mask, looks: Looks
    ) -> None:
        """Takes a frame in, and notes what it tells about heads.

        Args:
            frame: The raw frame; its pixels are copied.
            sightings: What motion saw in it.
            lone: The heads of people whom motion does not see, by a teacher or a model.
            moving: (H, W) bool, as the anonymiser takes it.
            looks: What the judge noted.

        Raises:
            PrivacyError: Something failed; the frame is dropped.
        """
        with fail_closed():
            heads = self._anonymiser.faces_in(frame.bgr)
            heads += [one.silhouette for one in lone]
            time_s = frame.captured.media_time_s
            self._heads.note(time_s, sightings, heads)
            if not self._has_room(time_s, frame.bgr.nbytes + moving.nbytes):
                return
            self._kept_s = time_s
            self._waiting.append(
                _Waiting(frame.bgr.copy(), FrameStamp.of(frame), tuple(sightings), tuple(lone), moving, looks)
            )

    def due(self, now_s: float, unrest: Mask) -> Passed | None:
        """Anonymises and hands on the oldest frame, if it has waited long enough; called with each frame that comes.

        Sinks that fell back by more than `SLACK_S`, after a gap or where frames come ever more slowly, skip frames.

        Args:
            now_s: Media time of the newest frame.
            unrest: (H, W) bool, what fidgets in the plate as far as it is known now.

        Raises:
            PrivacyError: The anonymiser failed; that frame is dropped, the others can be asked for again.
        """
        due_s = now_s - self._delay_s + _SAME_S
        waiting = self._waiting
        while len(waiting) > 1 and waiting[0].time_s < due_s - SLACK_S and waiting[1].time_s <= due_s:
            waiting.popleft()
        return self._pass(waiting.popleft(), unrest) if waiting and waiting[0].time_s <= due_s else None

    def drain(self, unrest: Mask) -> Iterator[Passed]:
        """Hands on all that waits, at the end; raises as `due` does."""
        while self._waiting:
            yield self._pass(self._waiting.popleft(), unrest)

    def _pass(self, waiting: _Waiting, unrest: Mask) -> Passed:
        with fail_closed():
            self._heads.forget(waiting.time_s)
            judged = self._heads.judged(waiting.sightings)
            also = self._heads.heads_at(waiting.time_s, judged)
            image = self._anonymiser(waiting.bgr, [*judged, *waiting.lone], waiting.moving | unrest, also)
        return Passed(waiting.stamp, image, waiting.sightings, waiting.looks)

    def _has_room(self, time_s: float, frame_bytes: int) -> bool:
        """Whether this frame may wait: evenly thinned out, so that those that do lie as far apart as they must."""
        room = max(2, self._memory_bytes // frame_bytes)
        spacing_s = self._delay_s / (room - 1)
        return len(self._waiting) < room and time_s - self._kept_s >= spacing_s - _SAME_S


def check_delay(delay_s: float) -> None:
    """Raises UsageError unless sinks can run so far behind."""
    if not 0 <= delay_s <= LONGEST_DELAY_S:
        raise UsageError(f"sinks cannot run {delay_s:g} s behind: give 0 to {LONGEST_DELAY_S:g}, mostly {DELAY_S:g}")
