"""Crowds of boxes with maps in which objects overlap, hide and double each other."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_AGAIN = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """N objects of a few pictures, the best first in each; maps (N, 3, side, side)."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    pictures: NDArray[np.int64]
    maps: NDArray[np.float32]


def crowd(seed: int, count: int, *, side: int = 28) -> Crowd:
    """Blobs around a few places in two pictures, half of them with something before or behind them.

    Some are the same one again, with a box a little beside it and maps that differ more or less.
    """
    chance = np.random.default_rng(seed)
    places = chance.uniform(0, 30, (3, 2))[chance.integers(0, 3, count)]
    low = places + chance.normal(0, 2, (count, 2))
    boxes = np.concatenate([low, low + chance.uniform(6, 30, (count, 2))], axis=1).astype(np.float32)
    coarse = chance.normal(0, 1, (count, 3, 5, 5)) + np.array([1.5, -0.3, -0.3])[:, None, None]
    for again in np.flatnonzero(chance.random(count) < _AGAIN):
        other = chance.integers(0, count)
        boxes[again] = boxes[other] + chance.normal(0, 0.7, 4)
        coarse[again] = coarse[other] + chance.normal(0, chance.uniform(0.1, 1), coarse[other].shape)
    maps = np.array([[cv2.resize(layer, (side, side)) for layer in one] for one in coarse]).reshape(-1, 3, side, side)
    shares = (1 / (1 + np.exp(-3 * maps))).astype(np.float32)
    return Crowd(boxes, chance.integers(1, 3, count), np.sort(chance.integers(0, 2, count)), shares)
