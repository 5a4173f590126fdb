"""Masks as annotation files write them: polygons, and run lengths as numbers or as text.

A pixel belongs to a polygon if its centre lies inside, by the even-odd rule; so areas are right on average, a hole
that is drawn as a second turn of one ring stays a hole, and two shapes that share an edge share no pixel. Several
polygons of one object are united, as COCO has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, MaskError, Rle, decode_rle

_FAR_PX = 1e6
"""Coordinates beyond this are a mistake rather than an object that leaves the picture."""


class RunLengths(msgspec.Struct, frozen=True):
    """COCO's run lengths: `counts` as its compressed text, or as plain numbers."""

    size: tuple[int, int]
    counts: str | list[int]


Segment = RunLengths | list[list[float] | float]
"""Run lengths, several rings, or one ring."""


def check_segment(segment: Segment, size_hw: tuple[int, int]) -> None:
    """Finds what is wrong without drawing it, as far as that can be seen.

    Raises:
        MaskError: As `segment_mask`; text of run lengths is not read.
    """
    if isinstance(segment, RunLengths):
        _check_size(segment, size_hw)
    elif not segment:
        raise MaskError("a mask without a polygon")
    else:
        for ring in _rings(segment):
            _points(ring)


def segment_mask(segment: Segment, size_hw: tuple[int, int]) -> Mask:
    """Decodes a mask of a picture.

    Args:
        segment: Polygons as flat lists x, y, x, y in pixels, where the centre of the first pixel is 0.5, 0.5; what
            leaves the picture is cut off. Or run lengths of the picture's size.
        size_hw: The picture's height and width.

    Raises:
        MaskError: It is malformed, or of another size.
    """
    if isinstance(segment, RunLengths):
        return _from_runs(segment, size_hw)
    mask: Mask = np.zeros(size_hw, dtype=bool)
    for ring in _rings(segment):
        mask |= fill_polygon(_points(ring), size_hw)
    return mask


def _rings(segment: list[list[float] | float]) -> list[list[float]]:
    nested = [ring for ring in segment if isinstance(ring, list)]
    flat = [number for number in segment if not isinstance(number, list)]
    if nested and flat:
        raise MaskError("a mask that mixes polygons and numbers")
    return nested or [flat]


def _check_size(segment: RunLengths, size_hw: tuple[int, int]) -> None:
    if tuple(segment.size) != tuple(size_hw):
        found, wanted = ("x".join(map(str, reversed(size))) for size in (segment.size, size_hw))
        raise MaskError(f"a mask of {found} for a picture of {wanted}")


def _from_runs(segment: RunLengths, size_hw: tuple[int, int]) -> Mask:
    _check_size(segment, size_hw)
    if isinstance(segment.counts, str):
        return decode_rle(Rle(segment.size, segment.counts))
    if any(not 0 <= run <= size_hw[0] * size_hw[1] for run in segment.counts):
        raise MaskError("a mask run is negative or longer than the picture")
    runs = np.asarray(segment.counts, dtype=np.int64)
    if int(runs.sum()) != size_hw[0] * size_hw[1]:
        raise MaskError(f"mask runs cover {int(runs.sum())} pixels, the size says {size_hw[0] * size_hw[1]}")
    return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(size_hw, order="F")


def _points(ring: Sequence[float]) -> NDArray[np.float64]:
    """(N, 2) corners."""
    flat = np.asarray(ring, dtype=np.float64)
    if flat.ndim != 1 or flat.size % 2 or flat.size < 6:
        raise MaskError(f"a polygon of {flat.size} numbers: three corners or more have 6 and more, in pairs")
    if not np.isfinite(flat).all() or np.abs(flat).max() > _FAR_PX:
        raise MaskError("a polygon has a coordinate that is no place in a picture")
    return flat.reshape(-1, 2)


def fill_polygon(points: NDArray[np.float64], size_hw: tuple[int, int]) -> Mask:
    """Pixels whose centres lie inside a closed ring, by the even-odd rule.

    Args:
        points: (N, 2) corners x, y.
        size_hw: Height and width.
    """
    mask: Mask = np.zeros(size_hw, dtype=bool)
    low_xy = np.clip(np.floor(points.min(axis=0)), 0, size_hw[::-1]).astype(np.int64)
    high_xy = np.clip(np.ceil(points.max(axis=0)), 0, size_hw[::-1]).astype(np.int64)
    part = mask[low_xy[1] : high_xy[1], low_xy[0] : high_xy[0]]
    part[:] = _fill(points - low_xy, part.shape)
    return mask


def _fill(points: NDArray[np.float64], size_hw: tuple[int, ...]) -> Mask:
    height, width = size_hw
    ends = np.roll(points, -1, axis=0)
    down = (points[:, 1] <= ends[:, 1])[:, None]
    top, low = np.where(down, points, ends), np.where(down, ends, points)
    # An edge crosses the rows whose centres lie from its upper end (included) to its lower one (excluded).
    first = np.clip(np.ceil(top[:, 1] - 0.5), 0, height).astype(np.int64)
    counts = np.clip(np.ceil(low[:, 1] - 0.5), 0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(points)), counts)
    row = np.arange(edge.size) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (low[edge, 0] - top[edge, 0]) / (low[edge, 1] - top[edge, 1])
    crossing = top[edge, 0] + (row + 0.5 - top[edge, 1]) * slope
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    crossed = np.zeros((height, width + 1), dtype=np.int32)
    np.add.at(crossed, (row, column), 1)
    inside: Mask = np.cumsum(crossed, axis=1)[:, :width] % 2 == 1
    return inside
