"""Procedural vehicles: sedan, hatchback, estate, van, pickup, truck, bus.

A body is lofted: stations along its length, each a half ring from the sill over the belt line to the roof's
middle, mirrored. Dimensions vary by seed around each class's own; the paint is chosen per vehicle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from walt_train.rwalt.meshes import (
    Colour,
    Floats,
    Kind,
    Mesh,
    box,
    from_triangles,
    grid_faces,
    join,
    quads,
    tube,
    wheel,
)

KEYPOINTS = (
    "front_left_wheel",
    "front_right_wheel",
    "rear_left_wheel",
    "rear_right_wheel",
    "front_left_roof",
    "front_right_roof",
    "rear_left_roof",
    "rear_right_roof",
    "left_headlight",
    "right_headlight",
    "left_taillight",
    "right_taillight",
)

SKELETON = (
    (1, 2), (3, 4), (1, 3), (2, 4), (5, 6), (7, 8), (5, 7), (6, 8), (1, 9), (2, 10), (3, 11), (4, 12), (9, 5),
    (10, 6), (11, 7), (12, 8),
)  # fmt: skip
"""Pairs of keypoints, from 1, as COCO has them."""

PAINTS: tuple[Colour, ...] = (
    (0.72, 0.72, 0.72),
    (0.80, 0.80, 0.78),
    (0.42, 0.43, 0.45),
    (0.14, 0.145, 0.155),
    (0.02, 0.021, 0.024),
    (0.03, 0.03, 0.035),
    (0.36, 0.02, 0.025),
    (0.50, 0.035, 0.03),
    (0.02, 0.06, 0.24),
    (0.05, 0.14, 0.38),
    (0.22, 0.34, 0.46),
    (0.03, 0.12, 0.07),
    (0.34, 0.28, 0.19),
    (0.58, 0.40, 0.07),
    (0.55, 0.19, 0.04),
    (0.13, 0.03, 0.06),
)

BLACK: Colour = (0.012, 0.012, 0.013)
GLASS: Colour = (0.025, 0.032, 0.036)

CARGO_FRONT = 0.245
"""Where a truck's cargo box begins, as a fraction of the length from the centre."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The proportions of one class of body.

    Attributes:
        size_lwh: Typical length, width, height, metres.
        outline: From the nose backwards: (x as a fraction of the length from the centre, roof height in metres
            at the typical height, width as a fraction).
        belt_m: Height at which windows begin.
        wheel_m: Wheel radius.
        axles: Front and rear axle, fractions of the length from the centre.
        glazed: From which x fraction backwards to which the sides have windows.
        window_m: Length of one side window.
    """

    size_lwh: tuple[float, float, float]
    outline: tuple[tuple[float, float, float], ...]
    belt_m: float
    wheel_m: float
    axles: tuple[float, float]
    glazed: tuple[float, float]
    window_m: float = 1.0


_SEDAN = (
    (0.5, 0.52, 0.8), (0.485, 0.68, 0.9), (0.44, 0.76, 0.97), (0.22, 0.94, 1.0), (0.06, 1.38, 1.0),
    (-0.06, 1.45, 1.0), (-0.2, 1.41, 1.0), (-0.35, 1.04, 1.0), (-0.46, 0.99, 0.95), (-0.49, 0.86, 0.9),
    (-0.5, 0.55, 0.84),
)  # fmt: skip
_HATCH = (
    (0.5, 0.5, 0.8), (0.48, 0.7, 0.9), (0.42, 0.8, 0.97), (0.25, 0.98, 1.0), (0.09, 1.43, 1.0),
    (-0.06, 1.5, 1.0), (-0.34, 1.44, 1.0), (-0.46, 1.02, 0.96), (-0.49, 0.85, 0.92), (-0.5, 0.5, 0.86),
)  # fmt: skip
_ESTATE = (
    (0.5, 0.55, 0.82), (0.485, 0.8, 0.92), (0.42, 0.92, 0.98), (0.22, 1.05, 1.0), (0.1, 1.62, 1.0),
    (-0.05, 1.7, 1.0), (-0.4, 1.66, 1.0), (-0.475, 1.12, 0.98), (-0.495, 0.9, 0.95), (-0.5, 0.5, 0.9),
)  # fmt: skip
_VAN = (
    (0.5, 0.6, 0.84), (0.485, 0.95, 0.94), (0.42, 1.15, 0.98), (0.38, 1.22, 1.0), (0.28, 1.98, 1.0),
    (0.2, 2.1, 1.0), (-0.45, 2.12, 1.0), (-0.49, 2.05, 0.98), (-0.5, 0.6, 0.97),
)  # fmt: skip
_PICKUP = (
    (0.5, 0.6, 0.84), (0.485, 0.92, 0.93), (0.42, 1.02, 0.98), (0.2, 1.14, 1.0), (0.1, 1.72, 1.0),
    (-0.02, 1.78, 1.0), (-0.12, 1.74, 1.0), (-0.15, 1.1, 1.0), (-0.16, 1.08, 1.0), (-0.49, 1.08, 1.0),
    (-0.5, 0.6, 0.97),
)  # fmt: skip
_BUS = (
    (0.5, 0.8, 0.94), (0.495, 1.25, 0.97), (0.485, 2.7, 0.98), (0.47, 2.98, 1.0), (0.3, 3.02, 1.0),
    (-0.47, 3.02, 1.0), (-0.493, 2.9, 0.99), (-0.5, 1.2, 0.98),
)  # fmt: skip
_CAB = (
    (0.5, 0.7, 0.92), (0.493, 1.15, 0.97), (0.48, 1.35, 1.0), (0.45, 2.15, 1.0), (0.42, 2.3, 1.0),
    (0.3, 2.32, 1.0), (0.27, 2.3, 1.0), (0.265, 0.9, 0.98),
)  # fmt: skip

SHAPES: dict[str, Shape] = {
    "sedan": Shape((4.6, 1.8, 1.45), _SEDAN, 0.93, 0.32, (0.31, -0.3), (0.22, -0.35), 1.05),
    "hatchback": Shape((4.0, 1.74, 1.5), _HATCH, 0.95, 0.31, (0.32, -0.32), (0.25, -0.44), 1.0),
    "estate": Shape((4.55, 1.86, 1.7), _ESTATE, 1.06, 0.36, (0.31, -0.31), (0.22, -0.46), 1.0),
    "van": Shape((5.2, 1.98, 2.12), _VAN, 1.25, 0.34, (0.33, -0.3), (0.4, 0.1), 1.1),
    "pickup": Shape((5.3, 1.9, 1.78), _PICKUP, 1.08, 0.38, (0.32, -0.3), (0.2, -0.14), 0.95),
    "truck": Shape((7.2, 2.3, 3.1), _CAB, 1.45, 0.44, (0.36, -0.3), (0.47, 0.3), 1.0),
    "bus": Shape((11.2, 2.5, 3.02), _BUS, 1.25, 0.48, (0.28, -0.24), (0.485, -0.47), 1.5),
}

WEIGHTS = {"sedan": 0.3, "hatchback": 0.24, "estate": 0.2, "van": 0.1, "pickup": 0.06, "truck": 0.06, "bus": 0.04}


@dataclass(frozen=True, slots=True, eq=False)
class VehicleModel:
    """One vehicle's geometry; many vehicles share it in different paint.

    Attributes:
        name: Its class of body.
        size_lwh: Length, width, height, metres.
        body: Everything that does not turn.
        wheel: One wheel about its axle, or None where the body has its own.
        wheel_radius: Metres.
        hubs: (4, 3) wheel centres: front left, front right, rear left, rear right.
        keypoints: (12, 3) in the order of `KEYPOINTS`.
        facing: (12, 3) outward directions, to tell a point on the far side.
    """

    name: str
    size_lwh: tuple[float, float, float]
    body: Mesh
    wheel: Mesh | None
    wheel_radius: float
    hubs: Floats
    keypoints: Floats
    facing: Floats = field(repr=False)


def make_vehicle(name: str, rng: np.random.Generator) -> VehicleModel:
    """A vehicle of the class `name`, its dimensions drawn from `rng`."""
    shape = SHAPES[name]
    stretch = rng.uniform((0.93, 0.97, 0.96), (1.08, 1.03, 1.05))
    length, width, height = (float(v) for v in np.asarray(shape.size_lwh) * stretch)
    size = (length, width, height)
    lift = height / shape.size_lwh[2]
    stations = _stations(shape, length, lift)
    parts = [_hull(stations, shape, width, lift, length)]
    parts += _fittings(stations, size, lift, name)
    if name == "truck":
        parts += _cargo(size, rng)
    if name == "bus":
        parts.append(
            from_triangles(box((0.05, width * 0.7, 0.28), (length * 0.482, 0, height - 0.28)), (0.5, 0.32, 0.03))
        )
    radius = shape.wheel_m
    half = width / 2 - 0.11
    hubs = np.array([(length * axle, side * half, radius) for axle in shape.axles for side in (1, -1)])
    parts += [_arch(hub, radius, width) for hub in hubs]
    return VehicleModel(
        name,
        size,
        join(*parts),
        wheel(radius, 0.22),
        radius,
        hubs,
        _keypoints(stations, hubs, size, _light_height(name, lift)),
        keypoint_facing(),
    )


def _stations(shape: Shape, length: float, lift: float) -> Floats:
    """(S, 4): x, roof height, width fraction, 1 where a window pillar begins; extra stations make the pillars."""
    outline = np.array(shape.outline)
    xs, tops, widths = outline[:, 0] * length, outline[:, 1] * lift, outline[:, 2]
    start, end = shape.glazed[0] * length, shape.glazed[1] * length
    count = max(1, round((start - end) / shape.window_m))
    pillars = np.linspace(start, end, count + 1)[1:-1]
    rows = [(x, top, width, 0.0) for x, top, width in zip(xs, tops, widths, strict=True)]
    for x in pillars:
        for edge, flag in ((x + 0.045, 1.0), (x - 0.045, 0.0)):
            top = np.interp(-edge, -xs, tops)
            rows.append((edge, float(top), float(np.interp(-edge, -xs, widths)), flag))
    rows.sort(key=lambda row: -row[0])
    return np.array(rows)


def _rings(stations: Floats, shape: Shape, width: float, lift: float) -> Floats:
    """(S, 7, 3) left half rings."""
    x, top, wide = stations[:, 0], stations[:, 1], stations[:, 2] * width / 2
    belt = np.minimum(shape.belt_m * lift, top - 0.03)
    taper = 1 - 0.2 * np.clip((top - belt) / 0.55, 0.04, 1.0) * (0.35 if shape.size_lwh[2] > 1.9 else 1.0)
    roof = wide * taper
    sill = np.full_like(x, 0.21 if shape.size_lwh[2] < 2.5 else 0.34)
    rows = [
        (wide * 0.93, sill),
        (wide * 0.985, sill + 0.15),
        (wide, (sill + belt) / 2 + 0.05),
        (wide * 0.975, belt),
        (roof, np.maximum(top - 0.05, belt + 0.01)),
        (roof * 0.9, top),
        (roof * 0.0, top + 0.02),
    ]
    return np.stack([np.stack([x, half, z], axis=-1) for half, z in rows], axis=1)


def _hull(stations: Floats, shape: Shape, width: float, lift: float, length: float) -> Mesh:
    rings = _rings(stations, shape, width, lift)
    faces = grid_faces(rings)
    glass, black = _glazing(stations, shape, lift, length)
    meshes = []
    for mask, colour, paint, kind in (
        (glass, GLASS, 0.0, Kind.GLASS),
        (black, BLACK, 0.0, Kind.MATTE),
        (~glass & ~black, (1.0, 1.0, 1.0), 1.0, Kind.PAINT),
    ):
        chosen = faces[mask]
        mirrored = (chosen * (1, -1, 1))[:, ::-1]
        meshes.append(from_triangles(quads(np.concatenate([chosen, mirrored])), colour, paint, kind))
    meshes += [_cap(rings[0], 1.0), _cap(rings[-1], 1.0)]
    return join(*meshes)


def _glazing(
    stations: Floats, shape: Shape, lift: float, length: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which faces (S-1, 6) are glass and which are black trim."""
    x, top, pillar = stations[:, 0], stations[:, 1], stations[:, 3]
    middle = (x[:-1] + x[1:]) / 2
    tall = np.maximum(top[:-1], top[1:]) > shape.belt_m * lift + 0.15
    inside = (middle < shape.glazed[0] * length) & (middle > shape.glazed[1] * length)
    steep = tall & (np.abs(np.diff(top)) > 0.22) & (np.minimum(top[:-1], top[1:]) > shape.belt_m * lift - 0.12)
    glass = np.zeros((len(middle), 6), dtype=bool)
    glass[:, 3] = tall & inside & (pillar[:-1] < 0.5)
    glass[:, 4] = glass[:, 5] = steep
    black = np.zeros_like(glass)
    black[:, 0] = True
    black[:, 3] = tall & inside & (pillar[:-1] > 0.5)
    return glass, black


