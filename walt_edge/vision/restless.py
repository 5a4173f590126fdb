"""Finds what fidgets in the plate: people who have stood still since before it was learned.

They are a part of the plate and have no silhouette, but nobody stands like a statue: the edges of somebody who sways
tremble. A pixel is restless where it often leaves the plate by more than noise and camera tremble, while what is
shown around it is found in the plate a few pixels aside. That second half tells swaying from traffic, which shows
what is nowhere near in the plate. Restless pixels that close to a patch of a person's size and proportions are taken
for a person, and the upper part of the patch for the head. Foliage and screens may be taken for people too; what is
too large or too wide is not.

Patches come and go: somebody steps before them, or what fidgets beside them joins them. A head once found is
therefore held for minutes, or until it is seen that its place is empty.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.ground import Sizes
from walt_edge.vision.motion import Motion, find_motion, scaled
from walt_edge.vision.plate import Image, Plate
from walt_edge.vision.settings import WatchSettings

_SCALE_STEP = 1.35
_CLOSE = (0.22, 0.3)  # of the height, width and height of the kernel: a torso's inside does not move
_HEIGHTS = (0.55, 1.45)  # of the scale at which a patch is looked for: they overlap
_EXPECTED = (0.5, 1.6)  # of the height a person has there: a head and chest alone, or an arm raised
_WIDTHS = (0.14, 1.15)  # of the patch's height: one person, to a group of four
_HEAD = 0.3  # of the patch's height, from its top: heads in a group differ in height
_GROWN = (0.09, 0.14)  # of the height, to the sides and up: heads that turn little, hair
_DENSITY = 0.07  # of the patch: at least its outline is restless ...
_ROWS = 0.5  # ... over this part of its height
_SPECK_PX = 5
_BLOB = 0.03  # of the frame's height: outlines that close over less than this are filled, as a small head's is
_FOREVER = np.iinfo(np.uint16).max
_GAP_S = 2.0  # one frame after a gap does not speak for the whole gap


class Restlessness:
    """How often each pixel fidgets, and the heads of the person-sized patches of such pixels.

    Attributes:
        mask: (H, W) bool, where the heads may be; renewed by `learn` and `find`.
        blobs: (H, W) bool, all that fidgets and is thicker than an edge, of whatever size and shape; a picture that
            is to show nobody shows none of it.
    """

    def __init__(self, frame_wh: tuple[int, int], settings: WatchSettings) -> None:
        width, height = frame_wh
        self._settings = settings
        self._left = np.zeros((height, width), np.float32)  # how often the pixel left the plate, explained ...
        self._explained = np.zeros((height, width), np.float32)  # ... of how often it was explained
        self._bounds: tuple[Image, Image] | None = None
        self._held = np.zeros((height, width), np.uint16)  # how many renewals a pixel stays in the mask
        self.mask: Mask = np.zeros((height, width), bool)
        self.blobs: Mask = np.zeros((height, width), bool)

    def learn(self, frames: list[Image], plate: Plate) -> None:
        """Begins with the samples that the plate was made from."""
        self._renew_bounds(plate)
        nothing = np.zeros(self.mask.shape, bool)
        for count, frame in enumerate(frames, 1):
            self._note(frame, find_motion(frame, plate, self._settings), plate, nothing, 1.0 / count)
        self.find(plate, None)

    def note(self, frame: Image, motion: Motion, plate: Plate, passing: Mask, elapsed_s: float) -> None:
        """Takes one more frame into account.

        Args:
            frame: (H, W, 3).
            motion: What differs in it.
            plate: The plate it was compared with.
            passing: (H, W) silhouettes of what has moved through the picture; nothing is learned there.
            elapsed_s: Since the last call.
        """
        rate = min(elapsed_s, _GAP_S) / self._settings.restless_time_s
        self._note(frame, motion, plate, passing, rate)

    def _note(self, frame: Image, motion: Motion, plate: Plate, passing: Mask, rate: float) -> None:
        # Noise of the whole sensor, not of the pixel: a pixel's own is what is sought.
        level = self._settings.restless_level + self._settings.noise_gain * plate.typical_noise
        restless = cv2.compare(
            motion.difference, cv2.convertScaleAbs(plate.gradient, alpha=0.1, beta=level), cv2.CMP_GT
        )
        explained = self._is_explained(frame, motion, level)
        counts = (~passing).astype(np.uint8)
        cv2.accumulateWeighted(cv2.bitwise_and(restless, explained) & 1, self._left, rate, counts)
        cv2.accumulateWeighted(explained & 1, self._explained, rate, counts)

    def _is_explained(self, frame: Image, motion: Motion, level: float) -> NDArray[np.uint8]:
        """255 where the frame shows what the plate shows nearby, else 0."""
        assert self._bounds is not None
        low, high = (scaled(bound, motion.gain_bgr) for bound in self._bounds)
        slack = (level,) * 4
        inside = cv2.inRange(frame, cv2.subtract(low, slack), cv2.add(high, slack))
        explained: NDArray[np.uint8] = cv2.erode(inside, np.ones((3, 3), np.uint8))
        return explained

    def _renew_bounds(self, plate: Plate) -> None:
        reach = max(2, round(self._settings.restless_reach * len(self.mask)))
        kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        self._bounds = cv2.erode(plate.bgr, kernel), cv2.dilate(plate.bgr, kernel)

    def find(self, plate: Plate, sizes: Sizes | None) -> None:
        """Renews the heads; `sizes` says how high people are where they stand, as far as it is known."""
        self._renew_bounds(plate)
        restless = self._restless(plate)
        found = np.zeros_like(restless)
        low, high = (part * len(restless) for part in self._settings.restless_heights)
        scale = max(low, self._settings.restless_px_min)
        while scale < high:
            self._find_at(restless, scale, sizes, found)
            scale *= _SCALE_STEP
        self._held -= (self._held > 0) & (self._held < _FOREVER)
        renewals = 1 + round(self._settings.restless_hold_s / self._settings.restless_find_s)
        self._held = np.maximum(self._held, found * np.uint16(min(renewals, _FOREVER - 1)))
        self.mask = self._held > 0
        self.blobs = _blobs(restless)

    def hold(self, head: PatchMask) -> None:
        """Holds the head of somebody who becomes part of the plate, until they have left it.

        Args:
            head: What may show it; may leave the frame.
        """
        height, width = self.mask.shape
        self._held[head.full(height, width)] = _FOREVER
        self.mask = self._held > 0

    def forget(self, left: PatchMask) -> None:
        """Somebody who had been part of the plate has left it, hole and all."""
        height, width = self.mask.shape
        rim = max(3, round(_GROWN[1] * left.mask.shape[0]))
        kernel = np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)
        place = left.full(height, width)
        self._held[cv2.dilate(place.astype(np.uint8), kernel) > 0] = 0
        self._left[place] = 0.0
        self.mask = self._held > 0

    def _restless(self, plate: Plate) -> NDArray[np.uint8]:
        """1 where pixels leave the plate often, in surroundings that are explained mostly."""
        settings = self._settings
        side = max(5, round(settings.restless_near * len(self.mask)) | 1)
        calm = cv2.blur(self._explained, (side, side)) > settings.restless_explained
        often = self._left > settings.restless_share * self._explained
        return _without_specks((often & calm & plate.known).astype(np.uint8))

    def _find_at(
        self, restless: NDArray[np.uint8], scale: float, sizes: Sizes | None, found: NDArray[np.uint8]
    ) -> None:
        """Adds the heads of the patches of about one height."""
        sides = tuple(max(3, round(part * scale) | 1) for part in _CLOSE)
        closed = cv2.morphologyEx(restless, cv2.MORPH_CLOSE, np.ones(sides[::-1], np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
        for index in np.flatnonzero(_right_size(stats, scale)):
            x, y, width, height, area = (int(value) for value in stats[index])
            if index == 0 or not _may_be_person(y + height, height, sizes):
                continue
            window = (slice(y, y + height), slice(x, x + width))
            own = labels[window] == index
            hot = (restless[window] > 0) & own
            if hot.sum() >= _DENSITY * area and hot.any(axis=1).mean() >= _ROWS:
                _add_head(found, own, (x, y))


def _blobs(restless: NDArray[np.uint8]) -> Mask:
    """Where restless pixels, closed over gaps of a small head's width, are more than a line."""
    side = max(3, round(_BLOB * len(restless)) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    closed = cv2.morphologyEx(restless, cv2.MORPH_CLOSE, disc)
    blobs: Mask = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    return blobs


def _without_specks(restless: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without components of a few pixels, which would be bridges between what is apart."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(restless, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= _SPECK_PX
    large[0] = False
    kept: NDArray[np.uint8] = large[labels].astype(np.uint8)
    return kept


def _right_size(stats: NDArray[np.int32], scale: float) -> Mask:
    width, height = stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]
    right: Mask = (height >= _HEIGHTS[0] * scale) & (height <= _HEIGHTS[1] * scale)
    return right & (width >= _WIDTHS[0] * height) & (width <= _WIDTHS[1] * height)


def _may_be_person(foot_y: int, height: int, sizes: Sizes | None) -> bool:
    """Whether people are about that high there; where nothing is known, yes."""
    expected = None if sizes is None else sizes.person_height(foot_y)
    return expected is None or _EXPECTED[0] * expected <= height <= _EXPECTED[1] * expected


def _add_head(found: NDArray[np.uint8], own: Mask, corner_xy: tuple[int, int]) -> None:
    """Paints the upper part of a patch, grown to the sides and up, clipped to the frame."""
    height = own.shape[0]
    aside, up = (max(3, round(part * height)) for part in _GROWN)
    head = own[: int(np.ceil(_HEAD * height))].astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * aside + 1, 2 * up + 1))
    grown = cv2.dilate(np.pad(head, ((up, 0), (aside, aside))), kernel)
    x, y = corner_xy[0] - aside, corner_xy[1] - up
    left, top = max(0, -x), max(0, -y)
    target = found[y + top : y + grown.shape[0], x + left : x + grown.shape[1]]
    target |= grown[top : top + target.shape[0], left : left + target.shape[1]]
