"""Blending in whole numbers: the same pixels on every machine."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_train.clipart.pieces import Box

_SHADOW_SIDE = 64


def blend(
    canvas: NDArray[np.uint8], xy: tuple[int, int], image_bgr: NDArray[np.uint8], alpha: NDArray[np.uint8]
) -> None:
    """Paints a patch onto the picture.

    Args:
        canvas: (H, W, 3) uint8, changed in place.
        xy: Top left corner of the patch, which lies wholly in the picture.
        image_bgr: (h, w, 3) uint8.
        alpha: (h, w) uint8; 255 leaves nothing of what is under it.
    """
    (x, y), (height, width) = xy, alpha.shape
    under = canvas[y : y + height, x : x + width]
    # 0..255 to 0..256, so that a shift divides exactly and full alpha leaves nothing of what is under it.
    share = _on_channels(alpha).astype(np.uint16)
    share += share >> np.uint16(7)
    mixed = image_bgr * share
    np.subtract(256, share, out=share)
    share *= under
    mixed += share
    mixed += 128
    mixed >>= 8
    under[:] = mixed


def shade(canvas: NDArray[np.uint8], box: Box, strength: int) -> None:
    """Takes light from the ground around an object's contact with it.

    Args:
        canvas: (H, W, 3) uint8, changed in place.
        box: The object's footprint in the picture; may leave it.
        strength: Light taken in the middle, 0..256.
    """
    x0, y0, x1, y1 = box
    reach_x, reach_y = (x1 - x0) // 4, max(2, (y1 - y0) // 2)
    x0, y0, x1, y1 = x0 - reach_x, y0 - reach_y, x1 + reach_x, y1 + reach_y
    left, top, right, bottom = max(0, x0), max(0, y0), min(canvas.shape[1], x1), min(canvas.shape[0], y1)
    if left >= right or top >= bottom or strength == 0:
        return
    soft = cv2.resize(_SHADOW, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR_EXACT)
    light = _on_channels(soft[top - y0 : bottom - y0, left - x0 : right - x0]).astype(np.uint16)
    light *= np.uint16(strength)
    light >>= 8
    np.subtract(256, light, out=light)
    ground = canvas[top:bottom, left:right]
    light *= ground
    light >>= 8
    ground[:] = light


def _on_channels(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) to (h, w, 3): NumPy is several times slower where it has to broadcast over three channels."""
    three: NDArray[np.uint8] = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    return three


def _shadow() -> NDArray[np.uint8]:
    """A soft disc: 255 in the middle, 0 at the rim."""
    offsets = 2 * np.arange(_SHADOW_SIDE) - (_SHADOW_SIDE - 1)
    squares = offsets[:, None] ** 2 + offsets[None, :] ** 2
    disc: NDArray[np.uint8] = np.clip(255 - squares * 255 // _SHADOW_SIDE**2, 0, 255).astype(np.uint8)
    disc.flags.writeable = False
    return disc


_SHADOW = _shadow()
