"""How much fine structure of the background reaches the sensor, tile by tile: dirt, drops and fog take it away.

Measured on the plate, in which noise is averaged out and nothing moves, and set against the tile's brightness (Weber
contrast), so that exposure and clouds leave it nearly as it was; a smear takes fine structure, and a film that
glares takes contrast. What a tile showed of old is for whoever compares to know: this is one moment.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.telemetry import LENS_TILES
from walt_edge.vision.plate import Image

_WORK_WIDTH = 384
_SIDE = 4
_FINE_PX = 1.0
# Grey levels: in the dark a level more or less is noise.
_DARK_LEVEL = 8.0

assert _SIDE * _SIDE == LENS_TILES


def detail(plate: Image) -> tuple[float, ...]:
    """For each of 4 x 4 tiles, row by row, its mean fine contrast over its brightness: 0 (covered) to about 0.5.

    Args:
        plate: (H, W, 3) uint8, BGR.
    """
    height = max(_SIDE, round(plate.shape[0] * _WORK_WIDTH / plate.shape[1]))
    small = cv2.resize(plate, (_WORK_WIDTH, height), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    fine = cv2.absdiff(grey, cv2.GaussianBlur(grey, (0, 0), _FINE_PX)).astype(np.float32)
    contrast = _tiles(fine) / (_tiles(grey) + _DARK_LEVEL)
    return tuple(round(float(share), 4) for share in contrast.ravel())


def brightness(plate: Image) -> float:
    """Mean level of the picture, 0..255."""
    return round(float(plate[::4, ::4].mean()), 1)


def _tiles(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(values, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float32)
