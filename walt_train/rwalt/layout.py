"""Where things are: the road, the pavements, the static things, the camera, the light. All drawn from one seed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np

from walt_edge.contract.errors import UsageError
from walt_train.rwalt.camera import Camera

LANE_M = 3.2
STRIP_M = 2.3
KERB_M = 0.12
CROSSWALK_M = 3.6


@dataclass(frozen=True, slots=True)
class Preset:
    """How much goes on in the street.

    Attributes:
        name: What `--preset` takes.
        vehicles_per_minute: Vehicles that enter, all lanes together.
        walkers_per_minute: Groups of people that enter, both pavements together.
        parked_share: How much of the parking strips is taken.
        group_share: How many of those who walk are in groups.
        red_s, green_s: The light's phases for vehicles.
        lanes: Lanes of each direction, at least and at most.
        high_m: Camera height above the ground, at least and at most.
        standing_people: Groups that stand somewhere, on average.
    """

    name: str
    vehicles_per_minute: float
    walkers_per_minute: float
    parked_share: float
    group_share: float
    red_s: float
    green_s: float
    lanes: tuple[int, int]
    high_m: tuple[float, float]
    standing_people: float


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("street", 16, 9, 0.45, 0.25, 20, 26, (1, 1), (5.5, 8.5), 1.0),
        Preset("busy", 44, 26, 0.92, 0.6, 26, 18, (2, 2), (4.0, 5.5), 4.0),
    )
}


def preset_named(name: str) -> Preset:
    """The preset of that name; raises UsageError with the names there are."""
    if name not in PRESETS:
        raise UsageError(f"no preset '{name}'; there are: {', '.join(PRESETS)}")
    return PRESETS[name]


def stream(seed: int, *words: str | int) -> np.random.Generator:
    """A random generator of its own for each purpose, so that one more draw here changes nothing there."""
    digest = hashlib.sha256("/".join(map(str, (seed, *words))).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number between two, or the middle where they have passed each other."""
    return float(rng.uniform(low, high)) if low < high else (low + high) / 2


@dataclass(frozen=True, slots=True)
class Lane:
    """A straight lane along x at y = `y_m`; traffic runs in `direction` (+1 or -1) and halts at `stop_s`.

    Places along it are measured in the direction of travel: s = direction * x.
    """

    y_m: float
    direction: int
    stop_s: float
    strip_y_m: float | None
    """Centre of the parking strip beside it, if there is one."""


