"""Masks of motion made fit to be truth: shadows cut off, windows filled, holes in the background left out.

Eyes that see motion see the shadow under a car as well, and miss the window that is as grey as the road. Both are
plain in the picture of an object that stands still, whose noise the median of its frames takes away: the outline is
fitted to it within a narrow band (GrabCut; Rother, Kolmogorov and Blake 2004). And where something has left that was
taken for background, motion sees an object that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.plate import Image
from walt_edge.vision.standing import is_ghost
from walt_train.metrics.swalt import StillObject, Timeline, covered, tight

Pictures = Callable[[Sequence[int]], Iterator[Image]]
"""The (H, W, 3) uint8 BGR pictures of some frames of a timeline, given in increasing order."""

_FRAMES_MAX = 9
_INNER, _OUTER = 0.07, 0.035
"""Width of the band in which the outline may move, inwards and outwards, as parts of the side of its square."""
_BAND_MIN_PX = 2
_ROUNDS = 3
_EMPTY = 0.05


def refined(objects: Sequence[StillObject], timeline: Timeline, pictures: Pictures) -> list[StillObject]:
    """The objects that are real, with outlines that fit the pictures.

    Args:
        objects: Of `still_objects`.
        timeline: That they are from.
        pictures: Of its frames.
    """
    kept = []
    for thing in objects:
        median = np.median(np.stack(list(pictures(_spread(thing.whole)))), axis=0).astype(np.uint8)
        # An outline is where edges come and go: beside the object, its empty place looks like a hole that it left.
        holes = [is_ghost(thing.amodal, empty, median) for empty in pictures(_empty_frames(thing, timeline))]
        if 2 * sum(holes) >= len(holes):
            kept.append(replace(thing, amodal=fitted(thing.amodal, median)))
    return kept


def fitted(mask: PatchMask, picture: Image) -> PatchMask:
    """A mask with its outline moved to the picture's edges, within a band.

    Args:
        mask: Not empty.
        picture: (H, W, 3) uint8 BGR.

    Returns:
        The tight mask; the same one where the picture says nothing.
    """
    side = np.sqrt(mask.area)
    inner, outer = (max(_BAND_MIN_PX, round(part * side)) for part in (_INNER, _OUTER))
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = mask.box_xyxy
    rim = inner + 3 * outer
    box = max(0, x0 - rim), max(0, y0 - rim), min(width, x1 + rim), min(height, y1 + rim)
    known = _known(mask.window(box), inner, outer)
    window = np.ascontiguousarray(picture[box[1] : box[3], box[0] : box[2]])
    if not (known == cv2.GC_FGD).any() or not (known == cv2.GC_BGD).any():
        return mask
    cv2.setRNGSeed(0)  # GrabCut's clusters begin at random
    cv2.grabCut(window, known, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return tight(PatchMask(box[0], box[1], (known == cv2.GC_FGD) | (known == cv2.GC_PR_FGD)))


def _known(mask: Mask, inner: int, outer: int) -> NDArray[np.uint8]:
    """GrabCut's marks: what is sure, and what is probable in the band."""
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, _disc(inner))
    known = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    known[cv2.dilate(closed, _disc(outer)) > 0] = cv2.GC_PR_BGD
    known[closed > 0] = cv2.GC_PR_FGD
    known[cv2.erode(closed, _disc(inner)) > 0] = cv2.GC_FGD
    return known


def _disc(radius_px: int) -> NDArray[np.uint8]:
    disc: NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1,) * 2)
    return disc


def _spread(frames: Sequence[int]) -> list[int]:
    """Some of the frames, evenly, in order; none of none."""
    places = np.linspace(0, len(frames) - 1, min(_FRAMES_MAX, len(frames))).round().astype(int)
    return [frames[place] for place in places.tolist()]


def _empty_frames(thing: StillObject, timeline: Timeline) -> list[int]:
    """Some frames out of the object's stay, in which nothing is seen at its place."""
    begin, end = thing.whole[0], thing.whole[-1]
    outside = (frame for frame in range(len(timeline.rows)) if not begin <= frame <= end)
    return _spread([frame for frame in outside if covered(timeline, frame, thing.amodal) < _EMPTY])
