"""Static things that stand in the street and may hide what is behind them, and the street's own surfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from walt_train.rwalt.layout import Prop, stream
from walt_train.rwalt.meshes import Floats, Kind, Mesh, ball, box, from_triangles, join, moved, tube

STEEL = (0.11, 0.12, 0.125)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One separately ordered part of a prop; a tree is a trunk and a crown, since people walk under crowns.

    Attributes:
        mesh: In the prop's own coordinates.
        footprint: (V, 2) convex outline on the ground, metres, in the prop's own coordinates.
        bottom_m, top_m: Its vertical extent above the ground.
    """

    mesh: Mesh
    footprint: Floats
    bottom_m: float
    top_m: float


def make_pieces(prop: Prop, seed: int) -> list[Piece]:
    """The pieces of a prop; where it stands and how large it is comes from the prop."""
    rng = stream(seed, "prop", prop.kind, round(prop.x_m * 100))
    return _MAKERS[prop.kind](rng)


def piece(mesh: Mesh) -> Piece:
    """A piece whose footprint is the box around its mesh."""
    low, high = mesh[:, :3].min(axis=0), mesh[:, :3].max(axis=0)
    corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    return Piece(mesh, np.array(corners, dtype=float), float(low[2]), float(high[2]))


def _post(height: float, radius: float, colour: tuple[float, float, float] = STEEL) -> Mesh:
    profile = [(radius * 1.7, 0.0), (radius * 1.7, 0.25), (radius, 0.3), (radius * 0.8, height), (0.0, height)]
    return from_triangles(tube(profile, 10), colour, kind=Kind.PAINT)


def _lamp(rng: np.random.Generator) -> list[Piece]:
    height = float(rng.uniform(4.6, 5.6))
    head = moved(
        from_triangles(ball(6, 10), (0.9, 0.85, 0.7), kind=Kind.HEADLIGHT), (0, 0, height + 0.16), (0.2, 0.2, 0.2)
    )
    cap = moved(from_triangles(tube([(0.26, 0.0), (0.18, 0.1), (0.0, 0.12)], 10), STEEL), (0, 0, height + 0.3))
    return [piece(join(_post(height, 0.07), head, cap))]


def _sign(rng: np.random.Generator) -> list[Piece]:
    height = 2.45
    post = from_triangles(tube([(0.035, 0.0), (0.035, height)], 8), (0.3, 0.31, 0.32), kind=Kind.PAINT)
    if rng.random() < 0.5:
        face = from_triangles(box((0.62, 0.03, 0.62), (0, -0.06, height - 0.1)), (0.02, 0.08, 0.4), kind=Kind.PAINT)
        mark = from_triangles(box((0.3, 0.01, 0.34), (0, -0.08, height - 0.1)), (0.75, 0.75, 0.75))
        return [piece(join(post, face, mark))]
    disc = tube([(0.0, 0.0), (0.34, 0.0), (0.34, 0.03), (0.0, 0.03)], 20)[:, :, [0, 2, 1]] * (1, -1, 1)
    inner = tube([(0.0, 0.0), (0.25, 0.0)], 20)[:, :, [0, 2, 1]]
    red = moved(from_triangles(disc, (0.5, 0.015, 0.02)), (0, -0.04, height - 0.15))
    white = moved(from_triangles(inner, (0.75, 0.75, 0.73)), (0, -0.085, height - 0.15))
    return [piece(join(post, red, white))]


def _traffic_light(rng: np.random.Generator) -> list[Piece]:
    height = 2.9
    post = _post(height, 0.055)
    case = from_triangles(box((0.26, 0.24, 0.78), (0, -0.1, height - 0.05)), (0.02, 0.024, 0.022))
    lamps = []
    for kind, z, colour in ((Kind.RED_LAMP, 0.2, (0.5, 0.02, 0.02)), (Kind.GREEN_LAMP, -0.3, (0.02, 0.4, 0.12))):
        for x, y in ((0.13, -0.1), (-0.13, -0.1), (0.0, -0.23)):
            lens = from_triangles(ball(5, 8), colour, kind=kind)
            lamps.append(moved(lens, (x, y, height + z), (0.085, 0.085, 0.085)))
    return [piece(join(post, case, *lamps))]


def _bin(rng: np.random.Generator) -> list[Piece]:
    colour = ((0.03, 0.1, 0.05), (0.12, 0.12, 0.13), (0.25, 0.12, 0.02))[int(rng.integers(3))]
    body = tube([(0.0, 0.0), (0.24, 0.0), (0.28, 0.8), (0.3, 0.82), (0.28, 0.95), (0.0, 1.0)], 12)
    return [piece(from_triangles(body, colour))]


def _bollard(rng: np.random.Generator) -> list[Piece]:
    body = from_triangles(tube([(0.09, 0.0), (0.09, 0.85), (0.06, 0.95), (0.0, 0.97)], 10), (0.08, 0.085, 0.09))
    band = from_triangles(tube([(0.094, 0.7), (0.094, 0.8)], 10), (0.7, 0.7, 0.7))
    return [piece(join(body, band))]


def _tree(rng: np.random.Generator) -> list[Piece]:
    return _grow(rng, trunk_m=float(rng.uniform(2.5, 2.9)), crown_m=float(rng.uniform(1.15, 1.45)), blobs=16)


def _young_tree(rng: np.random.Generator) -> list[Piece]:
    return _grow(rng, trunk_m=float(rng.uniform(2.2, 2.5)), crown_m=float(rng.uniform(0.7, 0.95)), blobs=12)


def _grow(rng: np.random.Generator, trunk_m: float, crown_m: float, blobs: int) -> list[Piece]:
    """A trunk, and a crown of leafy lumps whose surface the shader breaks up."""
    rings = [(0.17, 0.0), (0.12, 0.3), (0.09, trunk_m), (0.03, trunk_m + crown_m * 0.8)]
    trunk = piece(from_triangles(tube(rings, 8), (0.09, 0.065, 0.045)))
    lumps = []
    for _ in range(blobs):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        centre = direction * crown_m * float(rng.uniform(0.3, 0.62)) * (1, 1, 1.15)
        radius = crown_m * float(rng.uniform(0.4, 0.6))
        sphere = ball(6, 8)
        sphere = (
            sphere * (1 + 0.25 * np.sin(sphere @ rng.normal(0, 3, 3) + rng.uniform(0, 6)))[..., None] * radius
            + centre
        )
        shade = float(rng.uniform(0.7, 1.3))
        lumps.append(from_triangles(sphere, (0.055 * shade, 0.11 * shade, 0.028 * shade), kind=Kind.FOLIAGE))
    crown = moved(join(*lumps), (0, 0, trunk_m + crown_m * 1.15))
    trunk_piece = Piece(trunk.mesh, trunk.footprint, 0.0, trunk_m)
    return [trunk_piece, piece(crown)]


_MAKERS: dict[str, Callable[[np.random.Generator], list[Piece]]] = {
    "lamp": _lamp,
    "sign": _sign,
    "traffic_light": _traffic_light,
    "bin": _bin,
    "bollard": _bollard,
    "tree": _tree,
    "young_tree": _young_tree,
}
