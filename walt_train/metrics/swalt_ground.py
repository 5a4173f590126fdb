"""The ground of a busy place: what comes back.

A median knows the ground where it is seen half of the time, which before a red light it is not: cars stand there more
often than not, but each is another car. So each pixel keeps the few values that it showed and counts two things of
each: in how many frames it was there, and how many times it came. Ground comes back after every car; no car does.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.vision.plate import Image

GROUND_FRAMES = 150
"""More tell little more."""
_VALUES = 4
_SAME = 16
"""Grey levels within which two values are one: above the noise of cameras and JPEG."""
_RATE = 0.1
_NOBODY = 255
_OTHER = 20
_RIM_PX = 2


def recurrent_ground(pictures: Iterable[Image]) -> Image:
    """(H, W, 3) uint8: of each pixel the value that came back most often and stayed longest.

    Args:
        pictures: (H, W, 3) uint8 of one camera, in the order of time; at least one.
    """
    ground: _Values | None = None
    for bgr in pictures:
        ground = ground or _Values(bgr.shape[:2])
        ground.add(bgr)
    assert ground is not None
    return ground.best()


class _Values:
    """What each pixel has shown.

    Args:
        shape: Height and width.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._mean = [np.zeros((*shape, 3), np.float32) for _ in range(_VALUES)]
        self._frames = np.zeros((_VALUES, *shape), np.float32)
        self._visits = np.zeros((_VALUES, *shape), np.float32)
        self._last = np.full(shape, _NOBODY, np.uint8)

    def add(self, bgr: Image) -> None:
        """Notes the next picture."""
        far = np.stack([largest_difference(bgr, cv2.convertScaleAbs(mean)) for mean in self._mean])
        far[self._frames == 0] = 255
        which = far.argmin(axis=0).astype(np.uint8)
        new = far.min(axis=0) > _SAME
        which[new] = self._weight().argmin(axis=0).astype(np.uint8)[new]
        for value in range(_VALUES):
            here = which == value
            fresh = here & new
            self._mean[value][fresh] = bgr[fresh]
            self._frames[value][fresh] = 0
            self._visits[value][fresh] = 0
            self._frames[value] += here
            self._visits[value] += here & (fresh | (self._last != value))
            cv2.accumulateWeighted(bgr, self._mean[value], _RATE, here.astype(np.uint8))
        self._last = which

    def best(self) -> Image:
        """The picture of the values that came back most."""
        best = self._weight().argmax(axis=0)
        picture = np.choose(best[..., None], [cv2.convertScaleAbs(mean) for mean in self._mean])
        calm: Image = cv2.medianBlur(picture.astype(np.uint8), 3)
        return calm

    def _weight(self) -> NDArray[np.float32]:
        weight: NDArray[np.float32] = self._visits**2 * self._frames
        return weight


def cleared(bgr: Image, ground: Image) -> Image:
    """A picture with the ground wherever it shows something else."""
    other = (largest_difference(bgr, ground) > _OTHER).astype(np.uint8)
    rim = np.ones((2 * _RIM_PX + 1, 2 * _RIM_PX + 1), np.uint8)
    clear: Image = np.where(cv2.dilate(other, rim)[..., None] > 0, ground, bgr)
    return clear


def largest_difference(one: Image, other: Image) -> NDArray[np.uint8]:
    """(H, W) uint8, the largest channel's |one - other|."""
    blue, green, red = cv2.split(cv2.absdiff(one, other))
    largest: NDArray[np.uint8] = cv2.max(cv2.max(blue, green), red)
    return largest