@dataclass(frozen=True, slots=True)
class Road:
    """The cross-section of the street, all y in metres.

    Attributes:
        lanes: All lanes.
        kerb_near, kerb_far: Where the carriageway ends.
        front_near, front_far: Where the pavements end (grass before the near one, house fronts behind the far one).
        lane_lines: (y, dashed) of the painted lines.
        crosswalk_x: Centre of the crosswalk.
        strips: Centres of the parking strips.
    """

    lanes: tuple[Lane, ...]
    kerb_near: float
    kerb_far: float
    front_near: float
    front_far: float
    lane_lines: tuple[tuple[float, bool], ...]
    crosswalk_x: float
    strips: tuple[float, ...]

    def ground_m(self, y_m: float) -> float:
        """Height of the ground: pavements are a kerb higher than the carriageway."""
        outside = max(self.kerb_near - y_m, y_m - self.kerb_far)
        return KERB_M * min(max(outside / 0.3 + 0.5, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Prop:
    """A static thing that can hide what is behind it: its kind, place, size and yaw."""

    kind: str
    x_m: float
    y_m: float
    scale: float
    yaw: float
    radius_m: float
    """Nobody walks nearer to its centre than this."""


@dataclass(frozen=True, slots=True)
class Light:
    """Sun, sky and lamps.

    Attributes:
        dusk: Whether lamps and headlights are on.
        sun_direction: Unit vector towards the sun.
        sun, sky, lamp: Linear RGB strengths.
        drift_periods_s, drift_phases: Slow waves of the clouds.
        exposure: Factor before the tone curve.
    """

    dusk: bool
    sun_direction: tuple[float, float, float]
    sun: tuple[float, float, float]
    sky: tuple[float, float, float]
    lamp: tuple[float, float, float]
    drift_periods_s: tuple[float, float, float]
    drift_phases: tuple[float, float, float]
    exposure: float

    def at(self, time_s: float) -> tuple[float, float]:
        """Factors of sun and sky at a time: clouds drift, in minutes, the sun by a fifth, the sky by a twentieth."""
        waves = [
            math.sin(2 * math.pi * time_s / period + phase)
            for period, phase in zip(self.drift_periods_s, self.drift_phases, strict=True)
        ]
        return 0.88 + 0.06 * sum(waves) / 1.5, 1.0 + 0.03 * (waves[0] + waves[2])


@dataclass(frozen=True, slots=True)
class Signal:
    """The traffic light: green and red for vehicles, seconds; `cross_s` is what a slow walker needs."""

    green_s: float
    red_s: float
    offset_s: float
    cross_s: float

    def is_red(self, time_s: float) -> bool:
        """Whether vehicles must halt."""
        return (time_s + self.offset_s) % (self.green_s + self.red_s) >= self.green_s

    def may_walk(self, time_s: float) -> bool:
        """Whether people may step onto the crosswalk: vehicles have halted, and there is time to get across."""
        into_red = (time_s + self.offset_s) % (self.green_s + self.red_s) - self.green_s
        return 4.5 <= into_red <= self.red_s - self.cross_s - 1.0


@dataclass(frozen=True, slots=True)
class Layout:
    """One street, without what moves."""

    seed: int
    preset: Preset
    road: Road
    camera: Camera
    props: tuple[Prop, ...]
    light: Light
    signal: Signal
    surface_seed: float


def make_layout(seed: int, preset: Preset, size_wh: tuple[int, int], dusk: bool) -> Layout:
    """Draws a street. The frame's size changes the picture's resolution, never the street."""
    road = _make_road(stream(seed, "road"), preset)
    camera = _make_camera(stream(seed, "camera"), preset, road, size_wh)
    props = _make_props(stream(seed, "props"), road, camera)
    light = _make_light(stream(seed, "light"), camera, dusk)
    signal = _make_signal(stream(seed, "signal"), preset, road)
    return Layout(seed, preset, road, camera, props, light, signal, float(stream(seed, "surface").uniform(0, 100)))


def _make_road(rng: np.random.Generator, preset: Preset) -> Road:
    per_side = int(rng.integers(preset.lanes[0], preset.lanes[1] + 1))
    near_strip, far_strip = bool(rng.random() < 0.6 or preset.parked_share > 0.8), True
    half = per_side * LANE_M
    crosswalk = float(rng.uniform(3.5, 7.0) * rng.choice((-1, 1)))
    lanes = []
    for direction, y_sign in ((1, -1), (-1, 1)):
        for index in range(per_side):
            outer = index == per_side - 1
            strip = y_sign * (half + STRIP_M / 2)
            has_strip = outer and (near_strip if y_sign < 0 else far_strip)
            stop = direction * crosswalk - CROSSWALK_M / 2 - 1.2
            lanes.append(Lane(y_sign * (index + 0.5) * LANE_M, direction, stop, strip if has_strip else None))
    kerb_near = -half - (STRIP_M if near_strip else 0.15)
    kerb_far = half + (STRIP_M if far_strip else 0.15)
    lines = [(0.0, False)] + [(sign * k * LANE_M, True) for k in range(1, per_side) for sign in (-1, 1)]
    lines += [(lane.strip_y_m / abs(lane.strip_y_m) * half, True) for lane in lanes if lane.strip_y_m]
    return Road(
        tuple(lanes),
        kerb_near,
        kerb_far,
        kerb_near - float(rng.uniform(2.6, 3.6)),
        kerb_far + float(rng.uniform(3.0, 4.2)),
        tuple(lines),
        crosswalk,
        tuple(lane.strip_y_m for lane in lanes if lane.strip_y_m),
    )


def _make_signal(rng: np.random.Generator, preset: Preset, road: Road) -> Signal:
    cross = (road.kerb_far - road.kerb_near) / 0.95
    red = max(preset.red_s, cross + 9.0)
    return Signal(preset.green_s, red, float(rng.uniform(0, preset.green_s + red)), cross)


def _make_camera(rng: np.random.Generator, preset: Preset, road: Road, size_wh: tuple[int, int]) -> Camera:
    high = float(rng.uniform(*preset.high_m))
    back = road.front_near - float(rng.uniform(6.0, 8.0))
    turn = float(rng.uniform(0.1, 0.42) * np.sign(road.crosswalk_x))
    focal = size_wh[0] * float(rng.uniform(0.9, 1.05))
    half_view = math.atan2(size_wh[1] / 2, focal)
    # The bottom row begins on the near pavement, so that those who walk there are seen with their feet.
    lowest = (road.front_near + float(rng.uniform(-0.2, 0.5)) - back) / math.cos(turn)
    highest = (road.front_far - 0.5 - back) / math.cos(turn)
    # ... unless that would cut the heads off those on the far one.
    pitch = min(math.atan2(high, lowest) - half_view, math.atan2(high - 2.4, highest) + half_view)
    position = np.array([0.0, back, high])
    direction = np.array([math.sin(turn), math.cos(turn), -math.tan(pitch)])
    return Camera.looking_at(position, position + direction, focal, size_wh)


def _make_props(rng: np.random.Generator, road: Road, camera: Camera) -> tuple[Prop, ...]:
    """Lamps, signs, trees, bollards, the lights at the crosswalk; none within a metre of another."""
    near_y, far_y = road.kerb_near - 0.45, road.kerb_far + 0.45
    side = float(np.sign(road.crosswalk_x))
    clear = CROSSWALK_M / 2 + 0.6
    props = [
        Prop("traffic_light", road.crosswalk_x - clear, near_y, 1.0, math.pi, 0.3),
        Prop("traffic_light", road.crosswalk_x + clear, far_y, 1.0, 0.0, 0.3),
    ]
    left, right = camera.visible_x(near_y)
    far_left, far_right = camera.visible_x(far_y)
    wanted = [
        ("lamp", between(rng, left + 1.5, right - 1.5), near_y, 0.32),
        ("sign", between(rng, left + 1.0, right - 1.0), near_y, 0.35),
        ("bin", between(rng, left + 1.0, right - 1.0), near_y, 0.45),
        ("tree", between(rng, far_left + 2, far_right - 2), road.front_far - 1.25, 0.5),
        ("tree", between(rng, far_left + 2, far_right - 2), road.front_far - 1.25, 0.5),
        ("lamp", between(rng, far_left + 1, far_right - 1), far_y, 0.32),
        ("sign", between(rng, far_left + 1, far_right - 1), far_y, 0.35),
        ("bollard", road.crosswalk_x + side * (clear + 0.8), near_y, 0.25),
        ("bollard", road.crosswalk_x + side * (clear + 2.2), near_y, 0.25),
        (
            "young_tree",
            (left if rng.random() < 0.5 else right) * float(rng.uniform(0.5, 0.8)),
            road.front_near - 1.3,
            0.4,
        ),
    ]
    for kind, x, y, radius in wanted:
        near_crosswalk = abs(x - road.crosswalk_x) < clear - 0.2 and kind != "tree"
        if near_crosswalk or any(math.hypot(x - p.x_m, y - p.y_m) < 1.6 for p in props):
            continue
        yaw = math.pi if y < 0 else 0.0
        props.append(Prop(kind, float(x), float(y), float(rng.uniform(0.9, 1.12)), yaw, radius))
    return tuple(props)


def _make_light(rng: np.random.Generator, camera: Camera, dusk: bool) -> Light:
    forward = math.atan2(camera.rotation[2, 1], camera.rotation[2, 0])
    azimuth = forward + math.pi + float(rng.uniform(0.35, 1.25) * rng.choice((-1, 1)))
    elevation = math.radians(float(rng.uniform(9, 14) if dusk else rng.uniform(36, 58)))
    flat = math.cos(elevation)
    towards = (flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation))
    phases = rng.uniform(0, 2 * math.pi, 3)
    light = Light(
        dusk=False,
        sun_direction=towards,
        sun=(2.1, 1.95, 1.7),
        sky=(0.62, 0.70, 0.82),
        lamp=(0.0, 0.0, 0.0),
        drift_periods_s=(47.0, 113.0, 271.0),
        drift_phases=(float(phases[0]), float(phases[1]), float(phases[2])),
        exposure=1.0,
    )
    if dusk:
        light = replace(
            light, dusk=True, sun=(0.42, 0.24, 0.12), sky=(0.26, 0.31, 0.44), lamp=(1.15, 0.78, 0.42), exposure=1.5
        )
    return light
