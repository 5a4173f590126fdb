"""Triangle meshes made by code: primitives, lofts, smoothing, joining.

A mesh is a triangle soup, three corners a triangle, in one float32 array with the columns of `COLUMNS`; nothing
is shared between triangles, which keeps joining and uploading trivial. Objects look along +x, y is their left,
z up, and they stand on z = 0.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mesh = NDArray[np.float32]
"""(3T, 11) float32: position 3, normal 3, colour 3, paint 1, kind 1."""

COLUMNS = 11
Colour = tuple[float, float, float]

CREASE_COS = 0.72
"""Faces that meet at less than about 44 degrees are shaded as one smooth surface."""


class Kind(enum.IntEnum):
    """How the shader treats a surface."""

    MATTE = 0
    PAINT = 1
    GLASS = 2
    HEADLIGHT = 3
    TAILLIGHT = 4
    FOLIAGE = 5
    CLOTH = 6
    RED_LAMP = 7
    GREEN_LAMP = 8


def from_triangles(
    triangles: Floats, colour: Colour = (1.0, 1.0, 1.0), paint: float = 0.0, kind: Kind = Kind.MATTE
) -> Mesh:
    """A mesh of (T, 3, 3) corner positions, smoothed across creases.

    Args:
        triangles: Corner positions, metres.
        colour: Linear RGB, 0..1.
        paint: How much of the colour comes from the instance instead, 0..1.
        kind: Surface kind.
    """
    sides = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    twice_area = np.linalg.norm(sides, axis=1)
    solid = twice_area > 1e-9
    triangles, sides, twice_area = triangles[solid], sides[solid], twice_area[solid]
    normals = smooth_normals(triangles, sides, sides / twice_area[:, None])
    mesh = np.zeros((len(triangles) * 3, COLUMNS), dtype=np.float32)
    mesh[:, 0:3] = triangles.reshape(-1, 3)
    mesh[:, 3:6] = normals.reshape(-1, 3)
    mesh[:, 6:9] = colour
    mesh[:, 9] = paint
    mesh[:, 10] = kind
    return mesh


def smooth_normals(triangles: Floats, weighted: Floats, unit: Floats) -> Floats:
    """(T, 3, 3) corner normals: the area-weighted mean over the faces that meet there within the crease angle."""
    keys = np.round(triangles.reshape(-1, 3) * 2000).astype(np.int64)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.ravel()
    face = np.repeat(np.arange(len(triangles)), 3)
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    normals = np.zeros((len(face), 3))
    for corners in np.split(order, bounds):
        faces = face[corners]
        alike = unit[faces] @ unit[faces].T > CREASE_COS
        normals[corners] = alike @ weighted[faces]
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    unit_normals: Floats = normals / np.maximum(lengths, 1e-12)
    return unit_normals.reshape(-1, 3, 3)


def join(*meshes: Mesh) -> Mesh:
    """One mesh of several."""
    return np.concatenate(meshes) if meshes else np.zeros((0, COLUMNS), dtype=np.float32)


def moved(mesh: Mesh, offset: Sequence[float], scale: Sequence[float] = (1.0, 1.0, 1.0), yaw: float = 0.0) -> Mesh:
    """The mesh scaled, turned about z by `yaw` radians, then shifted."""
    out = mesh.copy()
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    out[:, 0:3] = (mesh[:, 0:3] * np.asarray(scale)) @ turn.T + np.asarray(offset)
    normals = (mesh[:, 3:6] / np.asarray(scale)) @ turn.T
    out[:, 3:6] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return out


def quads(corners: Floats) -> Floats:
    """(Q, 4, 3) quads, in order around, as (2Q, 3, 3) triangles."""
    return np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])


def grid_faces(points: Floats, closed: bool = False) -> Floats:
    """(rows-1, columns-1, 4, 3) quads of a (rows, columns, 3) grid; `closed` joins the last to the first."""
    following = np.roll(points, -1, axis=1)
    if not closed:
        points, following = points[:, :-1], following[:, :-1]
    return np.stack([points[:-1], following[:-1], following[1:], points[1:]], axis=2)


def box(size: Sequence[float], centre: Sequence[float]) -> Floats:
    """(12, 3, 3) triangles of an axis-parallel box."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    corners = signs * np.asarray(size) / 2 + np.asarray(centre)
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return quads(corners[np.array(faces)])


def tube(profile: Sequence[tuple[float, float]], sides: int = 10, squash: float = 1.0) -> Floats:
    """A surface of revolution about z from (radius, z) pairs; `squash` scales its y axis."""
    angles = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angles), squash * np.sin(angles), np.zeros(sides)], axis=-1)
    rows = np.stack([ring * radius + (0.0, 0.0, z) for radius, z in profile])
    return quads(grid_faces(rows, closed=True).reshape(-1, 4, 3))


def ball(rings: int = 7, sides: int = 10) -> Floats:
    """The unit sphere."""
    latitudes = np.linspace(-np.pi / 2, np.pi / 2, rings)
    return tube([(float(np.cos(a)), float(np.sin(a))) for a in latitudes], sides)


def wheel(radius: float, width: float, sides: int = 14) -> Mesh:
    """A wheel about the y axis at the origin: tyre, rim, and spokes that show its turning."""
    across = [(0.0, 0.46), (0.66, 0.46), (0.94, 0.5), (1.0, 0.4)]
    profile = [(r * radius, -w * width) for r, w in across] + [(r * radius, w * width) for r, w in reversed(across)]
    tyre = tube(profile[1:-1], sides)
    hub = np.concatenate([tube(profile[:2], sides), tube(profile[-2:], sides)])
    spokes = np.concatenate(
        [
            box((radius * 1.16, radius * 0.11, width * 1.04), (0, 0, 0)),
            box((radius * 0.11, radius * 1.16, width * 1.04), (0, 0, 0)),
        ]
    )
    upright = join(
        from_triangles(tyre, (0.018, 0.018, 0.02)),
        from_triangles(hub, (0.07, 0.07, 0.075), kind=Kind.PAINT),
        from_triangles(spokes, (0.38, 0.38, 0.4), kind=Kind.PAINT),
    )
    mesh = upright.copy()
    mesh[:, [1, 2]] = upright[:, [2, 1]]
    mesh[:, [4, 5]] = upright[:, [5, 4]]
    return mesh