def _cap(ring: Floats, paint: float) -> Mesh:
    """Closes an end of the hull."""
    mirrored = ring[::-1] * (1, -1, 1)
    outline = np.concatenate([ring, mirrored[1:]])
    centre = outline.mean(axis=0)
    fan = np.stack([np.broadcast_to(centre, outline.shape), outline, np.roll(outline, -1, axis=0)], axis=1)
    return from_triangles(fan, paint=paint, kind=Kind.PAINT)


def _fittings(stations: Floats, size: tuple[float, float, float], lift: float, name: str) -> list[Mesh]:
    """Lights and licence plates, and all that is black: grille, bumpers, mirrors, door seams, floor."""
    length, width, _ = size
    light_z = _light_height(name, lift)
    cowl = float(stations[min(3, len(stations) - 1), 0]) - 0.12
    mirror_z = light_z + (0.95 if name in ("bus", "truck") else 0.33)
    black = [box((0.12, width * 0.42, 0.13), (length / 2 - 0.04, 0, light_z))]
    black += [box((0.08, width * 0.84, 0.14), (end * length / 2, 0, 0.36)) for end in (1, -1)]
    black += [box((0.12, 0.2, 0.14), (cowl, side * (width / 2 + 0.06), mirror_z)) for side in (1, -1)]
    pillars = stations[stations[:, 3] > 0.5, 0] - 0.045
    black += [box((0.022, width * 0.99 + 0.01, light_z), (float(x), 0, 0.36 + light_z / 2)) for x in pillars]
    black.append(box((length * 0.94, width * 0.84, 0.1), (0, 0, 0.26)))
    return [*_lights(length, width, light_z), from_triangles(np.concatenate(black), BLACK)]


