"""What an outline alone tells: proportions, compactness, a head on shoulders."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask

_GRID_WH = (16, 24)


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Of one silhouette.

    Attributes:
        aspect: Height / width of the box.
        fill: Area / area of the box, 0..1.
        solidity: Area / area of the convex hull, 0..1.
        head: Mean width of the top eighth / greatest width, 0..1.
        shoulders: Greatest width in the top two fifths / height.
        notch: Depth of the deepest concavity / smaller side of the box, 0 for a convex outline.
        heads: How many separate summits the outline has within the top 30% of its height.
        grid: (24, 16) float32 coverage, the silhouette stretched to one size: for comparing it over time.
    """

    aspect: float
    fill: float
    solidity: float
    head: float
    shoulders: float
    notch: float
    heads: int
    grid: NDArray[np.float32]


def describe(patch: PatchMask) -> Shape:
    """Measures a tight patch with at least one pixel."""
    mask = patch.mask
    height, width = mask.shape
    widths = mask.sum(axis=1).astype(np.float64)
    area = float(widths.sum())
    top = max(1, height // 8)
    hull_area, deepest = _hull(mask)
    grid = cv2.resize(mask.astype(np.float32), _GRID_WH, interpolation=cv2.INTER_AREA)
    return Shape(
        aspect=height / width,
        fill=area / (height * width),
        solidity=area / max(hull_area, area),
        head=float(widths[:top].mean() / widths.max()),
        shoulders=_extent(mask[: max(1, (2 * height) // 5)]) / height,
        notch=deepest / min(height, width),
        heads=count_summits(mask),
        grid=grid,
    )


def framed(mask: Mask, width_px: int) -> NDArray[np.uint8]:
    """The mask as 0 and 1, with so wide a frame of 0 around it."""
    # numpy's pad takes forty times as long for masks as small as ours.
    sides = (width_px,) * 4
    bordered = cv2.copyMakeBorder(mask.astype(np.uint8), *sides, borderType=cv2.BORDER_CONSTANT, value=(0.0,))
    return np.asarray(bordered, np.uint8)


def _hull(mask: Mask) -> tuple[float, float]:
    """Area of the convex hull, and how deep inside it the outline retreats, pixels."""
    padded = framed(mask, 1)
    contours, _ = cv2.findContours(padded, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return 1.0, 0.0
    hull = np.zeros_like(padded)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(contours)), 1)
    cv2.drawContours(padded, contours, -1, 1, cv2.FILLED)  # a hole is no retreat of the outline
    depth = cv2.distanceTransform(hull, cv2.DIST_L2, 3)
    return float(np.count_nonzero(hull)), float(depth[padded == 0].max(initial=0.0))


def _extent(mask: Mask) -> float:
    columns = np.flatnonzero(mask.any(axis=0))
    return float(columns[-1] - columns[0] + 1) if columns.size else 0.0


def count_summits(mask: Mask) -> int:
    """Summits of the upper outline, separated by a valley at least 5% of the height deep, in the top 30%."""
    height, width = mask.shape
    level = np.where(mask.any(axis=0), height - mask.argmax(axis=0), 0).astype(np.float64)
    if width >= 5:
        level = np.convolve(level, np.ones(3) / 3, mode="same").astype(np.float64)
    deep = 0.05 * height
    summits, peak, valley, rising = 0, -np.inf, np.inf, True
    for value in level:
        if rising:
            peak = max(peak, value)
            if value < peak - deep:
                summits += int(peak > 0.7 * height)
                rising, valley = False, value
        else:
            valley = min(valley, value)
            if value > valley + deep:
                rising, peak = True, value
    return summits + int(rising and peak > 0.7 * height)


def rigidity(one: Shape, other: Shape) -> float:
    """How alike two outlines of one object are when stretched to one size, 0..1: cars keep theirs, walkers do not."""
    return float(np.minimum(one.grid, other.grid).sum() / np.maximum(one.grid, other.grid).sum())


def ground_contact(patch: PatchMask) -> tuple[float, float]:
    """Where a silhouette touches the ground, xy in the frame: the middle of its lowest twentieth."""
    mask = patch.mask
    rows = max(1, mask.shape[0] // 20)
    columns = np.flatnonzero(mask[-rows:].any(axis=0))
    middle = float(columns.mean()) + 0.5 if columns.size else mask.shape[1] / 2
    return patch.x + middle, float(patch.y + mask.shape[0])
