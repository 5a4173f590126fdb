"""Masks of motion made fit to be truth: shadows cut off, windows filled, and what is not seen well left out.

Eyes that see motion see the shadow under a car as well, miss the window that is as grey as the road, and take two
cars that overlap for one. All that is plain in the median of the frames in which an object stands, beside its place
without it: see `swalt_outline`. A truth may be small, but it has to be right: what is in doubt is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from walt_edge.vision.plate import Image
from walt_train.metrics.swalt import StillObject
from walt_train.metrics.swalt_outline import outline

Pictures = Callable[[Sequence[int]], Iterator[Image]]
"""The (H, W, 3) uint8 BGR pictures of some frames of a timeline, given in increasing order."""

_FRAMES_MAX = 9


def refined(objects: Sequence[StillObject], pictures: Pictures, ground: Image) -> list[StillObject]:
    """The objects whose outlines can be believed, with outlines that fit the pictures.

    What never left its place is part of the ground, and is left out.

    Args:
        objects: Of `still_objects`.
        pictures: Of the timeline that they are from.
        ground: (H, W, 3) uint8, the place without objects: `recurrent_ground`.
    """
    kept = []
    for thing in objects:
        median = np.median(np.stack(list(pictures(spread(thing.whole, _FRAMES_MAX)))), axis=0).astype(np.uint8)
        found = outline(thing.amodal, median, ground)
        if found is not None and found[1].small:
            kept.append(replace(thing, amodal=found[0]))
    return kept


def spread(frames: Sequence[int], most: int) -> list[int]:
    """At most so many of the frames, evenly, in order; none of none."""
    places = np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int)
    return [frames[place] for place in places.tolist()]
