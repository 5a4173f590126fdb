"""How tall objects of a class are in the picture, by where they touch the ground.

For a camera over flat ground the height in pixels is linear in the row of the ground contact (Hoiem, Efros, Hebert,
"Putting objects in perspective", CVPR 2006). Fitted by least squares in whole numbers, so that every machine
finds the same line.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

_OBJECTS_MIN = 5
_MEDIAN_OBJECTS = 200  # of which the pairs are looked at
_ONE = 1 << 16


@dataclass(frozen=True, slots=True)
class HeightLine:
    """height = (slope * row + offset) / 65536, for rows between those where objects stood.

    Attributes:
        slope: Pixels of height a row, times 65,536.
        offset: Pixels, times 65,536.
        top: The highest row on which one stood.
        bottom: The lowest.
    """

    slope: int
    offset: int
    top: int
    bottom: int

    def scaled_height(self, row: int) -> int:
        """Height of a typical object that stands on this row, pixels times 65,536; positive within the rows."""
        return self.slope * row + self.offset


def fit_height_line(rows_and_heights: Sequence[tuple[int, int]]) -> HeightLine | None:
    """The line through one (ground row, height) of each object, or None where they do not give one.

    Objects that are more than 30% off a line through the medians (Theil-Sen) are left out of the least squares.
    """
    rough = _median_line(rows_and_heights)
    if rough is None:
        return None
    return _least_squares([pair for pair in rows_and_heights if _is_near(rough, *pair)])


def _median_line(pairs: Sequence[tuple[int, int]]) -> HeightLine | None:
    some = pairs[:: 1 + len(pairs) // _MEDIAN_OBJECTS]
    couples = [(one, other) for one, other in itertools.combinations(some, 2) if one[0] != other[0]]
    if not couples:
        return None
    slopes = sorted((one[1] - other[1]) * _ONE // (one[0] - other[0]) for one, other in couples)
    slope = slopes[len(slopes) // 2]
    offsets = sorted(height * _ONE - slope * row for row, height in some)
    return HeightLine(slope, offsets[len(offsets) // 2], 0, 0)


def _is_near(line: HeightLine, row: int, height: int) -> bool:
    expected = line.scaled_height(row)
    return abs(height * _ONE - expected) * 10 <= expected * 3


def _least_squares(pairs: Sequence[tuple[int, int]]) -> HeightLine | None:
    """None for too few objects, all on one row, or a line on which nothing near would be larger."""
    count = len(pairs)
    if count < _OBJECTS_MIN:
        return None
    rows, heights = [row for row, _ in pairs], [height for _, height in pairs]
    spread = count * sum(row * row for row in rows) - sum(rows) ** 2
    if spread == 0:
        return None
    rise = count * sum(row * height for row, height in pairs) - sum(rows) * sum(heights)
    slope = rise * _ONE // spread
    offset = (sum(heights) * _ONE - slope * sum(rows)) // count
    line = HeightLine(slope, offset, min(rows), max(rows))
    return line if slope >= 0 and line.scaled_height(line.top) > 0 else None
