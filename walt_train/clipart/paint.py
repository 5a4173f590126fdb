"""Blending in whole numbers: the same pixels on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import PatchMask
from walt_train.clipart.arrange import Spot
from walt_train.clipart.material import ALPHA_HALF, Box

_ONE = 1 << 16
_SHADOW_SIDE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Sticker:
    """An object as it will be painted, clipped to the picture.

    Attributes:
        spot: Where it stands in the frame.
        xy: Top left corner of the patch in the picture.
        image_bgr: (h, w, 3) uint8.
        alpha: (h, w) uint8.
        mask: Where alpha is 128 and more, tight, in the picture.
    """

    spot: Spot
    xy: tuple[int, int]
    image_bgr: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    mask: PatchMask


def cut_sticker(spot: Spot, window: Box) -> Sticker | None:
    """Scales an object and clips it to a window of the frame; None if nothing of its mask is left."""
    image, alpha, x, y = spot.cutout.image_bgr, spot.cutout.alpha, *_corner(spot)
    if spot.scale != _ONE:
        height, width = alpha.shape
        # INTER_LINEAR_EXACT is OpenCV's fixed-point bilinear: bit-exact on every processor, unlike INTER_AREA.
        size = (max(3, width * spot.scale >> 16), max(3, height * spot.scale >> 16))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR_EXACT)
    height, width = alpha.shape
    left, top = max(0, window[0] - x), max(0, window[1] - y)
    right, bottom = min(width, window[2] - x), min(height, window[3] - y)
    if left >= right or top >= bottom:
        return None
    image, alpha = image[top:bottom, left:right], alpha[top:bottom, left:right]
    tight = PatchMask.from_full(alpha >= ALPHA_HALF)
    if tight.mask.size == 0:
        return None
    at_x, at_y = x + left - window[0], y + top - window[1]
    return Sticker(spot, (at_x, at_y), image, alpha, PatchMask(at_x + tight.x, at_y + tight.y, tight.mask))


def _corner(spot: Spot) -> tuple[int, int]:
    """Top left of the patch: it has a pixel of context, which scales with it."""
    context = spot.scale >> 16
    return spot.box_xyxy[0] - context, spot.box_xyxy[1] - context


def blend(canvas: NDArray[np.uint8], sticker: Sticker, gain: NDArray[np.uint8]) -> None:
    """Paints an object onto the picture.

    Args:
        canvas: (H, W, 3) uint8, changed in place.
        sticker: What to paint.
        gain: (256,) uint8 table of the object's own light.
    """
    (x, y), (height, width) = sticker.xy, sticker.alpha.shape
    under = canvas[y : y + height, x : x + width]
    # 0..255 to 0..256, so that a shift divides exactly and full alpha leaves nothing of what is under it.
    alpha = _on_channels(sticker.alpha).astype(np.uint16)
    alpha += alpha >> np.uint16(7)
    mixed = cv2.LUT(sticker.image_bgr, gain) * alpha
    np.subtract(256, alpha, out=alpha)
    alpha *= under
    mixed += alpha
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


def light_table(gain: int, bend: int = 0) -> NDArray[np.uint8]:
    """A table of grey levels.

    Args:
        gain: 256 leaves the light as it is.
        bend: Lifts the middle levels by at most this many, as a gamma below 1 does; negative lowers them.
    """
    levels = np.arange(256, dtype=np.int32)
    bent = levels + 4 * bend * levels * (255 - levels) // (255 * 255)
    return np.clip((bent * gain + 128) >> 8, 0, 255).astype(np.uint8)
