"""How tall objects of a class are in the picture, by where they touch the ground.

For a camera over flat ground the height in pixels is linear in the row of the ground contact (Hoiem, Efros, Hebert,
"Putting objects in perspective", CVPR 2006). Fitted by least squares in whole numbers, so that every machine
finds the same line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_OBJECTS_MIN = 5
_ROUNDS = 3
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

    Objects more than 30% off are left out and the line is fitted again.
    """
    kept = list(rows_and_heights)
    line = None
    for _ in range(_ROUNDS):
        line = _least_squares(kept)
        if line is None:
            return None
        near = [pair for pair in kept if _is_near(line, *pair)]
        if len(near) == len(kept):
            break
        kept = near
    return line


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
