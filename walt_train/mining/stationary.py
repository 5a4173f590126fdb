"""What stands still: the same place, the same size, the same class, over and over, in a timeline of boxes.

Moments are looked at in their order. A box joins the cluster whose place it covers best, and opens a cluster where it
covers none. A cluster's place settles with its first boxes and is held from then on, so that who walks slowly leaves
it. Clusters are looked up by a grid over place and size: the work grows with the boxes, not with their pairs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError

SECOND_US = 1_000_000
FOREVER_US = 10**15
"""As `absence_us`: however long nobody looked."""
_SETTLING = 16
"""Boxes of which a place is the mean: the detector's jitter averages out."""
_SLACK = 1e-9
"""Of rounding: what fits exactly is looked at."""

_Box = tuple[float, float, float, float]
_Cell = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """One object for as long as it stood at one place.

    Attributes:
        members: (K,) rows of the timeline that show it, in the order of time; at most one of a moment.
        interval_us: First and last time at which it was seen.
        box_xyxy: (4,) float64, median of the members' boxes, pixels.
    """

    members: NDArray[np.intp]
    interval_us: tuple[int, int]
    box_xyxy: NDArray[np.float64]


def find_clusters(
    boxes_xyxy: NDArray[np.floating],
    labels: NDArray[np.integer],
    times_us: NDArray[np.integer],
    *,
    iou_min: float = 0.7,
    still_us: int = 10 * SECOND_US,
    absence_us: int = 600 * SECOND_US,
    members_min: int = 5,
    appearance: NDArray[np.floating] | None = None,
    appearance_max: float = 1.0,
) -> list[Cluster]:
    """Finds objects that stood still.

    Args:
        boxes_xyxy: (N, 4) boxes, pixels; the rows may be in any order. Empty boxes belong to nothing.
        labels: (N,) classes; a cluster has one.
        times_us: (N,) moments; equal for the boxes of one frame.
        iou_min: Least IoU of a box with the cluster's place, at least 0.5.
        still_us: Least time between the first and the last sighting.
        absence_us: What is not seen for longer is gone; who comes to that place later is another object.
        members_min: Least number of sightings.
        appearance: (N, D) descriptors, such as mean colours; rows with NaN say nothing. A box that looks unlike a
            cluster does not join it, so that another object at the same place is told apart without any absence.
        appearance_max: Greatest Euclidean distance between descriptors of one object.

    Returns:
        The clusters in the order of their first sighting. The result does not depend on the order of the rows, but
        for the numbers in `members`.

    Raises:
        UsageError: `iou_min` is out of range, or the lengths differ.
    """
    if not 0.5 <= iou_min <= 1:
        raise UsageError(f"iou_min {iou_min} is not between 0.5 and 1: boxes that overlap less are no one place")
    count = len(boxes_xyxy)
    if len(labels) != count or len(times_us) != count or (appearance is not None and len(appearance) != count):
        raise UsageError(f"{count} boxes with {len(labels)} labels and {len(times_us)} times: give one of each a box")
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    whole = np.all(np.isfinite(boxes), axis=1) & np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    order = np.lexsort((*boxes.T[::-1], labels, times_us))
    places = _Places(iou_min, absence_us, appearance_max)
    for row in order[whole[order]].tolist():
        looks = None if appearance is None or np.isnan(appearance[row]).any() else appearance[row].astype(np.float64)
        box = tuple(boxes[row].tolist())
        places.add(row, box, int(labels[row]), int(times_us[row]), looks)
    return [
        Cluster(rows, (int(times_us[rows[0]]), int(times_us[rows[-1]])), np.median(boxes[rows], axis=0))
        for rows in (np.array(place.rows, np.intp) for place in places.opened)
        if len(rows) >= members_min and times_us[rows[-1]] - times_us[rows[0]] >= still_us
    ]


@dataclass(slots=True, eq=False)
class _Place:
    """Where one object stands, for as long as it is not known to have left.

    Attributes:
        box: Mean of the first boxes, xyxy.
        looks: Mean of the first descriptors; None until one was given.
        cell: Under which it is filed.
        last_us: When it was last seen.
        rows: Of the timeline.
        described: How many descriptors `looks` is the mean of.
    """

    box: _Box
    looks: NDArray[np.float64] | None
    cell: _Cell
    last_us: int
    rows: list[int] = field(default_factory=list)
    described: int = 0

    def join(self, row: int, box: _Box, time_us: int, looks: NDArray[np.float64] | None) -> None:
        self.rows.append(row)
        self.last_us = time_us
        share = 1 / len(self.rows)
        if len(self.rows) <= _SETTLING:
            left, top, right, bottom = (old + (new - old) * share for old, new in zip(self.box, box, strict=True))
            self.box = left, top, right, bottom
        if looks is not None and self.described < _SETTLING:
            self.described += 1
            self.looks = looks if self.looks is None else self.looks + (looks - self.looks) / self.described


