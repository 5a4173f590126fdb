"""How large things are where they stand: a line from the ground contact's row to size, learned from the objects.

Over flat ground a camera that looks along the horizon sees an upright object's height grow linearly with the row of
its foot: h = a·y + b. People scatter a few per cent around their line, vehicles (by the root of their area) more.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label

_CAPACITY = 600
_REFIT = 5
_BULK = 0.19  # area / height squared of people walking, until it is known here
_BULKS_MIN = 30
_POINTS_PER_TRACK = 8
_SPREAD_SHARE = 0.08


class SizeLine:
    """A robust line through (row of the foot, size), one point a track and place.

    Args:
        objects_min: Objects seen before the line says anything.
    """

    def __init__(self, objects_min: int = 4) -> None:
        self._points: deque[tuple[float, float, int]] = deque(maxlen=_CAPACITY)
        self._objects_min = objects_min
        self._line: tuple[float, float] | None = None
        self._added = 0

    def add(self, foot_y: float, size: float, track_id: int) -> None:
        """Notes a clean sighting; a few of each object, so that one that stays does not decide."""
        if sum(1 for _, _, track in self._points if track == track_id) >= _POINTS_PER_TRACK:
            return
        self._points.append((foot_y, size, track_id))
        self._added += 1
        if self._added % _REFIT == 0:
            self._line = self._fit()

    def expected(self, foot_y: float) -> float | None:
        """Size expected at a row, or None while too little is known there."""
        if self._line is None:
            return None
        slope, offset = self._line
        size = slope * foot_y + offset
        return size if size > 4 else None

    def _fit(self) -> tuple[float, float] | None:
        points = np.array(self._points)
        if len(np.unique(points[:, 2])) < self._objects_min:
            return None
        y, size = points[:, 0], points[:, 1]
        if np.ptp(y) < _SPREAD_SHARE * max(1.0, y.max()):
            return (0.0, float(np.median(size)))
        return _theil_sen(y, size)


def _theil_sen(x: NDArray[np.float64], y: NDArray[np.float64], pairs: int = 4000) -> tuple[float, float]:
    """Median of pairwise slopes (Theil 1950, Sen 1968) over a fixed sample of pairs; stands 29% outliers."""
    random = np.random.default_rng(7)
    one, other = random.integers(0, len(x), (2, pairs))
    apart = np.abs(x[one] - x[other]) > 0.05 * np.ptp(x)
    slopes = (y[one] - y[other])[apart] / (x[one] - x[other])[apart]
    slope = max(0.0, float(np.median(slopes)))
    return slope, float(np.median(y - slope * x))


class Sizes:
    """The lines of all classes."""

    def __init__(self) -> None:
        self._lines = {label: SizeLine() for label in Label}
        self._bulks: deque[float] = deque(maxlen=_CAPACITY)

    def add(self, label: Label, foot_y: float, height: float, area: float, track_id: int) -> None:
        """Notes a clean, classified sighting."""
        self._lines[label].add(foot_y, _size(label, height, area), track_id)
        if label is Label.PERSON:
            self._bulks.append(area / (height * height))

    def person_height(self, foot_y: float) -> float | None:
        """How high a person is who stands there, pixels, or None while too little is known."""
        return self._lines[Label.PERSON].expected(foot_y)

    def bulk_ratio(self, height: float, area: float) -> float:
        """A person's area for their height, against what is usual here: two people are bulkier than one."""
        usual = float(np.median(self._bulks)) if len(self._bulks) >= _BULKS_MIN else _BULK
        return area / (height * height) / usual

    def ratio(self, label: Label, foot_y: float, height: float, area: float) -> float | None:
        """Seen size / expected size, or None while too little is known."""
        expected = self._lines[label].expected(foot_y)
        return None if expected is None else _size(label, height, area) / expected


def _size(label: Label, height: float, area: float) -> float:
    return height if label is Label.PERSON else float(np.sqrt(area))
