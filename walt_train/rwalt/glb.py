"""Vehicles and street furniture from GLB files.

File names say what a mesh is (car, taxi, bus, bicycle, sign, cone, light ...). Every mesh is brought to the size of
its class and put on its wheels, driving forwards along +x: the names of its wheel nodes tell which way that is.
Materials without a colour of their own take one by their name, or the paint of the vehicle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from walt_edge.contract.errors import WaltError
from walt_train.rwalt.furniture import Piece, piece
from walt_train.rwalt.meshes import Colour, Floats, Kind, Mesh, from_triangles, join
from walt_train.rwalt.vehicles import BLACK, GLASS, VehicleModel, keypoint_facing

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
MAX_WIDTH_M = {"schoolbus": 2.6, "bus": 2.6, "ambulance": 2.3, "truck": 2.5, "bicycle": 0.7}
"""Toy-like proportions are brought down to what a lane can take; cars to 2.0."""
PROP_HEIGHTS_M = {"cone": 0.75, "trafficlight": 3.4, "sign": 2.5, "lamp": 5.0}

_NAMED: dict[str, tuple[Colour, Kind]] = {
    "wheel": ((0.02, 0.02, 0.022), Kind.MATTE),
    "window": (GLASS, Kind.GLASS),
    "taillight": ((0.3, 0.008, 0.008), Kind.TAILLIGHT),
    "light": ((0.8, 0.8, 0.75), Kind.HEADLIGHT),
    "bumper": ((0.03, 0.03, 0.032), Kind.MATTE),
    "detail": (BLACK, Kind.MATTE),
    "black": (BLACK, Kind.MATTE),
    "grey": ((0.12, 0.12, 0.125), Kind.PAINT),
    "pole": ((0.2, 0.205, 0.21), Kind.PAINT),
    "border": ((0.7, 0.7, 0.7), Kind.MATTE),
    "sign": ((0.4, 0.02, 0.025), Kind.MATTE),
    "white": ((0.72, 0.72, 0.7), Kind.PAINT),
    "red": ((0.42, 0.02, 0.02), Kind.PAINT),
    "green": ((0.02, 0.3, 0.08), Kind.PAINT),
    "yellow": ((0.62, 0.4, 0.02), Kind.PAINT),
    "orange": ((0.6, 0.16, 0.02), Kind.PAINT),
}
_NEUTRAL = 0.8
"""An exporter's grey for "no colour": the vehicle's own paint shows instead."""


class MeshError(WaltError):
    """A folder of meshes is missing or empty, or a mesh cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One node of a file: its name, its triangles (T, 3, 3), its look."""

    name: str
    triangles: Floats
    colour: Colour
    paint: float
    kind: Kind


@dataclass(frozen=True, slots=True, eq=False)
class GlbMeshes:
    """What a folder gave: vehicles, and the pieces of static props by name."""

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
            vehicles.append(_vehicle(file.stem, _read(file), length, _lookup(MAX_WIDTH_M, word) or 2.0))
    if not vehicles and not props:
        known = ", ".join([*VEHICLE_LENGTHS_M, *PROP_HEIGHTS_M])
        raise MeshError(f"no file name in {folder} says what its mesh is: name them after one of {known}")
    return GlbMeshes(tuple(vehicles), tuple(props))


def _lookup(table: dict[str, float], word: str) -> float | None:
    return next((value for name, value in table.items() if name in word), None)


def _read(file: Path) -> list[_Part]:
    try:
        scene: Any = trimesh.load(file, force="scene")
    except (ValueError, OSError, KeyError, IndexError, TypeError) as error:
        raise MeshError(f"cannot read {file}: {error}; export it again as GLB 2.0") from error
    parts = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        corners = trimesh.transformations.transform_points(geometry.triangles.reshape(-1, 3), transform)
        parts.append(_Part(str(node).lower(), corners.reshape(-1, 3, 3), *_look(str(node), geometry)))
    if not parts:
        raise MeshError(f"{file} holds no triangles; remove it or export it again")
    return parts


def _look(node: str, geometry: Any) -> tuple[Colour, float, Kind]:
    """Colour, share of the vehicle's paint, surface kind: by the material's colour, else by the names."""
    material = getattr(geometry.visual, "material", None)
    factor = getattr(material, "baseColorFactor", None)
    values = np.asarray(factor if factor is not None else [_NEUTRAL] * 3, dtype=float)[:3]
    values = values / 255.0 if values.max() > 1.0 else values
    words = f"{getattr(material, 'name', '')} {node}".lower()
    named = next((look for word, look in _NAMED.items() if word in words), None)
    if np.allclose(values, _NEUTRAL, atol=0.01):
        return ((1.0, 1.0, 1.0), 1.0, Kind.PAINT) if named is None else (named[0], 0.0, named[1])
    red, green, blue = values.tolist()
    return (red, green, blue), 0.0, Kind.PAINT if named is None else named[1]


def _vehicle(name: str, parts: list[_Part], length_m: float, width_m: float) -> VehicleModel:
    axes = _axes(parts)
    low, high = _extent(parts, axes)
    scale = min(length_m / float(high[0] - low[0]), width_m / float(high[1] - low[1]))
    length, width, height = (float(v) for v in (high - low) * scale)
    size = (length, width, height)
    radius = min(0.2 * height, 0.45)
    hubs = np.array([(end * 0.3 * length, side * (width / 2 - 0.1), radius) for end in (1, -1) for side in (1, -1)])
    roof = [(end * 0.15 * length, side * 0.35 * width, height) for end in (1, -1) for side in (1, -1)]
    lights = [(end * length / 2, side * 0.36 * width, 0.42 * height) for end in (1, -1) for side in (1, -1)]
    keypoints = np.concatenate([hubs + np.sign(hubs) * (0, 0.1, 0), roof, lights])
    return VehicleModel(name, size, _mesh(parts, axes, scale), None, radius, hubs, keypoints, keypoint_facing())


def _prop(parts: list[_Part], height_m: float) -> Piece:
    """A prop stands with its broad side to the street (glTF is y up)."""
    axes = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    low, high = _extent(parts, axes)
    if high[0] - low[0] < high[1] - low[1]:
        axes = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        low, high = _extent(parts, axes)
    return piece(_mesh(parts, axes, height_m / float(high[2] - low[2])))


def _axes(parts: list[_Part]) -> Floats:
    """(3, 3) whose rows are the file's forward, left and up directions.

    Forward is along the longest side, from the rear to the front wheels. Up is the one of the two others along
    which the wheels span less of the vehicle; it points away from them.
    """
    low, high = _extent(parts, np.eye(3))
    long = int(np.argmax(high - low))
    wheels = [part for part in parts if "wheel" in part.name]
    upwards = 1 if long != 1 else 2
    up_sign, forward_sign = 1.0, 1.0
    if wheels:
        wheel_low, wheel_high = _extent(wheels, np.eye(3))
        span = (wheel_high - wheel_low) / (high - low)
        others = [axis for axis in range(3) if axis != long]
        two_wheeled = all(span[axis] < 0.7 for axis in others)
        if not two_wheeled:
            upwards = min(others, key=lambda axis: float(span[axis]))
        up_sign = 1.0 if (wheel_low + wheel_high)[upwards] < (low + high)[upwards] else -1.0
        front, rear = (_middle(wheels, words)[long] for words in (("front",), ("back", "rear")))
        forward_sign = 1.0 if front >= rear else -1.0
    forward, up = np.eye(3)[long] * forward_sign, np.eye(3)[upwards] * up_sign
    return np.stack([forward, np.cross(up, forward), up])


def _middle(parts: list[_Part], words: tuple[str, ...]) -> Floats:
    chosen = [part for part in parts if any(word in part.name for word in words)]
    if not chosen:
        return np.zeros(3)
    low, high = _extent(chosen, np.eye(3))
    return (low + high) / 2


def _extent(parts: list[_Part], axes: Floats) -> tuple[Floats, Floats]:
    points = np.concatenate([part.triangles.reshape(-1, 3) for part in parts]) @ axes.T
    return points.min(axis=0), points.max(axis=0)


def _mesh(parts: list[_Part], axes: Floats, scale: float) -> Mesh:
    """Standing on z = 0, centred."""
    low, high = _extent(parts, axes)
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return join(*(from_triangles((p.triangles @ axes.T - origin) * scale, p.colour, p.paint, p.kind) for p in parts))