class _Places:
    """The places that are taken, found again by where they are and how large."""

    def __init__(self, iou_min: float, absence_us: int, appearance_max: float) -> None:
        self.opened: list[_Place] = []
        self._iou_min = iou_min
        self._absence_us = absence_us
        self._appearance_max = appearance_max
        self._grid: dict[_Cell, list[_Place]] = defaultdict(list)

    def add(self, row: int, box: _Box, label: int, time_us: int, looks: NDArray[np.float64] | None) -> None:
        """Takes the next box of the timeline."""
        fitting = self._fitting(box, label, time_us, looks)
        free = [(overlap, place) for overlap, place in fitting if place.last_us < time_us]
        if free:
            _, best = max(free, key=lambda pair: (pair[0], pair[1].last_us))
            best.join(row, box, time_us, looks)
            self._file(best, label)
        elif not fitting:  # else the detector has said it twice
            place = _Place(box, None, _cell(box, label), time_us)
            place.join(row, box, time_us, looks)
            self.opened.append(place)
            self._grid[place.cell].append(place)

    def _file(self, place: _Place, label: int) -> None:
        """Files a place anew whose mean has crossed the border of its cell."""
        cell = _cell(place.box, label)
        if cell != place.cell:
            self._grid[place.cell].remove(place)
            self._grid[cell].append(place)
            place.cell = cell

    def _fitting(
        self, box: _Box, label: int, time_us: int, looks: NDArray[np.float64] | None
    ) -> list[tuple[float, _Place]]:
        """Places that the box covers and that are not given up, with the IoU."""
        fitting = []
        for cell in _near(box, label, self._iou_min):
            filed = self._grid.get(cell)
            if not filed:
                continue
            if any(time_us - place.last_us > self._absence_us for place in filed):
                filed[:] = [place for place in filed if time_us - place.last_us <= self._absence_us]
            for place in filed:
                overlap = _iou(place.box, box)
                if overlap >= self._iou_min and self._alike(place, looks):
                    fitting.append((overlap, place))
        if looks is None and any(place.described for _, place in fitting):
            # Nothing tells two that stood at one place apart: who was there last still is.
            last_us = max(place.last_us for _, place in fitting)
            fitting = [pair for pair in fitting if pair[1].last_us == last_us]
        return fitting

    def _alike(self, place: _Place, looks: NDArray[np.float64] | None) -> bool:
        if looks is None or place.looks is None:
            return True
        return float(np.linalg.norm(looks - place.looks)) <= self._appearance_max


def _cell(box: _Box, label: int) -> _Cell:
    """Label, sizes by powers of two, and the centre in steps of those."""
    wide, high = _power(box[2] - box[0]), _power(box[3] - box[1])
    return label, wide, high, _step((box[0] + box[2]) / 2, wide), _step((box[1] + box[3]) / 2, high)


def _near(box: _Box, label: int, iou_min: float) -> Iterator[_Cell]:
    """The cells of all boxes with an IoU of at least `iou_min`.

    The common part is at least `iou_min` of either side, so sides differ by that factor at most, and centres by
    (1 - iou_min) of the longer one.
    """
    columns, rows = _bands(box[0], box[2], iou_min), _bands(box[1], box[3], iou_min)
    for wide, column in columns:
        for high, row in rows:
            yield label, wide, high, column, row


def _bands(low: float, high: float, iou_min: float) -> list[tuple[int, int]]:
    """Along one axis: power of the size, and step of the centre."""
    size, centre = high - low, (low + high) / 2
    reach = (1 - iou_min) * size / iou_min + _SLACK * (1 + abs(centre))
    powers = range(_power(size * iou_min * (1 - _SLACK)), _power(size / iou_min * (1 + _SLACK)) + 1)
    return [
        (power, step)
        for power in powers
        for step in range(_step(centre - reach, power), _step(centre + reach, power) + 1)
    ]


def _power(size: float) -> int:
    return math.frexp(size)[1]


def _step(centre: float, power: int) -> int:
    return math.floor(math.ldexp(centre, -power))


def _iou(a: _Box, b: _Box) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    common = wide * high
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)
