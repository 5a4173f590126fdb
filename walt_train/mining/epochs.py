"""Has the camera moved between two pictures? Where a plate lies against another, and which belong together.

A pose is found in two steps: phase correlation of edges (Kuglin and Hines 1975) for a few angles, then maximisation
of the enhanced correlation coefficient (Evangelidis and Psarakis 2008) over shift and rotation. That coefficient is
the pose's quality: it is invariant to gain and offset of the light, and low where the two pictures fit nowhere.

Small and certain movements are registered; anything else begins an epoch of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask
from walt_edge.vision.drift import steepness

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""

_COARSE_WIDTH, _FINE_WIDTH = 384, 768
_ANGLES_DEG = (0.0, -1.0, 1.0, -2.0, 2.0)
_STEEPEST = 160.0  # a few hard edges must not outvote the rest
_BLUR_PX = 3
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)

QUALITY_MIN = 0.3
"""A fit below this is chance: other places reach 0.12, the same full of other traffic 0.34, plates 0.6 and more."""
SAME_PX = 0.5
"""Closer than this, pictures are taken as they are: interpolation would cost more sharpness than it mends."""
REGISTER_SHARE = 0.03
"""Of the frame's width: a larger movement shows the place from another side and opens a rim nobody has seen."""
REGISTER_DEG = 1.5


