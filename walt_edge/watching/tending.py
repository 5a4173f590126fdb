"""Keeps the plate of one camera position true: heals ghosts, takes in what parks, follows the light."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from walt_edge.camera import Frame
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.privacy.heads import covers
from walt_edge.privacy.number_plates import number_plates
from walt_edge.vision.ground import Sizes
from walt_edge.vision.motion import Motion
from walt_edge.vision.plate import Plate, SampleBuffer
from walt_edge.vision.restless import Restlessness
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.sightings import Sighting
from walt_edge.vision.standing import grown, is_ghost
from walt_edge.watching.tracking import Match

_OCCUPIED_RIM_PX = 3
_ADOPT_RIM_PX = 4
_PASSING_HEIGHTS = 0.5  # who has gone this far since first seen is passing, not swaying


class Tender:
    """The plate and what is known about it.

    Args:
        buffer: The frames to learn it from; later ones are added.
        frame_wh: Of the frames, pixels.
        began_s: Media time of the first.
        time_s: Of the newest.
        settings: How to watch.

    Attributes:
        plate: The working background.
        restless: What fidgets in it, and the heads that it has taken in.
    """

    def __init__(
        self,
        buffer: SampleBuffer,
        frame_wh: tuple[int, int],
        began_s: float,
        time_s: float,
        settings: WatchSettings,
    ) -> None:
        self._buffer = buffer
        self._frame_wh = frame_wh
        self._settings = settings
        self._followed_s = self._found_s = began_s
        self._relearned_s = time_s
        self.plate = Plate.learn(buffer, settings)
        self.restless = Restlessness(frame_wh, settings)
        self.restless.learn(buffer.frames, self.plate)

    def tend(
        self, frame: Frame, motion: Motion, sightings: Sequence[Sighting], matches: Sequence[Match], sizes: Sizes
    ) -> list[PatchMask]:
        """Takes one more frame into account.

        Args:
            frame: The raw frame.
            motion: What differs in it.
            sightings: Its objects.
            matches: What the tracker says about each.
            sizes: How large things are where they stand.

        Returns:
            Regions in which the plate now shows something else.
        """
        time_s, settings = frame.captured.media_time_s, self._settings
        elapsed = time_s - self._followed_s
        if elapsed < settings.update_s:
            return []
        self._followed_s = time_s
        changed = []
        for sighting, match in zip(sightings, matches, strict=True):
            if match.track is not None and match.track.still_since_s is not None:
                changed += self._take_in(frame, sighting, time_s - match.track.still_since_s)
        self._note_restless(frame, motion, _passing(motion, sightings, matches), sizes, elapsed)
        kernel = np.ones((2 * _OCCUPIED_RIM_PX + 1,) * 2, np.uint8)
        occupied = cv2.dilate((motion.solid | motion.moving).astype(np.uint8), kernel) > 0
        self.plate.follow(frame.bgr, motion.difference, occupied, min(elapsed, 5.0))
        self._buffer.offer(frame.bgr, time_s)
        if time_s - self._relearned_s >= settings.relearn_s:
            self._relearned_s = time_s
            self.plate.relearn(self._buffer)
        return changed

    def _take_in(self, frame: Frame, sighting: Sighting, still_s: float) -> list[PatchMask]:
        """Heals a ghost, or makes what has parked a part of the plate, in which head and number plate stay filled."""
        settings, silhouette = self._settings, sighting.silhouette
        ghost = still_s > settings.ghost_s and is_ghost(silhouette, frame.bgr, self.plate.bgr)
        if not ghost and still_s <= settings.parked_s:
            return []
        region = grown(silhouette, _ADOPT_RIM_PX, self._frame_wh)
        self.plate.adopt(frame.bgr, region)
        if ghost:
            self.restless.forget(region)
        else:
            for hidden in [*covers([sighting], self._frame_wh), *number_plates(frame.bgr, sighting)]:
                self.restless.hold(hidden)
        return [region]

    def _note_restless(self, frame: Frame, motion: Motion, passing: Mask, sizes: Sizes, elapsed_s: float) -> None:
        """Learns what fidgets in the plate; what passes before it does not count."""
        self.restless.note(frame.bgr, motion, self.plate, passing, elapsed_s)
        time_s = frame.captured.media_time_s
        if time_s - self._found_s >= self._settings.restless_find_s:
            self._found_s = time_s
            self.restless.find(self.plate, sizes)


def _passing(motion: Motion, sightings: Sequence[Sighting], matches: Sequence[Match]) -> Mask:
    passing = np.zeros(motion.moving.shape, bool)
    for sighting, match in zip(sightings, matches, strict=True):
        if match.track is not None and match.track.travelled_heights() > _PASSING_HEIGHTS:
            x0, y0, x1, y1 = sighting.silhouette.box_xyxy
            passing[y0:y1, x0:x1] |= sighting.silhouette.mask
    return passing
