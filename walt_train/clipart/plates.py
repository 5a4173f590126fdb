"""Plates without holes: what nobody saw of one is taken from others, or from what is near."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask
from walt_edge.privacy.heads import GROW_PX

_RINGING_PX = 2


def trusted(known: Mask) -> Mask:
    """Known pixels clear of unknown ones: the anonymiser's filling reaches over the edge, and JPEG smears it."""
    reach = 2 * (GROW_PX + _RINGING_PX) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return np.asarray(cv2.dilate((~known).astype(np.uint8), disc) == 0, dtype=bool)


def fill_unknown(images: Sequence[NDArray[np.uint8]], known: Sequence[Mask]) -> tuple[NDArray[np.uint8], Mask]:
    """The first plate with its unknown pixels filled from the others, in order, then from known pixels near by.

    Args:
        images: (H, W, 3) uint8 each; the first is the one to fill.
        known: (H, W) bool each; at least one pixel is known in one of them.

    Returns:
        The plate, and (H, W) bool which of its pixels none of them knows.
    """
    filled, seen = images[0].copy(), known[0].copy()
    for image, mask in zip(images[1:], known[1:], strict=True):
        if seen.all():
            break
        new = mask & ~seen
        filled[new] = image[new]
        seen |= new
    if not seen.all():
        filled[~seen] = _spread(filled, seen)[~seen]
    return filled, ~seen


def _spread(image: NDArray[np.uint8], seen: Mask) -> NDArray[np.uint8]:
    """Every pixel's value, unknown ones from the known of ever wider surroundings (pull-push, Grossman and Dally)."""
    if seen.all():
        return image
    height, width = seen.shape
    even = ((0, height % 2), (0, width % 2))
    weight = np.pad(seen, even).astype(np.int32)
    value = np.pad(image, (*even, (0, 0))).astype(np.int32) * weight[..., None]
    count = _sum_2x2(weight)
    coarse = ((_sum_2x2(value) + count[..., None] // 2) // np.maximum(count, 1)[..., None]).astype(np.uint8)
    size = (2 * coarse.shape[1], 2 * coarse.shape[0])
    # INTER_LINEAR_EXACT is OpenCV's fixed-point bilinear: bit-exact on every processor.
    wide = cv2.resize(_spread(coarse, count > 0), size, interpolation=cv2.INTER_LINEAR_EXACT)[:height, :width]
    return np.where(seen[..., None], image, wide)


def _sum_2x2(values: NDArray[np.int32]) -> NDArray[np.int32]:
    return values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
