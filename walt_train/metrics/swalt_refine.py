"""Masks of motion made fit to be truth: shadows cut off, windows filled, and what is not seen well left out.

Eyes that see motion see the shadow under a car as well, miss the window that is as grey as the road, and take two
cars that overlap for one. All that is plain in the median of the frames in which an object stands, beside its place
without it: see `swalt_outline`. A truth may be small, but it has to be right: what is in doubt is left out.

They take a car and who walks by before it for one thing, too. But what stands looks the same in each frame: where its
place looks otherwise, something is before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.plate import Image
from walt_edge.vision.silhouettes import is_upright
from walt_train.metrics.swalt import StillObject, Timeline
from walt_train.metrics.swalt_ground import largest_difference
from walt_train.metrics.swalt_outline import in_light_of, outline

Pictures = Callable[[Sequence[int]], Iterator[Image]]
"""The (H, W, 3) uint8 BGR pictures of some frames of a timeline, given in increasing order."""

_FRAMES_MAX = 9
_OTHERWISE = 30
"""Grey levels from which on a place looks otherwise: most shadows that fall on an object take less."""
_SPECK_PX = 24


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """An object that can be believed, and what its place looks like with it.

    Attributes:
        thing: With an outline that fits the pictures.
        picture: (h, w, 3) uint8, the window of its amodal mask.
    """

    thing: StillObject
    picture: Image

    def covered(self, bgr: Image) -> PatchMask:
        """Where an (H, W, 3) frame shows something else inside its mask."""
        mask = self.thing.amodal
        x0, y0, x1, y1 = mask.box_xyxy
        now = bgr[y0:y1, x0:x1]
        usual = in_light_of(self.picture, now, mask.mask)
        other = mask.mask & (largest_difference(now, usual) > _OTHERWISE)
        smooth = cv2.morphologyEx(other.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(smooth, connectivity=8)
        large = stats[:, cv2.CC_STAT_AREA] >= _SPECK_PX
        large[0] = False
        return PatchMask(x0, y0, np.asarray(large[labels], bool))


def refined(objects: Sequence[StillObject], pictures: Pictures, ground: Image) -> list[Portrait]:
    """The objects whose outlines can be believed, with outlines that fit the pictures.

    What never left its place is part of the ground, and is left out; so is a person who is not upright, for motion
    takes classes from shapes, and a part of a car has any shape.

    Args:
        objects: Of `still_objects`.
        pictures: Of the timeline that they are from.
        ground: (H, W, 3) uint8, the place without objects: `recurrent_ground`.
    """
    kept = []
    for thing in objects:
        median = np.median(np.stack(list(pictures(spread(thing.whole, _FRAMES_MAX)))), axis=0).astype(np.uint8)
        found = outline(thing.amodal, median, ground)
        if found is not None and found[1].small and _is_of_its_class(thing.label, found[0]):
            x0, y0, x1, y1 = found[0].box_xyxy
            kept.append(Portrait(replace(thing, amodal=found[0]), median[y0:y1, x0:x1].copy()))
    return kept


def _is_of_its_class(label: Label, mask: PatchMask) -> bool:
    return label is not Label.PERSON or is_upright(mask.mask)


def passers(portraits: Sequence[Portrait], timeline: Timeline, pictures: Pictures) -> list[PatchMask | None]:
    """By frame, what is before the standing objects; None for nothing.

    Args:
        portraits: Of `refined`.
        timeline: That they are from.
        pictures: Of its frames.
    """
    present = [
        [one for one in portraits if one.thing.interval_us[0] <= time_us <= one.thing.interval_us[1]]
        for time_us in timeline.times_us.tolist()
    ]
    found: list[PatchMask | None] = [None] * len(present)
    places = [place for place, here in enumerate(present) if here]
    for place, bgr in zip(places, pictures(places), strict=True):
        before = np.zeros(bgr.shape[:2], bool)
        for one in present[place]:
            covered = one.covered(bgr)
            x0, y0, x1, y1 = covered.box_xyxy
            before[y0:y1, x0:x1] |= covered.mask
        found[place] = PatchMask.from_full(before) if before.any() else None
    return found


def spread(frames: Sequence[int], most: int) -> list[int]:
    """At most so many of the frames, evenly, in order; none of none."""
    places = np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int)
    return [frames[place] for place in places.tolist()]
