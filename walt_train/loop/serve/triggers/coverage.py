"""What of a camera's street its clip art covers: places and poses, by label.

A cell is a label, a size (octaves), a place where objects of that size stand, and an outline (half octaves of width
by height: a car from its side is another one than from its front). A place is about two of its objects' sizes wide,
near and far, so that cells are about as large on the ground everywhere, whatever the frame's size. A cell is full
with a few objects: the thousandth crop of the same parked lane adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FULL: Final = 3
"""Objects that fill a cell."""

_SIDE_MOST = 16_384.0
_SIZES, _STEPS, _OUTLINES = 16, 1 << 15, 32

Coverage = Mapping[int, int]
"""By cell, how many objects were seen there, at most `FULL`."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One crop, as far as coverage goes.

    Attributes:
        cell: Where, and in what pose.
        track: Names the object among the camera's.
        received_us: When home got it.
    """

    cell: int
    track: int
    received_us: int


@dataclass(frozen=True, slots=True)
class Gain:
    """How much is new.

    Attributes:
        crops: Objects at places and in poses that were not full.
        tracks: How many objects these are.
    """

    crops: int = 0
    tracks: int = 0


def cells_of(labels: Sequence[int], boxes_xyxy: NDArray[Any]) -> list[int]:
    """Cells of boxes, as numbers.

    Args:
        labels: One a box.
        boxes_xyxy: (N, 4), pixels of the frame.
    """
    if not len(boxes_xyxy):
        return []
    boxes = np.nan_to_num(np.asarray(boxes_xyxy, dtype=np.float64)).clip(-_SIDE_MOST, _SIDE_MOST)
    width = np.maximum(boxes[:, 2] - boxes[:, 0], 1.0)
    height = np.maximum(boxes[:, 3] - boxes[:, 1], 1.0)
    size = np.floor(np.log2(width * height) / 2).clip(0, _SIZES - 1)
    step = np.exp2(size + 1)
    column = np.floor((boxes[:, 0] + boxes[:, 2]) / 2 / step) + _STEPS // 2
    row = np.floor(boxes[:, 3] / step) + _STEPS // 2
    outline = np.rint(2 * np.log2(width / height)).clip(-_OUTLINES // 2, _OUTLINES // 2 - 1) + _OUTLINES // 2
    parts = ((size, _SIZES), (column, _STEPS), (row, _STEPS), (outline, _OUTLINES))
    cells = np.asarray(labels, dtype=np.int64)
    for part, count in parts:
        cells = cells * count + part.astype(np.int64)
    return [int(cell) for cell in cells]


def coverage_of(sightings: Iterable[Sighting]) -> dict[int, int]:
    """What sightings cover."""
    return {cell: min(len(tracks), FULL) for cell, tracks in _tracks_by_cell(sightings).items()}


def gain_of(sightings: Iterable[Sighting], before: Coverage) -> Gain:
    """What sightings add to what was covered before.

    Args:
        sightings: All that are stored, in order of arrival, also those of before.
        before: What was covered.
    """
    crops, tracks = 0, set[int]()
    for cell, seen in _tracks_by_cell(sightings).items():
        added = min(len(seen), FULL) - before.get(cell, 0)
        if added > 0:
            crops += added
            tracks.update(list(seen)[-added:])
    return Gain(crops, len(tracks))


def count_of(sightings: Iterable[Sighting], since_us: int = 0) -> Gain:
    """All crops and objects that arrived after a moment, whatever they cover."""
    tracks = [one.track for one in sightings if one.received_us > since_us]
    return Gain(len(tracks), len(set(tracks)))


def _tracks_by_cell(sightings: Iterable[Sighting]) -> dict[int, dict[int, None]]:
    found: dict[int, dict[int, None]] = {}
    for one in sightings:
        found.setdefault(one.cell, {})[one.track] = None
    return found
