"""What differs from the plate, and which part of that is only shadow."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask
from walt_edge.vision.plate import Image, Plate
from walt_edge.vision.settings import WatchSettings

_GAIN_STEP = 8
_WINDOW = (5, 5)
_GAIN_RANGE = (0.5, 2.0)
_OFFSET = np.float32(4.0)  # keeps the ratio of black pixels finite and quiet


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """One frame against the plate.

    Attributes:
        difference: (H, W) uint8, largest channel's |frame - plate|, the plate scaled to the frame's light.
        moving: (H, W) bool, everything that differs, shadows included.
        solid: (H, W) bool, without shadows.
        strong: (H, W) bool, the sure core of it.
        contact: (H, W) bool, what may be the dark shadow under an object, believed only at its foot.
        plate_gradient: (H, W) uint8, the plate's edges.
        gain_bgr: What the plate was multiplied with to match the frame's light.
    """

    difference: NDArray[np.uint8]
    moving: Mask
    solid: Mask
    strong: Mask
    contact: Mask
    plate_gradient: NDArray[np.uint8]
    gain_bgr: tuple[float, float, float]


def find_motion(frame: Image, plate: Plate, settings: WatchSettings) -> Motion:
    """Compares a frame with the plate."""
    gain = light_gain(frame, plate.bgr)
    background = scaled(plate.bgr, gain)
    difference = _largest_channel(cv2.absdiff(frame, background))
    weak = cv2.medianBlur(cv2.compare(difference, plate.threshold, cv2.CMP_GT), 3)
    strong = cv2.compare(difference, cv2.convertScaleAbs(plate.threshold, alpha=settings.strong_ratio), cv2.CMP_GT)
    shadow, contact = find_shadow(frame, background, weak, settings)
    solid = cv2.medianBlur(cv2.bitwise_and(weak, cv2.bitwise_not(shadow)), 3)
    moving: Mask = weak > 0
    return Motion(difference, moving, solid > 0, (strong > 0) & (solid > 0), contact > 0, plate.gradient, gain)


def light_gain(frame: Image, plate: Image) -> tuple[float, float, float]:
    """Per-channel factor from plate to frame: the median of the ratio on a grid, robust while half is background."""
    now = frame[::_GAIN_STEP, ::_GAIN_STEP].reshape(-1, 3).astype(np.float32)
    then = plate[::_GAIN_STEP, ::_GAIN_STEP].reshape(-1, 3).astype(np.float32)
    fair = ((then > 24) & (then < 240) & (now < 250)).all(axis=1)
    if np.count_nonzero(fair) < 64:
        return (1.0, 1.0, 1.0)
    ratio = np.clip(np.median(now[fair] / then[fair], axis=0), *_GAIN_RANGE)
    return (float(ratio[0]), float(ratio[1]), float(ratio[2]))


def scaled(plate: Image, gain: tuple[float, float, float]) -> Image:
    """A plate in the light of another moment, by `light_gain`."""
    if max(abs(value - 1.0) for value in gain) < 0.01:
        return plate
    levels = np.arange(256, dtype=np.float32)[:, None] * np.asarray(gain, np.float32)
    table = np.clip(levels + 0.5, 0, 255).astype(np.uint8).reshape(256, 1, 3)
    scaled: Image = cv2.LUT(plate, table)
    return scaled


def _largest_channel(image: Image) -> NDArray[np.uint8]:
    blue, green, red = cv2.split(image)
    largest: NDArray[np.uint8] = cv2.max(cv2.max(blue, green), red)
    return largest


def find_shadow(
    frame: Image, background: Image, weak: NDArray[np.uint8], settings: WatchSettings
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Where the frame is an evenly darkened plate of the same colour; 255 or 0, inside `weak`.

    A cast shadow scales what it falls on, so frame / plate is below one and smooth; a surface brings a texture and a
    colour of its own.

    Returns:
        What is taken for shadow anywhere, and what is at an object's foot, where it may be darker.
    """
    shadow, contact = np.zeros(weak.shape, np.uint8), np.zeros(weak.shape, np.uint8)
    for x0, y0, x1, y1 in _regions(weak):
        window = (slice(y0, y1), slice(x0, x1))
        shades = _Shades.of(frame[window], background[window])
        shadow[window] = _anywhere(shades, weak[window], settings)
        contact[window] = _at_foot(shades, settings)
    return cv2.bitwise_and(shadow, weak), cv2.bitwise_and(contact, weak)


def _regions(weak: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
    """A few boxes that cover the moving pixels: whole tiles, so that the arithmetic runs on arrays."""
    tile = 64
    height, width = weak.shape
    coarse = cv2.resize(weak, (-(-width // tile), -(-height // tile)), interpolation=cv2.INTER_AREA)
    boxes = []
    for row in range(coarse.shape[0]):
        columns = np.flatnonzero(coarse[row])
        if columns.size:
            x0, x1 = int(columns[0]) * tile, min(width, (int(columns[-1]) + 1) * tile)
            boxes.append((x0, row * tile, x1, min(height, (row + 1) * tile)))
    return boxes


@dataclass(frozen=True, slots=True, eq=False)
class _Shades:
    """Frame / plate: its mean over the channels, and how far the channels lie apart."""

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def of(cls, frame: Image, background: Image) -> _Shades:
        ratio = cv2.divide(frame + _OFFSET, background + _OFFSET)
        blue, green, red = cv2.split(ratio)
        spread = cv2.max(cv2.max(blue, green), red) - cv2.min(cv2.min(blue, green), red)
        return cls((blue + green + red) * np.float32(1 / 3), spread)

    def even(self, low: float, high: float, spread: float, deviation: float) -> tuple[Mask, Mask]:
        """Pixels darkened between `low` and `high` in their own colour, and those of them that are so evenly.

        Averages run over such pixels only, so that an object beside its shadow does not count; and the deviation from
        a local mean is nothing on a slope: soft shadows fade out evenly.
        """
        darker: Mask = (self.mean > low) & (self.mean < high) & (self.spread < spread)
        weight = darker.astype(np.float32)
        count = cv2.blur(weight, _WINDOW) + np.float32(1e-3)
        uneven = (self.mean - cv2.blur(self.mean * weight, _WINDOW) / count) * weight
        variance = cv2.blur(uneven * uneven, _WINDOW) / count
        return darker, darker & (variance < deviation**2)


def _anywhere(shades: _Shades, weak: NDArray[np.uint8], settings: WatchSettings) -> NDArray[np.uint8]:
    low, high = settings.shadow_ratio
    darker, sure = shades.even(low, high, settings.shadow_chroma, settings.shadow_deviation)
    near = cv2.dilate(sure.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    shadow = sure | (near & darker)
    # What is left of a shadow's rim is a thin line beside it.
    left = (weak > 0) & ~shadow
    thin = left & (cv2.morphologyEx(left.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) == 0)
    beside = cv2.dilate(shadow.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    found: NDArray[np.uint8] = (shadow | (thin & beside & darker)).astype(np.uint8) * np.uint8(255)
    return found


def _at_foot(shades: _Shades, settings: WatchSettings) -> NDArray[np.uint8]:
    low, high = settings.contact_ratio
    _, even = shades.even(low, high, settings.contact_chroma, settings.contact_deviation)
    found: NDArray[np.uint8] = even.astype(np.uint8) * np.uint8(255)
    return found
