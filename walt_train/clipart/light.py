"""The light at a place, and what it takes to bring an object from one light to another.

How bright a piece of ground is says nothing about the light, since grass is darker than concrete. So each plate is
compared with the brightest that any plate of the camera shows the same place: what is left is how much of the most
light ever seen there falls on it now, per channel. Two places can be compared by that, and the ratio is the gain
that an object needs which is moved from one to the other, or from noon to evening. Whole numbers throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask

Box = tuple[int, int, int, int]
Light = tuple[int, int, int]
"""Blue, green and red, times 65,536: 65,536 is as bright as it ever was."""

FULL_LIGHT: Light = (1 << 16, 1 << 16, 1 << 16)
NO_GAIN = 256
_GAIN_RANGE = (NO_GAIN // 3, NO_GAIN * 3)
_CELL_PX = 16
_BLACK = 2  # grey levels added to both sides of a ratio: in the dark it says nothing
_RING_MIN_PX = 64
_HALO_PX = 3  # the silhouette's halo, and the darkest of its shadow
_RING_RANGE = (NO_GAIN * 2 // 3, NO_GAIN * 3 // 2)


@dataclass(frozen=True, slots=True, eq=False)
class LightMap:
    """The light of one plate.

    Attributes:
        sums: (rows + 1, columns + 1, 3) int64 of 16 px cells, summed from the top left corner.
        brightest: The same of the brightest that any plate shows each cell.
    """

    sums: NDArray[np.int64]
    brightest: NDArray[np.int64]

    def at(self, box_xyxy: Box) -> Light:
        """Light on the ground that an object with this box stands on; it may leave the frame."""
        left, top, right, bottom = _surroundings(box_xyxy, self.sums.shape[1] - 1, self.sums.shape[0] - 1)
        ours, most = (
            grid[bottom, right] - grid[top, right] - grid[bottom, left] + grid[top, left]
            for grid in (self.sums, self.brightest)
        )
        blue, green, red = ((ours << 16) // most).tolist()  # never 0: see _BLACK
        return blue, green, red


def _surroundings(box: Box, columns: int, rows: int) -> Box:
    """Cells of the lower two thirds of the box, as much again to both sides, and a little before it."""
    x0, y0, x1, y1 = box
    wide, third = (x1 - x0) // 2, (y1 - y0) // 3
    left = min(max((x0 - wide) // _CELL_PX, 0), columns - 1)
    top = min(max((y0 + third) // _CELL_PX, 0), rows - 1)
    right = min(max(-(-(x1 + wide) // _CELL_PX), left + 1), columns)
    bottom = min(max(-(-(y1 + third // 2) // _CELL_PX), top + 1), rows)
    return left, top, right, bottom


def light_maps(images: Sequence[NDArray[np.uint8]]) -> list[LightMap]:
    """The light of each of a camera's plates.

    Args:
        images: (H, W, 3) uint8 each, of the same size, without holes.
    """
    cells = [_cells(image) for image in images]
    brightest = _summed(np.max(cells, axis=0))
    return [LightMap(_summed(one), brightest) for one in cells]


def _cells(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(rows, columns, 3) grey levels of each cell, times 256."""
    height, width = image.shape[:2]
    rows, columns = np.arange(0, height, _CELL_PX), np.arange(0, width, _CELL_PX)
    sums = np.add.reduceat(np.add.reduceat(image, rows, axis=0, dtype=np.int64), columns, axis=1)
    tall, wide = np.diff(np.append(rows, height)), np.diff(np.append(columns, width))
    return np.asarray((sums << 8) // (tall[:, None, None] * wide[None, :, None]) + (_BLACK << 8))


def _summed(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.pad(cells, ((1, 0), (1, 0), (0, 0))).cumsum(axis=0).cumsum(axis=1)


def own_light(
    plate_light: Light, crop_bgr: NDArray[np.uint8], mask: Mask, plate_bgr: NDArray[np.uint8], known: Mask
) -> Light:
    """The light in which a clip was seen: that of its plate there, corrected by the ground around it in the clip.

    The correction is a median of ratios, so that a shadow or another object beside it does not count.

    Args:
        plate_light: Of the plate at the place of the clip.
        crop_bgr: (h, w, 3) uint8, the clip with some ground around it.
        mask: (h, w) bool, the object.
        plate_bgr: (h, w, 3) uint8, the plate at the same place.
        known: (h, w) bool, where the plate is known.
    """
    size = 2 * _HALO_PX + 1
    ring = (cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) == 0) & known
    if np.count_nonzero(ring) < _RING_MIN_PX:
        return plate_light
    now, then = (image[ring].astype(np.int64) + _BLACK for image in (crop_bgr, plate_bgr))
    ratios = np.sort((now << 8) // then, axis=0)[len(now) // 2]
    blue, green, red = (
        light * min(max(ratio, _RING_RANGE[0]), _RING_RANGE[1]) >> 8
        for light, ratio in zip(plate_light, ratios.tolist(), strict=True)
    )
    return max(blue, 1), max(green, 1), max(red, 1)


def gains(seen_in: Light, stands_in: Light) -> Light:
    """What brings an object's colours from one light to another, per channel, times 256; a third to three times."""
    low, high = _GAIN_RANGE
    blue, green, red = (
        min(max(math.isqrt((new << 16) // old), low), high) for old, new in zip(seen_in, stands_in, strict=True)
    )
    return blue, green, red


def steps_apart(gain: Light) -> int:
    """How unlike two lights are: eighths by which the channel that changes most grows or shrinks."""
    most = max(max(gain), NO_GAIN * NO_GAIN // min(gain))
    return (most - NO_GAIN) // (NO_GAIN // 8)


@lru_cache(maxsize=4096)
def light_table(gain: int, bend: int = 0) -> NDArray[np.uint8]:
    """A table of grey levels, (256,) uint8, read-only.

    Args:
        gain: 256 leaves the light as it is.
        bend: Lifts the middle levels by at most this many, as a gamma below 1 does; negative lowers them.
    """
    levels = np.arange(256, dtype=np.int32)
    bent = levels + 4 * bend * levels * (255 - levels) // (255 * 255)
    table: NDArray[np.uint8] = np.clip((bent * gain + 128) >> 8, 0, 255).astype(np.uint8)
    table.flags.writeable = False
    return table


def relit(image_bgr: NDArray[np.uint8], gain: Light) -> NDArray[np.uint8]:
    """The picture with each channel multiplied; (h, w, 3) uint8, the same array where nothing changes."""
    blue, green, red = gain
    if blue == green == red:
        return image_bgr if blue == NO_GAIN else np.asarray(cv2.LUT(image_bgr, light_table(blue)), np.uint8)
    tables = np.stack([light_table(blue), light_table(green), light_table(red)], axis=-1)
    return np.asarray(cv2.LUT(image_bgr, tables[None]), np.uint8)
