"""From moving pixels to outlines: one component each, holes closed, halo trimmed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.motion import Motion
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import framed

_PAD = 8
_UPRIGHT = 1.4
_SEEN_THROUGH = 0.3
_SMALL_HOLE_PX = 30
_UPPER_BODY = 0.55  # of the height: down to the hands


@dataclass(frozen=True, slots=True, eq=False)
class Silhouette:
    """One connected moving thing in one frame.

    Attributes:
        patch: Its outline, shadow and halo removed.
        contrast: Median difference from the plate inside it, grey levels.
        filled_fraction: How much of the outline was closed in rather than seen, 0..1.
    """

    patch: PatchMask
    contrast: float
    filled_fraction: float


def find_silhouettes(motion: Motion, settings: WatchSettings) -> list[Silhouette]:
    """All silhouettes of a frame, largest first."""
    solid = cv2.morphologyEx(motion.solid.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1
    found = []
    for index in order:
        if stats[index, cv2.CC_STAT_AREA] < settings.speck_px:
            break
        silhouette = _outline(motion, labels, int(index), stats[index], settings)
        if silhouette is not None:
            found.append(silhouette)
    return found


def _outline(
    motion: Motion, labels: NDArray[np.int32], index: int, stat: NDArray[np.int32], settings: WatchSettings
) -> Silhouette | None:
    x, y, width, height = (int(value) for value in stat[:4])
    bottom, right = labels.shape
    x0, y0 = max(0, x - _PAD), max(0, y - _PAD)
    window = (slice(y0, min(bottom, y + height + _PAD)), slice(x0, min(right, x + width + _PAD)))
    own = labels[window] == index
    strong = int(np.count_nonzero(motion.strong[window] & own))
    if strong < settings.strong_fraction * np.count_nonzero(own):
        return None
    foreign = (labels[window] > 0) & ~own
    still_edges = ~motion.moving[window] & (motion.plate_gradient[window] > settings.see_through_level)
    closed = _closed(own, motion.moving[window] & ~foreign, still_edges, min(width, height), settings) & ~foreign
    if is_upright(closed):
        closed &= ~(motion.contact[window] & _foot(closed, settings.foot_fraction))
    mask = trim_halo(closed, motion.difference[window], settings)
    mask = _largest(mask)
    area = int(np.count_nonzero(mask))
    if area < settings.speck_px:
        return None
    patch = PatchMask.from_full(mask)
    seen = int(np.count_nonzero(mask & motion.moving[window]))
    contrast = float(np.median(motion.difference[window][mask]))
    return Silhouette(PatchMask(x0 + patch.x, y0 + patch.y, patch.mask), contrast, 1.0 - seen / area)


def _closed(own: Mask, moving: Mask, still_edges: Mask, side: int, settings: WatchSettings) -> Mask:
    """Gives back what was taken for shadow inside the object, and closes narrow gaps and small holes.

    A panel that looks like a shadow (grey on grey) lies between surer parts of the same object: inside its convex
    hull. A cast shadow lies outside, or between legs: of an upright object only the upper body's hull counts.
    """
    upright = is_upright(own)
    size = max(3, round(settings.close_fraction * side))
    narrow = cv2.morphologyEx(framed(own, size), cv2.MORPH_CLOSE, _disc(size))
    closed = narrow[size:-size, size:-size] > 0
    fraction = settings.hole_fraction if upright else settings.hole_fraction_wide
    inside = _hull(own, upright=upright) & moving & ~_foot(own, settings.foot_fraction_wide)
    return fill_holes(closed | inside, fraction, still_edges)


def is_upright(mask: Mask) -> bool:
    """Whether a mask is markedly higher than wide."""
    return int(mask.any(axis=1).sum()) > _UPRIGHT * int(mask.any(axis=0).sum())


def _foot(mask: Mask, part: float) -> Mask:
    """The lowest rows of a mask's box."""
    rows = np.flatnonzero(mask.any(axis=1))
    foot: Mask = np.zeros(mask.shape, bool)
    foot[rows[-1] + 1 - int(np.ceil(part * (rows[-1] + 1 - rows[0]))) :] = True
    return foot


def _hull(own: Mask, *, upright: bool) -> Mask:
    """The convex hull of a mask's thicker parts; of an upright one, of its upper body."""
    source = cv2.morphologyEx(own.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    rows = np.flatnonzero(own.any(axis=1))
    if upright:
        source[rows[0] + int(_UPPER_BODY * rows.size) :] = 0
    out = np.zeros_like(source)
    points = cv2.findNonZero(source)
    if points is not None:
        cv2.fillConvexPoly(out, cv2.convexHull(points), 1)
    inside: Mask = out > 0
    return inside


def fill_holes(mask: Mask, fraction: float, still_edges: Mask | None = None) -> Mask:
    """Fills holes of up to a fraction of the mask's area each.

    Args:
        mask: (H, W).
        fraction: The largest hole, as part of the mask's area.
        still_edges: Edges of the plate that are seen unchanged. A hole rich in them is no panel in the colour of the
            road: one sees the plate there, or what stands before the object.
    """
    limit = fraction * np.count_nonzero(mask)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - framed(mask, 1), connectivity=4)
    outside = labels[0, 0]
    keep = np.array([part != outside and stats[part, cv2.CC_STAT_AREA] <= limit for part in range(count)])
    if still_edges is not None:
        areas = np.maximum(1, stats[:, cv2.CC_STAT_AREA])
        seen = np.bincount(labels[1:-1, 1:-1][still_edges], minlength=count) / areas
        keep &= (seen < _SEEN_THROUGH) | (areas < _SMALL_HOLE_PX)
    keep[labels[1:-1, 1:-1][mask][:1]] = False
    filled: Mask = mask | keep[labels[1:-1, 1:-1]]
    return filled


def trim_halo(mask: Mask, difference: NDArray[np.uint8], settings: WatchSettings) -> Mask:
    """Drops rim pixels that are more background than object.

    On the rim the sensor mixes both: difference / (difference just inside) is the object's part, alpha. Only a rim of
    `halo_px` is looked at, from the outside in, so that a part which happens to resemble the plate is not eaten.
    """
    if settings.halo_px == 0:
        return mask
    inside = np.where(mask, difference, 0).astype(np.uint8)
    reach = 2 * settings.halo_px + 1
    nearby = cv2.dilate(inside, _disc(reach))
    mixed = difference < settings.halo_alpha * nearby
    kept = mask.astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    for _ in range(settings.halo_px):
        rim = (kept > 0) & (cv2.erode(kept, cross, borderType=cv2.BORDER_CONSTANT, borderValue=1) == 0)
        kept[rim & mixed] = 0
    smoothed: Mask = cv2.medianBlur(kept, 3) > 0
    return smoothed


def _largest(mask: Mask) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    largest: Mask = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return largest


def _disc(size: int) -> NDArray[np.uint8]:
    size |= 1
    disc: NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return disc
