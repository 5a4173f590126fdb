"""Detail falls where structure is taken away, and there alone; light leaves it as it was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from walt_edge.contract.telemetry import LENS_TILES
from walt_edge.vision.lens import brightness, detail
from walt_edge.vision.plate import Image

WH = (640, 360)


def place(seed: int = 1) -> Image:
    chance = np.random.default_rng(seed)
    grey = cv2.GaussianBlur(chance.normal(0, 1, (WH[1], WH[0])).astype(np.float32), (0, 0), 1.5)
    grey = np.clip(110 + 25 * grey / grey.std(), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def shares(picture: Image) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.array(detail(picture)) / np.array(detail(place()))
    return found


@pytest.mark.parametrize("tile", [0, 5, 15])
def test_what_hides_a_tile_lowers_that_tile_alone(tile: int) -> None:
    picture = place()
    row, column = divmod(tile, 4)
    rows = slice(row * WH[1] // 4, (row + 1) * WH[1] // 4)
    columns = slice(column * WH[0] // 4, (column + 1) * WH[0] // 4)
    picture[rows, columns] = cv2.GaussianBlur(picture[rows, columns], (0, 0), 6)
    found = shares(picture)
    assert found[tile] < 0.35
    assert np.delete(found, tile).min() > 0.9


@settings(max_examples=30, deadline=None)
@given(st.floats(0.5, 1.15))
def test_exposure_leaves_it_nearly_as_it_was(gain: float) -> None:
    assert np.abs(shares(np.clip(gain * place(), 0, 255).astype(np.uint8)) - 1).max() < 0.15


@pytest.mark.parametrize("wh", [(4, 4), (160, 120), (1920, 1080), (385, 17)])
def test_any_picture_gives_one_figure_a_tile(wh: tuple[int, int]) -> None:
    picture = cv2.resize(place(), wh)
    found = detail(np.asarray(picture, np.uint8))
    assert len(found) == LENS_TILES
    assert all(0 <= value < 1 for value in found)
    assert detail(np.zeros((wh[1], wh[0], 3), np.uint8)) == (0.0,) * LENS_TILES
    assert brightness(np.full((wh[1], wh[0], 3), 7, np.uint8)) == 7
