from __future__ import annotations

import numpy as np
import pytest

from walt_edge.overview import cell, grid


def test_a_cell_shows_what_the_mask_holds_and_nothing_beside_it() -> None:
    picture = np.full((40, 20, 3), (10, 200, 10), np.uint8)
    mask = np.zeros((40, 20), bool)
    mask[10:30, 5:15] = True
    before = picture.copy()
    made = cell(picture, mask, "P7 0.93")
    assert np.array_equal(picture, before)
    green = (np.abs(made.astype(int) - (10, 200, 10)) < 12).all(axis=2)
    rows, columns = np.nonzero(green)
    assert np.ptp(rows) == pytest.approx(2 * np.ptp(columns), abs=3), "in its own proportions"
    assert made[0, 0].tolist() == [226, 226, 226]
    assert (made[-16:] < 120).any(), "the text stands below"


@pytest.mark.parametrize(("count", "rows"), [(0, 1), (1, 1), (16, 1), (17, 2)])
def test_a_grid_is_as_wide_as_the_sheet(count: int, rows: int) -> None:
    assert grid([np.zeros((128, 96, 3), np.uint8)] * count).shape == (rows * 128, 1536, 3)
