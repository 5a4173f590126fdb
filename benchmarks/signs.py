"""Lettered signs of a known place, painted into pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask

_SCALE = 8
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def sign(text: str, *, two_lines: bool = False) -> NDArray[np.uint8]:
    """Dark letters on a bright ground with a dark rim, large: 4.7 : 1, or 2 : 1 in two lines."""
    height = 24 * _SCALE
    width = round(height * (2.0 if two_lines else 4.7))
    picture = np.full((height, width, 3), 225, np.uint8)
    lines = [text[: len(text) // 2], text[len(text) // 2 :]] if two_lines else [text]
    row = height // len(lines)
    for number, line in enumerate(lines):
        thick = max(2, row // 9)
        (w, h), _ = cv2.getTextSize(line, _FONT, 1.0, 1)
        scale = min(0.62 * row / h, 0.88 * width / w)
        (w, h), _ = cv2.getTextSize(line, _FONT, scale, thick)
        corner = ((width - w) // 2, number * row + (row + h) // 2)
        cv2.putText(picture, line, corner, _FONT, scale, (25, 25, 25), thick, cv2.LINE_AA)
    cv2.rectangle(picture, (0, 0), (width - 1, height - 1), (40, 40, 40), _SCALE // 2)
    return picture


def lettered(
    bgr: NDArray[np.uint8],
    centre_xy: tuple[float, float],
    width_px: float,
    angle_deg: float,
    text: str,
    *,
    two_lines: bool = False,
    squeeze: float = 0.0,
) -> Mask:
    """Paints a sign into a picture, in place; returns its pixels.

    Args:
        bgr: (H, W, 3).
        centre_xy: Of the sign, pixels.
        width_px: Of a sign in one line; one in two is 0.6 times as wide.
        angle_deg: How far its ends are sheared up or down, as a vehicle's side is seen aslant.
        text: What it says.
        two_lines: Whether it is as high as half of its width.
        squeeze: How much higher its left end is than its right one, as part of the height.
    """
    picture = sign(text, two_lines=two_lines)
    high, wide = picture.shape[:2]
    w = width_px * (0.6 if two_lines else 1.0)
    h = w * high / wide
    corners = np.array([[-w / 2, -h / 2], [w / 2, -h / 2], [w / 2, h / 2], [-w / 2, h / 2]])
    corners[:, 1] *= 1 - squeeze * np.sign(corners[:, 0]) / 2
    corners[:, 1] += np.tan(np.deg2rad(angle_deg)) * corners[:, 0]
    corners += centre_xy
    height, width = bgr.shape[:2]
    source = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    # Painted four times as large and averaged, as a lens would.
    to = cv2.getPerspectiveTransform(source, (4 * corners).astype(np.float32))
    large = cv2.warpPerspective(picture, to, (4 * width, 4 * height))
    alpha = cv2.warpPerspective(np.full((high, wide), 255, np.uint8), to, (4 * width, 4 * height))
    small = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    share = cv2.resize(alpha, (width, height), interpolation=cv2.INTER_AREA)[..., None] / 255.0
    bgr[:] = np.round(bgr * (1 - share) + small * share).astype(np.uint8)
    inside: Mask = share[..., 0] > 0.5
    return inside
