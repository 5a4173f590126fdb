"""Packs pixel boxes into an atlas, so that one pass and one read-back give many small masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sheet:
    """One filling of the atlas.

    Attributes:
        places: (index of the box, x, y) of its tile's top left corner.
        used_h: Rows in use.
    """

    places: tuple[tuple[int, int, int], ...]
    used_h: int


def pack(sizes_wh: Sequence[tuple[int, int]], atlas_wh: tuple[int, int]) -> list[Sheet]:
    """Shelf packing, tallest first; empty boxes get no place, and every box must fit the atlas by itself."""
    order = sorted((i for i, (w, h) in enumerate(sizes_wh) if w and h), key=lambda i: -sizes_wh[i][1])
    sheets: list[Sheet] = []
    places: list[tuple[int, int, int]] = []
    x = y = shelf_h = 0
    for index in order:
        width, height = sizes_wh[index]
        assert width <= atlas_wh[0], "the atlas is at least as large as the frame"
        assert height <= atlas_wh[1]
        if x + width > atlas_wh[0]:
            x, y, shelf_h = 0, y + shelf_h, 0
        if y + height > atlas_wh[1]:
            sheets.append(Sheet(tuple(places), y))
            places, x, y, shelf_h = [], 0, 0, 0
        places.append((index, x, y))
        x, shelf_h = x + width, max(shelf_h, height)
    if places:
        sheets.append(Sheet(tuple(places), y + shelf_h))
    return sheets
