"""The cost of a network drawn as lying bars: one row for each part, one column for each kind of cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_export.cost import PartCost

_INK: Final = (40, 40, 40)
_PALE: Final = (225, 225, 225)
_ROW_PX, _BAR_PX, _TOP_PX = 28, 16, 96
_NAME_PX, _COLUMN_PX, _VALUE_PX = 170, 250, 92
_COLUMNS: Final[tuple[tuple[str, tuple[int, int, int], str, Callable[[PartCost], float | None]], ...]] = (
    ("milliseconds", (168, 108, 27), "{:.1f}", lambda one: one.ms),
    ("GFLOPs", (57, 123, 224), "{:.2f}", lambda one: one.gflops),
    ("kB in the file", (91, 154, 58), "{:,.0f}", lambda one: one.size_bytes / 1e3),
)
"""Heading, BGR colour, form of the values, and where they come from."""


def draw_cost(title: str, notes: Sequence[str], costs: Sequence[PartCost]) -> NDArray[np.uint8]:
    """(H, W, 3) BGR: bars of time, operations and bytes by part; time only where it was measured.

    Args:
        title: Whose cost it is.
        notes: Up to two lines below the title.
        costs: One row each.
    """
    columns = [column for column in _COLUMNS if any(column[3](one) is not None for one in costs)]
    size_wh = (_NAME_PX + len(columns) * _COLUMN_PX, _TOP_PX + len(costs) * _ROW_PX + 12)
    image = np.full((size_wh[1], size_wh[0], 3), 255, np.uint8)
    _write(image, title, (10, 22), 0.5)
    for row, note in enumerate(notes):
        _write(image, note, (10, 42 + 18 * row), 0.38)
    for row, one in enumerate(costs):
        _write(image, one.part, (10, _TOP_PX + row * _ROW_PX + 18), 0.42)
    for place, (heading, colour, form, value) in enumerate(columns):
        values = [value(one) or 0.0 for one in costs]
        _draw_column(image, _NAME_PX + place * _COLUMN_PX, f"{heading}, {form.format(sum(values))} in all")
        _draw_bars(image, _NAME_PX + place * _COLUMN_PX, values, form, colour)
    return image


def _draw_column(image: NDArray[np.uint8], left: int, heading: str) -> None:
    _write(image, heading, (left, _TOP_PX - 12), 0.42)
    cv2.line(image, (left, _TOP_PX - 4), (left, image.shape[0] - 12), _PALE, 1)


def _draw_bars(
    image: NDArray[np.uint8], left: int, values: Sequence[float], form: str, colour: tuple[int, int, int]
) -> None:
    most = max([*values, 1e-9])
    for row, value in enumerate(values):
        y = _TOP_PX + row * _ROW_PX + (_ROW_PX - _BAR_PX) // 2
        right = left + round((_COLUMN_PX - _VALUE_PX) * value / most)
        if right > left:
            cv2.rectangle(image, (left, y), (right, y + _BAR_PX), colour, -1)
        _write(image, form.format(value), (right + 5, y + 12), 0.38)


def _write(image: NDArray[np.uint8], text: str, place_xy: tuple[int, int], scale: float) -> None:
    cv2.putText(image, text, place_xy, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
