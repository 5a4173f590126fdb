"""Has the camera moved? The shift between plate and frame, where nothing stands before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import Mask
from walt_edge.vision.plate import Image
from walt_edge.vision.settings import WatchSettings

_WORK_WIDTH = 384
_RESPONSE_MIN = 0.08
_BLOB_PX = 11
_HIDDEN_MAX = 0.4
_APART_LEVEL = 25


class MovingCameraError(WaltError):
    """The camera does not stand still, so there is no plate."""


def edges(image: Image, hidden: Mask | None = None) -> NDArray[np.float32]:
    """Gradient magnitude at working size: light changes leave it nearly as it was; hidden pixels are zero."""
    scale = _WORK_WIDTH / image.shape[1]
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    steep = np.minimum(steepness(grey), 200.0)  # a few hard edges must not outvote the rest
    if hidden is not None:
        mask = cv2.resize(hidden.astype(np.uint8), (steep.shape[1], steep.shape[0]), interpolation=cv2.INTER_AREA)
        steep[cv2.dilate(mask, np.ones((5, 5), np.uint8)) > 0] = 0
    return np.asarray(steep, np.float32)


def steepness(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) length of the gradient; the same bits wherever the picture lies in memory, unlike cv2.magnitude."""
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.asarray(np.sqrt(across * across + down * down), np.float32)


def shift_px(plate: Image, frame: Image, hidden: Mask | None = None) -> tuple[float, float, float]:
    """Phase correlation (Kuglin and Hines 1975) of edges.

    Returns:
        Shift of the frame against the plate, x and y in pixels of the frame, and the response, 0..1.
    """
    one, other = edges(plate, hidden), edges(frame, hidden)
    window = cv2.createHanningWindow((one.shape[1], one.shape[0]), cv2.CV_32F)
    (dx, dy), response = cv2.phaseCorrelate(one, other, window)
    scale = plate.shape[1] / one.shape[1]
    return dx * scale, dy * scale, response


def objects_in(moving: Mask) -> Mask | None:
    """The thick parts of what differs from the plate, to be left out; None if that would leave too little.

    Objects are blobs. What a shift leaves along every edge is thin, and must stay: it is the evidence.
    """
    thick = cv2.morphologyEx(moving.astype(np.uint8), cv2.MORPH_OPEN, np.ones((_BLOB_PX, _BLOB_PX), np.uint8))
    hidden: Mask = cv2.dilate(thick, np.ones((_BLOB_PX, _BLOB_PX), np.uint8)) > 0
    return hidden if hidden.mean() < _HIDDEN_MAX else None


class DriftWatch:
    """Votes over several checks, so that one truck across the view is no moved camera."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._next_s = -np.inf
        self._votes: deque[float] = deque(maxlen=settings.drift_votes)

    def check(self, plate: Image, frame: Image, moving: Mask, time_s: float) -> float | None:
        """Returns by how many pixels the camera has moved, once that is sure; None otherwise."""
        if time_s < self._next_s:
            return None
        self._next_s = time_s + self._settings.drift_check_s
        dx, dy, response = shift_px(plate, frame, objects_in(moving))
        self._votes.append(float(np.hypot(dx, dy)) if response > _RESPONSE_MIN else 0.0)
        sure = len(self._votes) == self._settings.drift_votes and min(self._votes) > self._settings.drift_px
        return float(np.median(self._votes)) if sure else None


def spread_px(frames: Sequence[Image]) -> float:
    """How far frames lie apart, pixels: the median of their shifts against the middle one."""
    middle = frames[len(frames) // 2]
    shifts = [0.0]
    for frame in frames[:: max(1, len(frames) // 12)]:
        if frame is not middle:
            apart = cv2.absdiff(frame, middle).max(axis=2) > _APART_LEVEL
            dx, dy, _ = shift_px(middle, frame, objects_in(apart))
            shifts.append(float(np.hypot(dx, dy)))
    return float(np.median(shifts))