def _lights(length: float, width: float, light_z: float) -> list[Mesh]:
    parts = []
    for end, colour, kind in ((1, (0.85, 0.85, 0.8), Kind.HEADLIGHT), (-1, (0.3, 0.008, 0.008), Kind.TAILLIGHT)):
        at = end * (length / 2 - 0.035)
        pair = [box((0.16, 0.32, 0.13), (at, side * width * 0.36, light_z)) for side in (1, -1)]
        plate = box((0.09, 0.46, 0.11), (at, 0, light_z - 0.16))
        parts += [from_triangles(np.concatenate(pair), colour, kind=kind), from_triangles(plate, (0.75, 0.75, 0.7))]
    return parts


def _light_height(name: str, lift: float) -> float:
    return {"van": 0.86, "pickup": 0.84, "estate": 0.76, "bus": 0.72, "truck": 0.8}.get(name, 0.62) * lift


def _cargo(size: tuple[float, float, float], rng: np.random.Generator) -> list[Mesh]:
    """The truck's box and its chassis."""
    length, width, height = size
    back, front = -0.5 * length, CARGO_FRONT * length
    tone = float(rng.uniform(0.35, 0.75))
    colour = (tone, tone, tone) if rng.random() < 0.6 else tuple(float(v) for v in rng.uniform(0.05, 0.6, 3))
    cargo = box((front - back, width, height - 0.95), ((front + back) / 2, 0, (height + 0.95) / 2))
    stripe = box((front - back + 0.01, width + 0.02, 0.35), ((front + back) / 2, 0, height * 0.62))
    chassis = box((length * 0.94, width * 0.4, 0.3), (-0.02 * length, 0, 0.72))
    return [
        from_triangles(cargo, (colour[0], colour[1], colour[2]), kind=Kind.PAINT),
        from_triangles(stripe, (1.0, 1.0, 1.0), paint=1.0, kind=Kind.PAINT),
        from_triangles(chassis, BLACK),
    ]


