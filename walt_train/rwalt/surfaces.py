"""The street's own surfaces as triangles: carriageway, kerbs, pavements, grass, house fronts."""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray

from walt_train.rwalt.layout import KERB_M, Road

REACH_M = 150.0
FRONT_HEIGHT_M = 16.0
KERB_TOP_M = 0.16


class Surface(enum.IntEnum):
    """As `surface.frag` numbers them."""

    ASPHALT = 0
    PAVEMENT = 1
    GRASS = 2
    KERB = 3
    FRONT = 4


def surface_mesh(road: Road) -> NDArray[np.float32]:
    """(V, 7) float32: position 3, normal 3, surface 1."""
    near, far = road.kerb_near, road.kerb_far
    to_camera, from_camera = (0, -1, 0), (0, 1, 0)
    rows = [
        _level(near, far, 0.0, Surface.ASPHALT),
        _level(near - KERB_TOP_M, near, KERB_M, Surface.KERB),
        _level(far, far + KERB_TOP_M, KERB_M, Surface.KERB),
        _level(road.front_near, near - KERB_TOP_M, KERB_M, Surface.PAVEMENT),
        _level(far + KERB_TOP_M, road.front_far, KERB_M, Surface.PAVEMENT),
        _level(-REACH_M, road.front_near, KERB_M, Surface.GRASS),
        _wall(near, 0.0, KERB_M, from_camera, Surface.KERB),
        _wall(far, 0.0, KERB_M, to_camera, Surface.KERB),
        _wall(road.front_far, KERB_M, FRONT_HEIGHT_M, to_camera, Surface.FRONT),
    ]
    return np.concatenate(rows).astype(np.float32)


def _level(y0: float, y1: float, z: float, surface: Surface) -> NDArray[np.float64]:
    corners = [(-REACH_M, y0, z), (REACH_M, y0, z), (REACH_M, y1, z), (-REACH_M, y1, z)]
    return _quad(corners, (0, 0, 1), surface)


def _wall(y: float, z0: float, z1: float, normal: tuple[int, int, int], surface: Surface) -> NDArray[np.float64]:
    corners = [(-REACH_M, y, z0), (REACH_M, y, z0), (REACH_M, y, z1), (-REACH_M, y, z1)]
    return _quad(corners, normal, surface)


def _quad(
    corners: list[tuple[float, float, float]], normal: tuple[int, int, int], surface: Surface
) -> NDArray[np.float64]:
    rows = [(*corners[i], *normal, float(surface)) for i in (0, 1, 2, 0, 2, 3)]
    return np.array(rows, dtype=float)
