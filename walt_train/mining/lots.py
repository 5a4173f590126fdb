"""The empty place behind stills that lie minutes apart: their plate, and what differs from it.

Nothing can be followed from one still to the next, and what is parked may stand in most of them. So the stills are
registered, brought to one light, and their median is taken twice: the second time without what stood out from the
first. Where a space was taken in most of them the median shows the vehicle, and a hole appears in the stills in which
it is away: the eyes know that from an object (`is_ghost`), and the plate takes the hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.motion import Motion, find_motion, light_gain, scaled
from walt_edge.vision.plate import Plate, masked_median
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.silhouettes import Silhouette, find_silhouettes
from walt_edge.vision.standing import grown, is_ghost

Image = NDArray[np.uint8]

SAMPLES = 40
SAMPLES_MIN = 5
_NOISE_MAX = 6.0  # what stands for hours is no noise, however often it comes and goes
_RIM_PX = 6
_FLOOD = 0.3  # a still of which more differs shows another light, and says nothing about its places


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One still against the plate.

    Attributes:
        motion: What differs.
        outlines: The silhouettes that are no holes in the plate.
        flooded: So much differs that another light is the likelier cause.
        empty_bgr: (H, W, 3) the plate in the still's light.
    """

    motion: Motion
    outlines: list[Silhouette]
    flooded: bool
    empty_bgr: Image


def learn_plate(stills: Sequence[Image], settings: WatchSettings) -> Plate:
    """The plate of registered stills, (H, W, 3) each; at least `SAMPLES_MIN`."""
    middle = np.median(np.stack(stills), axis=0).astype(np.uint8)
    level = [scaled(still, light_gain(middle, still)) for still in stills]
    plate = _plate(level, [None] * len(level), settings)
    hidden, holes = _hidden(level, plate, settings)
    plate = _plate(level, hidden, settings)
    for hole, still in holes:
        plate.adopt(still, hole)
    return plate


def look(still: Image, plate: Plate, settings: WatchSettings) -> Look:
    """Compares a registered still with the plate."""
    motion = find_motion(still, plate, settings)
    background = scaled(plate.bgr, motion.gain_bgr)
    outlines = [s for s in find_silhouettes(motion, settings) if not is_ghost(s.patch, still, background)]
    return Look(motion, outlines, float(motion.moving.mean()) > _FLOOD, background)


def _plate(stills: Sequence[Image], hidden: Sequence[Mask | None], settings: WatchSettings) -> Plate:
    median, noise, _ = masked_median(stills, hidden)
    quiet = np.minimum(noise, _NOISE_MAX).astype(np.uint8)
    # Every pixel is seen at rest in stills; where too few showed it, the plain median stands.
    return Plate(median, quiet, np.ones(median.shape[:2], bool), settings)


def _hidden(
    stills: Sequence[Image], plate: Plate, settings: WatchSettings
) -> tuple[list[Mask | None], list[tuple[PatchMask, Image]]]:
    """Per still what stands before the ground; and the plate's holes, each with a still that shows its ground."""
    height, width = plate.bgr.shape[:2]
    hidden: list[Mask | None] = []
    holes: list[tuple[PatchMask, Image]] = []
    for still in stills:
        motion = find_motion(still, plate, settings)
        objects = np.zeros((height, width), bool)
        for outline in find_silhouettes(motion, settings):
            region = grown(outline.patch, _RIM_PX, (width, height))
            if is_ghost(outline.patch, still, plate.bgr):
                holes.append((region, still))
            else:
                x0, y0, x1, y1 = region.box_xyxy
                objects[y0:y1, x0:x1] |= region.mask
        hidden.append(objects)
    return hidden, holes
