"""How unlike a crop is to what was taken lately: by pose, by time of day, by its place in the frame.

Each crop falls into a cell of three tables: place x pose, place x time of day, pose x time of day. What a collection
is worth beyond its pieces is the sum over all cells of log(1 + n / n0), and the novelty of one more crop is its gain:
the mean over the three tables of 1 / (1 + n / n0). Counts are halved after every `half_life_s`. The tables have an
end, so the memory has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from walt_edge.contract.masks import Mask, PatchMask, decode_rle
from walt_edge.contract.messages import Clock, CropHeader

GRID_WH = (8, 6)
HOURS_A_BIN = 3
UNKNOWN_HOUR = 24 // HOURS_A_BIN
_ASPECTS = (0.45, 0.75, 1.3, 2.4)  # height / width: cars from the side and the front, people walking and standing
_LEAN = 0.08  # of the width
_FLARE = 1.25
_FORGOTTEN = 0.01
_CELLS_MAX = 50_000  # some eight cameras with every cell in use


@dataclass(frozen=True, slots=True)
class Likeness:
    """The cells that a crop falls into.

    Attributes:
        kind: Camera and class: between these nothing is alike.
        place: Cell of the position grid, by where the object touches the ground.
        pose: Of the outline, wherever it lies and however large it is; see `pose`.
        hour: Of the day (UTC), in bins; a bin of its own for a clock that is not synchronised.
    """

    kind: str
    place: int
    pose: int
    hour: int

    @classmethod
    def of(cls, header: CropHeader) -> Likeness:
        """Of a sealed crop."""
        width, height = header.origin.frame_wh
        column = _cell(header.ground_xy[0] / max(1, width), GRID_WH[0])
        row = _cell(header.ground_xy[1] / max(1, height), GRID_WH[1])
        return cls(
            kind=f"{header.origin.camera}/{int(header.label)}",
            place=row * GRID_WH[0] + column,
            pose=pose(decode_rle(header.mask)),
            hour=_hour(header),
        )

    @property
    def cells(self) -> tuple[str, str, str]:
        """One cell of each table."""
        return (
            f"{self.kind}/p{self.place}/o{self.pose}",
            f"{self.kind}/p{self.place}/h{self.hour}",
            f"{self.kind}/o{self.pose}/h{self.hour}",
        )


def pose(mask: Mask) -> int:
    """A number, 0..44, for the pose that an outline shows: aspect (5), lean (3) and flare (3).

    Lean is the way from the middle of the lower half to that of the upper: a car that shows its flank from the left
    or the right, a body bent forward. Flare is the lower half's area over the upper's: legs apart, a load, a cabin.
    """
    own = PatchMask.from_full(mask).mask
    if own.size == 0:
        return 0
    height, width = own.shape
    upper, lower = own[: max(1, height // 2)], own[height // 2 :]
    lean = (_middle(upper) - _middle(lower)) / width
    flare = (lower.mean() + 1e-6) / (upper.mean() + 1e-6)
    aspect = sum(height / width > edge for edge in _ASPECTS)
    return (aspect * 3 + _three(lean, -_LEAN, _LEAN)) * 3 + _three(flare, 1 / _FLARE, _FLARE)


class Novelty:
    """What was taken lately, as counts that fade.

    Args:
        half_life_s: After which a count is worth half.
        alike: n0: so many alike halve the novelty.
        cells: What `kept` gave, from before a restart.
    """

    def __init__(self, half_life_s: float, alike: float, cells: dict[str, tuple[float, float]] | None = None) -> None:
        self._half_life_s = half_life_s
        self._alike = alike
        self._cells = cells or {}

    def __call__(self, likeness: Likeness, now_s: float) -> float:
        """How new one more of these would be: above 0, at most 1."""
        gains = [1 / (1 + self._count(cell, now_s) / self._alike) for cell in likeness.cells]
        return sum(gains) / len(gains)

    def add(self, likeness: Likeness, now_s: float) -> None:
        """Notes one that is taken."""
        for cell in likeness.cells:
            self._cells[cell] = (self._count(cell, now_s) + 1.0, now_s)
        if len(self._cells) > _CELLS_MAX:
            self._forget(now_s)

    def kept(self, now_s: float) -> dict[str, tuple[float, float]]:
        """What is worth remembering over a restart: counts and when they held."""
        found = {cell: (round(self._count(cell, now_s), 3), round(now_s, 1)) for cell in self._cells}
        return {cell: fact for cell, fact in found.items() if fact[0] > _FORGOTTEN}

    def _count(self, cell: str, now_s: float) -> float:
        count, at_s = self._cells.get(cell, (0.0, now_s))
        return count * float(0.5 ** (max(0.0, now_s - at_s) / self._half_life_s))

    def _forget(self, now_s: float) -> None:
        """Half of the cells, those that hold least."""
        ranked = sorted(self._cells, key=lambda cell: self._count(cell, now_s))
        for cell in ranked[: len(ranked) // 2]:
            del self._cells[cell]


def _middle(mask: Mask) -> float:
    columns = np.flatnonzero(mask.any(axis=0))
    weights = mask.sum(axis=0)[columns]
    return float(np.average(columns, weights=weights)) if columns.size else mask.shape[1] / 2


def _three(value: float, low: float, high: float) -> int:
    return int(value > low) + int(value > high)


def _cell(part: float, cells: int) -> int:
    return min(cells - 1, max(0, math.floor(part * cells)))


def _hour(header: CropHeader) -> int:
    if header.captured.clock is not Clock.SYNCHRONISED:
        return UNKNOWN_HOUR
    return header.captured.utc_us // 3_600_000_000 % 24 // HOURS_A_BIN