def _arch(hub: Floats, radius: float, width: float) -> Mesh:
    """A black disc on the body's side: the wheel's well."""
    side = np.sign(hub[1])
    disc = tube([(0.0, 0.0), (radius * 1.14, 0.0)], 16)[:, :, [0, 2, 1]]
    centre = np.array([hub[0], side * (width / 2 + 0.004), hub[2] + 0.02])
    return from_triangles(disc + centre, BLACK)


def _keypoints(stations: Floats, hubs: Floats, size: tuple[float, float, float], lamp_m: float) -> Floats:
    """(12, 3) in the order of `KEYPOINTS`; the roof is what is highest, a truck's cargo box included."""
    length, width, height = size
    high = stations[stations[:, 1] > 0.93 * height, 0]
    front, rear = (float(high[0]), float(high[-1])) if len(high) else (CARGO_FRONT * length, -0.5 * length)
    roof = [(x, side * width * 0.4, height) for x in (front, rear) for side in (1, -1)]
    lamps = [(end * length / 2, side * width * 0.36, lamp_m) for end in (1, -1) for side in (1, -1)]
    wheels = hubs + np.sign(hubs) * (0, 0.11, 0)
    return np.concatenate([wheels, np.array(roof), np.array(lamps)])


def keypoint_facing() -> Floats:
    """(12, 3) unit outward directions of the keypoints."""
    sides = [(0.0, side, 0.0) for _ in range(2) for side in (1, -1)]
    return np.array([*sides, *[(0.0, 0.0, 1.0)] * 4, (1, 0, 0), (1, 0, 0), (-1, 0, 0), (-1, 0, 0)], dtype=float)


PAINT_WEIGHTS = np.array([5, 5, 5, 4, 5, 4, 2, 2, 2, 2, 2, 1, 2, 1, 1, 1]) / 44
"""Most cars are white, grey or black."""


def draw_paint(rng: np.random.Generator) -> Colour:
    """A car colour: mostly greys, some colours, each slightly its own."""
    base = np.asarray(PAINTS[int(rng.choice(len(PAINTS), p=PAINT_WEIGHTS))])
    red, green, blue = np.clip(base * rng.uniform(0.85, 1.15) + rng.uniform(-0.01, 0.01, 3), 0.008, 0.9)
    return float(red), float(green), float(blue)
