"""The ground of a place where something stands most of the time, each time something else."""

from __future__ import annotations

import numpy as np
import pytest

from walt_edge.vision.plate import Image
from walt_train.metrics.swalt_ground import cleared, recurrent_ground

ROAD, LINE = 100, 200
COLOURS = ((20, 20, 200), (10, 40, 30), (30, 30, 40), (20, 60, 20), (50, 10, 10))
STANDS = slice(20, 60), slice(30, 110)


def road(rng: np.random.Generator) -> Image:
    picture = np.full((80, 140, 3), ROAD, np.uint8)
    picture[40:44] = LINE
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def red_light(frames_of_ten: int) -> list[Image]:
    """Five cars one after another, each for so many frames of ten."""
    rng = np.random.default_rng(0)
    pictures = []
    for colour in COLOURS:
        for index in range(10):
            picture = road(rng)
            if index < frames_of_ten:
                picture[STANDS] = colour
            pictures.append(picture)
    return pictures


@pytest.mark.parametrize("frames_of_ten", [0, 3, 8])
def test_the_ground_comes_back_and_no_car_does(frames_of_ten: int) -> None:
    pictures = red_light(frames_of_ten)
    ground, truth = recurrent_ground(pictures), road(np.random.default_rng(1))
    away = np.abs(ground.astype(int) - truth).max(axis=2)
    assert np.quantile(away, 0.99) <= 10
    if frames_of_ten == 8:
        median = np.median(np.stack(pictures), axis=0)
        assert np.abs(median - truth).max(axis=2)[STANDS].mean() > 30, "the median does not know it"


def test_what_stands_throughout_is_ground() -> None:
    rng = np.random.default_rng(2)
    pictures = [road(rng) for _ in range(20)]
    for picture in pictures:
        picture[STANDS] = COLOURS[0]
    inside = recurrent_ground(pictures)[STANDS][1:-1, 1:-1]
    assert np.abs(inside.astype(int) - COLOURS[0]).max() <= 1


def test_a_picture_is_cleared_of_what_is_no_ground() -> None:
    rng = np.random.default_rng(3)
    ground, picture = road(rng), road(rng)
    picture[STANDS] = COLOURS[0]
    clear = cleared(picture, ground)
    assert (clear[STANDS] == ground[STANDS]).all()
    assert (clear[:10] == picture[:10]).all()
