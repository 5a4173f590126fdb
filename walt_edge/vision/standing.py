"""What stands still: holes that something left in the plate are healed, what parked becomes part of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import PatchMask
from walt_edge.vision.plate import Image

_GHOST_RATIO = 0.6
_EDGE_LEVEL = 12.0


def is_ghost(patch: PatchMask, frame: Image, plate: Image) -> bool:
    """Whether a silhouette that does not move is a hole in the plate rather than an object in the frame.

    An object has an edge along its outline in the frame, and the plate is calm there. A ghost is the other way round:
    what left was learned into the plate, so the plate has the edge and the frame shows calm ground.
    """
    seen, learned = _rim_edges(patch, frame), _rim_edges(patch, plate)
    return learned > _EDGE_LEVEL and seen < _GHOST_RATIO * learned


def _rim_edges(patch: PatchMask, image: Image) -> float:
    height, width = image.shape[:2]
    x0, y0, x1, y1 = patch.box_xyxy
    box = (max(0, x0 - 4), max(0, y0 - 4), min(width, x1 + 4), min(height, y1 + 4))
    grey = cv2.cvtColor(image[box[1] : box[3], box[0] : box[2]], cv2.COLOR_BGR2GRAY)
    steep = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    mask = patch.window(box).astype(np.uint8)
    kernel = np.ones((5, 5), np.uint8)
    rim = (cv2.dilate(mask, kernel) - cv2.erode(mask, np.ones((3, 3), np.uint8))) > 0
    return float(steep[rim].mean()) if rim.any() else 0.0


def grown(patch: PatchMask, radius_px: int, frame_wh: tuple[int, int]) -> PatchMask:
    """The patch with a rim, clipped to the frame."""
    x0, y0, x1, y1 = patch.box_xyxy
    box = (
        max(0, x0 - radius_px),
        max(0, y0 - radius_px),
        min(frame_wh[0], x1 + radius_px),
        min(frame_wh[1], y1 + radius_px),
    )
    kernel = np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8)
    mask: NDArray[np.bool_] = cv2.dilate(patch.window(box).astype(np.uint8), kernel) > 0
    return PatchMask(box[0], box[1], mask)