@dataclass(frozen=True, eq=False)
class Pose:
    """How a picture lies against a reference.

    Attributes:
        matrix: (2, 3) float64 that takes a pixel of the reference, its centre at whole coordinates as OpenCV has it,
            to the picture's.
        frame_wh: Size of both, pixels.
        quality: The enhanced correlation coefficient of their edges, -1..1.
    """

    matrix: NDArray[np.float64]
    frame_wh: tuple[int, int]
    quality: float

    @cached_property
    def shift_px(self) -> float:
        """The largest displacement of a corner."""
        width, height = self.frame_wh
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
        return float(np.linalg.norm(corners @ self.matrix.T - corners[:, :2], axis=1).max())

    @property
    def rotation_deg(self) -> float:
        """Degrees."""
        return float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))

    @property
    def certain(self) -> bool:
        """Whether the two show the same place at all."""
        return self.quality >= QUALITY_MIN

    @property
    def same(self) -> bool:
        """Whether nothing needs to be moved."""
        return self.certain and self.shift_px <= SAME_PX

    @property
    def registrable(self) -> bool:
        """Whether the movement is certain, and small enough to be undone."""
        small = self.shift_px <= REGISTER_SHARE * self.frame_wh[0] and abs(self.rotation_deg) <= REGISTER_DEG
        return self.certain and small

    def warp(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Mask]:
        """A picture in the reference's pose, and (H, W) where it has something to show."""
        if self.same:
            return image, np.ones(image.shape[:2], bool)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(image, self.matrix, self.frame_wh, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(warped, np.uint8), self.warp_mask(np.ones(image.shape[:2], bool))

    def warp_mask(self, mask: Mask) -> Mask:
        """A mask in the reference's pose: pixels at least half covered; nothing comes from beyond the frame."""
        if self.same:
            return mask
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        share = cv2.warpAffine(mask.astype(np.float32), self.matrix, self.frame_wh, flags=flags)
        warped: Mask = share >= 0.5
        return warped

    def to_reference(self, points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) points of the picture, pixel centres at +0.5, in the reference."""
        inverse = cv2.invertAffineTransform(self.matrix)
        moved: NDArray[np.float64] = (points_xy - 0.5) @ inverse[:, :2].T + inverse[:, 2] + 0.5
        return moved


def still(frame_wh: tuple[int, int]) -> Pose:
    """The pose of the reference itself."""
    return Pose(np.eye(2, 3), frame_wh, 1.0)


def register(reference: Image, other: Image, hidden: Mask | None = None) -> Pose:
    """Where `other` lies against `reference`.

    Args:
        reference: (H, W, 3).
        other: (H, W, 3), of the same size.
        hidden: (H, W) of the reference to leave out: what is unknown there, or moves.
    """
    height, width = reference.shape[:2]
    coarse = _coarse(reference, other)
    scale = min(1.0, _FINE_WIDTH / width)
    one, two = _edges(reference, scale), _edges(other, scale)
    mask = np.full(one.shape, 255, np.uint8)
    if hidden is not None:
        mask[cv2.resize(hidden.astype(np.uint8), one.shape[::-1], interpolation=cv2.INTER_AREA) > 0] = 0
    start = _rescaled(coarse, scale).astype(np.float32)
    try:
        quality, found = cv2.findTransformECC(one, two, start, cv2.MOTION_EUCLIDEAN, _CRITERIA, mask, _BLUR_PX)
    except cv2.error:  # no convergence: the two have nothing in common
        return Pose(coarse, (width, height), 0.0)
    return Pose(_rescaled(found.astype(np.float64), 1 / scale), (width, height), float(quality))


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Where a picture belongs.

    Attributes:
        epoch: From 0.
        pose: Against the epoch's first picture.
        nearest: Where it began an epoch, the surest of its poses against the others; None for the very first.
    """

    epoch: int
    pose: Pose
    nearest: Pose | None = None


class Poses:
    """The poses of one camera: a picture belongs to the first that it can be registered to, else it begins another.

    By night little of a place is left that was seen by day. So a picture that says nothing about the first one of an
    epoch is held against its newest: dusk leads from one to the other.
    """

    def __init__(self) -> None:
        self._first: list[tuple[Image, Mask | None]] = []
        self._newest: list[tuple[Image, Mask | None]] = []

    def place(self, image: Image, known: Mask | None = None) -> Placed:
        """Finds the epoch of the next picture.

        Args:
            image: (H, W, 3), of the same size as all others.
            known: (H, W) what shows the place; None for all of it.
        """
        tried: list[Pose] = []
        for epoch, first in enumerate(self._first):
            tried.append(_against(first, image, known))
            if tried[-1].registrable:
                return self._joined(epoch, tried[-1], image, known)
        for epoch, newest in enumerate(self._newest):
            if not tried[epoch].certain and newest is not self._first[epoch]:
                pose = _against(newest, image, known)
                if pose.registrable:
                    return self._joined(epoch, pose, image, known)
        self._first.append((image, known))
        self._newest.append(self._first[-1])
        nearest = max(tried, key=lambda pose: pose.quality, default=None)
        return Placed(len(self._first) - 1, still((image.shape[1], image.shape[0])), nearest)

    def _joined(self, epoch: int, pose: Pose, image: Image, known: Mask | None) -> Placed:
        warped, shown = pose.warp(image)
        self._newest[epoch] = warped, shown if known is None else shown & pose.warp_mask(known)
        return Placed(epoch, pose)


def _against(reference: tuple[Image, Mask | None], image: Image, known: Mask | None) -> Pose:
    seen = [mask for mask in (reference[1], known) if mask is not None]
    return register(reference[0], image, ~np.logical_and.reduce(seen) if seen else None)


def _coarse(reference: Image, other: Image) -> NDArray[np.float64]:
    """The best of a few angles by phase correlation, (2, 3) at full size."""
    scale = min(1.0, _COARSE_WIDTH / reference.shape[1])
    one, two = _edges(reference, scale), _edges(other, scale)
    window = cv2.createHanningWindow(one.shape[::-1], cv2.CV_32F)
    middle = ((one.shape[1] - 1) / 2, (one.shape[0] - 1) / 2)
    best, matrix = -1.0, np.eye(2, 3)
    for angle in _ANGLES_DEG:
        turn = cv2.getRotationMatrix2D(middle, angle, 1.0)
        turned = cv2.warpAffine(two, turn, one.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        # A copy: where a picture has a size that its transform likes, OpenCV puts the window on the picture itself.
        (dx, dy), response = cv2.phaseCorrelate(one.copy(), turned, window)
        if response > best:
            # A pixel of the reference, shifted, then turned, is one of the other picture.
            best = response
            matrix = np.hstack([turn[:, :2], turn @ np.array([[dx], [dy], [1.0]])])
    return _rescaled(matrix, 1 / scale)


def _edges(image: Image, scale: float) -> NDArray[np.float32]:
    """Gradient magnitude at working size, its root: a shadow's edge counts little more than a kerb's."""
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (0, 0), 1.0).astype(np.float32)
    return np.asarray(np.sqrt(np.minimum(steepness(grey), _STEEPEST)), np.float32)


def _rescaled(matrix: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """The same movement of a picture `factor` times as large, pixel centres minded."""
    aside = (factor - 1) / 2
    linear, shift = matrix[:, :2], matrix[:, 2]
    middle = np.array([aside, aside])
    return np.hstack([linear, (factor * shift + middle - linear @ middle)[:, None]])
