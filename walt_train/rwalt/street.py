"""A seeded street of one fixed camera: what is where at any time."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from walt_edge.contract.errors import UsageError
from walt_train.rwalt.crowd import Crowd
from walt_train.rwalt.furniture import Piece, make_pieces
from walt_train.rwalt.glb import GlbMeshes, load_meshes
from walt_train.rwalt.layout import Layout, Prop, make_layout, preset_named, stream
from walt_train.rwalt.meshes import Mesh, moved
from walt_train.rwalt.order import Standing
from walt_train.rwalt.people import part_meshes
from walt_train.rwalt.scene import SceneObject, Stage, StaticPiece, pixel_box
from walt_train.rwalt.timeline import Track
from walt_train.rwalt.traffic import Traffic
from walt_train.rwalt.vehicles import WEIGHTS, VehicleModel, make_vehicle

VERSION = 1
"""Raised whenever the same seed would give another street."""

WARM_UP_S = 75.0
"""The simulation begins this long before the first frame, so that the street is populated by then."""

SIZE_LIMITS = (160, 120, 3840, 2160)
LIGHTS = ("day", "dusk", "auto")
SHAPES = ("all", "tuning", "held-out")
HELD_OUT = frozenset({"estate", "pickup", "truck"})
"""Bodies that `tuning` never shows, a third of the traffic: what was tuned is judged on shapes it has not met."""
_HELD_OUT_EVERY = 3  # ... and each third GLB vehicle, by name


@dataclass(frozen=True, slots=True)
class StreetConfig:
    """Everything that decides what a street's frames look like.

    Attributes:
        seed: Decides everything that is not said here.
        frames: How many.
        size_wh: Frame size, pixels.
        fps: Frames a second.
        preset: `street` or `busy`.
        light: `day`, `dusk` or `auto` (the seed decides; one street in four is at dusk).
        start: UTC time of the street's beginning, or None for a time that fits the light.
        skip: Frame 0 is the one that comes so many frames after the beginning: the same street, later.
        meshes: A folder of GLB files to use beside the procedural meshes.
        shapes: Which vehicles drive and park: `all`, `tuning` (without a third, see `HELD_OUT`) or that third alone.
    """

    seed: int = 0
    frames: int = 100
    size_wh: tuple[int, int] = (640, 360)
    fps: float = 10.0
    preset: str = "street"
    light: str = "auto"
    start: dt.datetime | None = None
    meshes: Path | None = None
    skip: int = 0
    shapes: str = "all"

    def __post_init__(self) -> None:
        width, height = self.size_wh
        if not (SIZE_LIMITS[0] <= width <= SIZE_LIMITS[2] and SIZE_LIMITS[1] <= height <= SIZE_LIMITS[3]):
            raise UsageError(f"size {width}x{height} is not between 160x120 and 3840x2160")
        if self.frames < 1:
            raise UsageError(f"{self.frames} frames: render at least 1")
        if self.skip < 0:
            raise UsageError(f"cannot skip {self.skip} frames: give 0 or more")
        if not 0.001 <= self.fps <= 240:
            raise UsageError(f"{self.fps} frames a second is not between 0.001 and 240")
        if self.light not in LIGHTS:
            raise UsageError(f"no light '{self.light}'; there are: {', '.join(LIGHTS)}")
        if self.shapes not in SHAPES:
            raise UsageError(f"no shapes '{self.shapes}'; there are: {', '.join(SHAPES)}")
        preset_named(self.preset)


class Street:
    """The street of a configuration: its layout, its meshes, and the objects at any time.

    A frame is a pure function of (configuration, frame number): frames can be made in any order, by any process.
    """

    def __init__(self, config: StreetConfig) -> None:
        self.config = config
        dusk = config.light == "dusk" or (config.light == "auto" and stream(config.seed, "dusk").random() < 0.25)
        self.layout: Layout = make_layout(config.seed, preset_named(config.preset), config.size_wh, dusk)
        self.meshes: dict[str, Mesh] = dict(part_meshes())
        self._glb = GlbMeshes((), ()) if config.meshes is None else load_meshes(config.meshes)
        self.vehicles, weights = self._vehicle_models()
        self.pieces = self._static_pieces()
        end_s = (config.skip + config.frames) / config.fps + 1.0
        crowd = Crowd(self.layout)
        people = crowd.run(-WARM_UP_S, end_s)
        tracks = people + Traffic(self.layout, self.vehicles, weights, people).run(-WARM_UP_S, end_s)
        # In the order of their ids, which does not depend on how long the simulation goes on.
        self.tracks: list[Track] = sorted(tracks, key=lambda track: track.track_id)
        self.people = crowd.models
        self._stage = Stage(
            self.layout.camera, self.layout.road.ground_m, self.vehicles, self.people, dusk, config.seed
        )

    @property
    def camera_name(self) -> str:
        """As written in labels; a name in the sense of the contract."""
        return f"rwalt-{self.config.preset}-{self.config.seed}"

    @cached_property
    def start(self) -> dt.datetime:
        """UTC time of the street's beginning."""
        if self.config.start is not None:
            return self.config.start.astimezone(dt.UTC)
        minutes = int(stream(self.config.seed, "clock").integers(0, 300))
        morning = dt.datetime(2026, 6, 1, 9, 0, tzinfo=dt.UTC) + dt.timedelta(days=self.config.seed % 28)
        return (
            morning.replace(hour=20, minute=minutes % 40)
            if self.layout.light.dusk
            else morning + dt.timedelta(minutes=minutes)
        )

    def time_s(self, index: int) -> float:
        """Seconds from the street's beginning to frame `index`."""
        return self.number(index) / self.config.fps

    def number(self, index: int) -> int:
        """Frames from the street's beginning to frame `index`."""
        return self.config.skip + index

    def time(self, time_s: float) -> dt.datetime:
        """UTC of a time of the simulation."""
        return self.start + dt.timedelta(microseconds=round(time_s * 1e6))

    def shape_name(self, track: Track) -> str:
        """What kind of vehicle or person a track is: `sedan`, `bus`, ... or `person`."""
        return "person" if track.person else self.vehicles[track.model].name

    def objects(self, index: int) -> list[SceneObject]:
        """Everything that is there in frame `index`."""
        return self._stage.objects(self.tracks, self.time_s(index))

    def signal_lamps(self, index: int) -> tuple[float, float, float, float]:
        """Lamps of the traffic light in frame `index`: brake, headlight, red, green."""
        red = self.layout.signal.is_red(self.time_s(index))
        return 0.0, float(self.layout.light.dusk), float(red), float(not red)

    def _vehicle_models(self) -> tuple[list[VehicleModel], list[float]]:
        models: list[VehicleModel] = []
        weights: list[float] = []
        for name, weight in WEIGHTS.items():
            variants = 3 if weight >= 0.2 else 2
            for variant in range(variants):
                models.append(make_vehicle(name, stream(self.config.seed, "vehicle", name, variant)))
                weights.append(weight / variants * self._shown(name in HELD_OUT))
        for number, model in enumerate(self._glb.vehicles):
            models.append(model)
            # A bicycle without a rider stands; it does not ride along the lane.
            weight = 0.0 if model.size_lwh[1] < 1.0 else 1.0 / len(self._glb.vehicles)
            weights.append(weight * self._shown(number % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1))
        for index, model in enumerate(models):
            self.meshes[f"vehicle{index}"] = model.body
            if model.wheel is not None:
                self.meshes[f"wheel{index}"] = model.wheel
        return models, weights

    def _shown(self, held_out: bool) -> bool:
        return self.config.shapes == "all" or held_out == (self.config.shapes == "held-out")

    def _static_pieces(self) -> list[StaticPiece]:
        out: list[StaticPiece] = []
        for number, prop in enumerate(self.layout.props):
            pieces = make_pieces(prop, self.config.seed)
            if prop.kind in ("sign", "bollard", "bin") and self._glb.props:
                pieces = [self._glb.props[number % len(self._glb.props)][1]]
            out += [self._place(f"static{number}.{part}", prop, piece) for part, piece in enumerate(pieces)]
        return out

    def _place(self, name: str, prop: Prop, piece: Piece) -> StaticPiece:
        ground = self.layout.road.ground_m(prop.y_m)
        mesh = moved(piece.mesh, (prop.x_m, prop.y_m, ground), (prop.scale,) * 3, prop.yaw)
        self.meshes[name] = mesh
        cos, sin = np.cos(prop.yaw), np.sin(prop.yaw)
        outline = piece.footprint * prop.scale @ np.array([[cos, sin], [-sin, cos]]) + (prop.x_m, prop.y_m)
        box = pixel_box(self.layout.camera, mesh[:, :3].astype(float))
        standing = Standing(outline, piece.bottom_m * prop.scale, piece.top_m * prop.scale, box)
        return StaticPiece(name, standing)
