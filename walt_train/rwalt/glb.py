"""Vehicles and street furniture from GLB files.

File names say what a mesh is (car, taxi, bus, bicycle, sign, cone, light ...). Every mesh is brought to the size
of its class, put on its wheels, and turned to drive forwards along +x.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from walt_edge.contract.errors import WaltError
from walt_train.rwalt.furniture import Piece, piece
from walt_train.rwalt.meshes import COLUMNS, Colour, Floats, Kind, Mesh, from_triangles, join
from walt_train.rwalt.vehicles import VehicleModel, keypoint_facing

VEHICLE_LENGTHS_M = {
    "schoolbus": 10.0,
    "bus": 11.0,
    "ambulance": 5.8,
    "truck": 7.0,
    "van": 5.2,
    "car": 4.5,
    "taxi": 4.6,
    "bicycle": 1.75,
}
PROP_HEIGHTS_M = {
    "trafficcone": 0.75,
    "cone": 0.75,
    "trafficlight": 3.4,
    "trafficsign": 2.5,
    "sign": 2.5,
    "lamp": 5.0,
}


Parts = list[tuple[Floats, Colour]]
"""(T, 3, 3) triangles and their linear colour."""


class MeshError(WaltError):
    """A folder of meshes is missing or empty, or a mesh cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class GlbMeshes:
    """What a folder gave: vehicles by name, and the pieces of static props."""

    vehicles: tuple[VehicleModel, ...]
    props: tuple[tuple[str, Piece], ...]


def load_meshes(folder: Path) -> GlbMeshes:
    """Reads every GLB file of a folder, in the order of their names.

    Raises:
        MeshError: No such folder, no GLB file, an unreadable one, or none whose name says what it is.
    """
    files = sorted(folder.glob("*.glb")) if folder.is_dir() else []
    if not files:
        raise MeshError(f"no .glb file in {folder}: give a folder of GLB meshes to --meshes")
    vehicles, props = [], []
    for file in files:
        word = file.stem.lower().replace("_", "").replace("-", "")
        if (height := _lookup(PROP_HEIGHTS_M, word)) is not None:
            props.append((file.stem, _prop(_read(file), height)))
        elif (length := _lookup(VEHICLE_LENGTHS_M, word)) is not None:
            vehicles.append(_vehicle(file.stem, _read(file), length))
    if not vehicles and not props:
        known = ", ".join([*VEHICLE_LENGTHS_M, *PROP_HEIGHTS_M])
        raise MeshError(f"no file name in {folder} says what its mesh is: name them after one of {known}")
    return GlbMeshes(tuple(vehicles), tuple(props))


def _lookup(table: dict[str, float], word: str) -> float | None:
    return next((value for name, value in table.items() if name in word), None)


def _read(file: Path) -> Parts:
    """The file's triangles (T, 3, 3) in its own axes, with their linear colours."""
    try:
        scene: Any = trimesh.load(file, force="scene")
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise MeshError(f"cannot read {file}: {error}; export it again as GLB 2.0") from error
    parts = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        triangles = trimesh.transformations.transform_points(geometry.triangles.reshape(-1, 3), transform)
        parts.append((triangles.reshape(-1, 3, 3), _colour(geometry)))
    if not parts:
        raise MeshError(f"{file} holds no triangles; remove it or export it again")
    return parts


def _colour(geometry: Any) -> Colour:
    factor = getattr(getattr(geometry.visual, "material", None), "baseColorFactor", None)
    if factor is None:
        return 0.4, 0.4, 0.4
    values = np.asarray(factor, dtype=float)[:3]
    red, green, blue = (values / 255.0 if values.max() > 1.0 else values) ** 1.0
    return float(red), float(green), float(blue)


def _upright(
    parts: Parts,
) -> Parts:
    """GLB is y up and looks along +z: turned to z up, along +x."""
    turn = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return _turned(parts, turn)


def _turned(parts: Parts, matrix: Floats) -> Parts:
    out: Parts = []
    for triangles, colour in parts:
        corners: Floats = triangles @ matrix.T
        out.append((corners, colour))
    return out


def _extent(parts: Parts) -> tuple[Floats, Floats]:
    points = np.concatenate([triangles.reshape(-1, 3) for triangles, _ in parts])
    return points.min(axis=0), points.max(axis=0)


def _vehicle(name: str, parts: Parts, length_m: float) -> VehicleModel:
    parts = _upright(parts)
    low, high = _extent(parts)
    if high[1] - low[1] > high[0] - low[0]:
        parts = [
            (triangles @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]).T, colour) for triangles, colour in parts
        ]
        low, high = _extent(parts)
    scale = length_m / (high[0] - low[0])
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    body = _mesh([((triangles - origin) * scale, colour) for triangles, colour in parts])
    length, width, height = (float(v) for v in (high - low) * scale)
    radius = min(0.2 * height, 0.45)
    hubs = np.array([(end * 0.3 * length, side * (width / 2 - 0.1), radius) for end in (1, -1) for side in (1, -1)])
    roof = [(end * 0.15 * length, side * 0.35 * width, height) for end in (1, -1) for side in (1, -1)]
    lights = [(end * length / 2, side * 0.36 * width, 0.42 * height) for end in (1, -1) for side in (1, -1)]
    keypoints = np.concatenate([hubs + np.sign(hubs) * (0, 0.1, 0), roof, lights])
    return VehicleModel(
        name, (length, width, height), body, None, radius, hubs, keypoints, keypoint_facing(), painted=False
    )


def _prop(parts: Parts, height_m: float) -> Piece:
    parts = _upright(parts)
    low, high = _extent(parts)
    scale = height_m / (high[2] - low[2])
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return piece(_mesh([((triangles - origin) * scale, colour) for triangles, colour in parts]))


def _mesh(parts: Parts) -> Mesh:
    meshes = [from_triangles(triangles, colour, kind=Kind.PAINT) for triangles, colour in parts]
    joined = join(*meshes)
    assert joined.shape[1] == COLUMNS
    return joined
