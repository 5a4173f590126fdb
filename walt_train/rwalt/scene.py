"""One moment of a street: every object's parts in place, ready to draw and to label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_train.rwalt.camera import NEAR_M, Camera
from walt_train.rwalt.idle import draw_habit, idle_at
from walt_train.rwalt.layout import stream
from walt_train.rwalt.meshes import Floats
from walt_train.rwalt.order import Standing, rectangle
from walt_train.rwalt.people import PersonModel, part_list, pose_people, stride_phase, walking_share
from walt_train.rwalt.timeline import State, Track
from walt_train.rwalt.vehicles import VehicleModel

INSTANCE = np.dtype(
    [("rows", "f4", (3, 4)), ("tint", "f4", 4), ("place", "f4", 4), ("box", "f4", 4), ("lamps", "f4", 4)]
)
"""As `instance.glsl` reads it."""

PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Box3D:
    """A vehicle's box in the world: centre, length, width, height in metres, yaw in radians."""

    centre: Floats
    size_lwh: tuple[float, float, float]
    yaw: float

    def corners(self) -> Floats:
        """(8, 3): bottom then top, each counter-clockwise from front left."""
        length, width, height = self.size_lwh
        flat = rectangle(float(self.centre[0]), float(self.centre[1]), self.yaw, length, width)
        low, high = self.centre[2] - height / 2, self.centre[2] + height / 2
        return np.concatenate([np.column_stack([flat, np.full(4, z)]) for z in (low, high)])


@dataclass(frozen=True, slots=True, eq=False)
class SceneObject:
    """A movable object at one moment.

    Attributes:
        track: Whose it is.
        state: Where it is.
        label: Its class.
        keypoints: (K, 3) world.
        facing: (K, 3) outward directions, zero where a point has none.
        standing: What the depth order needs.
        box3d: A vehicle's box; None for people.
        meshes: Mesh names of its parts.
        matrices: (n, 3, 4) part to world.
        tints: (n, 3) part colours.
        lamps: Brake, headlight, red, green.
    """

    track: Track
    state: State
    label: Label
    keypoints: Floats
    facing: Floats
    standing: Standing
    box3d: Box3D | None
    meshes: list[str]
    matrices: Floats
    tints: Floats
    lamps: tuple[float, float, float, float]


class Stage:
    """Puts tracks on the stage.

    Args:
        camera: Whose frame decides what is in the picture.
        ground_m: Height of the ground at a y.
        vehicles, people: The models that tracks index.
        dusk: Whether headlights are on.
        seed: Of the street; decides how everybody fidgets.
    """

    def __init__(
        self,
        camera: Camera,
        ground_m: Callable[[float], float],
        vehicles: Sequence[VehicleModel],
        people: Sequence[PersonModel],
        dusk: bool,
        seed: int,
    ) -> None:
        self._camera = camera
        self._ground_m = ground_m
        self._vehicles = vehicles
        self._people = people
        self._dusk = dusk
        self._seed = seed
        self._habits: dict[int, Floats] = {}

    def objects(self, tracks: Sequence[Track], time_s: float) -> list[SceneObject]:
        """Everything that is there at a time, in the picture or near it (it may cast a shadow into it)."""
        present = [(track, state) for track in tracks if (state := track.at(time_s)) is not None]
        vehicles = [self._vehicle(track, state) for track, state in present if not track.person]
        return vehicles + self._pose([pair for pair in present if pair[0].person], time_s)

    def _habit(self, track_id: int) -> Floats:
        if track_id not in self._habits:
            self._habits[track_id] = draw_habit(stream(self._seed, "idle", track_id))
        return self._habits[track_id]

    def _vehicle(self, track: Track, state: State) -> SceneObject:
        model = self._vehicles[track.model]
        length, width, height = model.size_lwh
        frame = np.eye(4)
        cos, sin = np.cos(state.heading), np.sin(state.heading)
        frame[:2, :2] = [[cos, -sin], [sin, cos]]
        frame[:3, 3] = state.x_m, state.y_m, 0.0
        matrices = [frame[:3]]
        meshes = [f"vehicle{track.model}"]
        if model.wheel is not None:
            meshes += [f"wheel{track.model}"] * 4
            matrices += [(frame @ _rolled(hub, state.travelled_m / model.wheel_radius))[:3] for hub in model.hubs]
        box3d = Box3D(np.array([state.x_m, state.y_m, height / 2]), model.size_lwh, state.heading)
        outline = rectangle(state.x_m, state.y_m, state.heading, length, width)
        wide = Box3D(box3d.centre, (length + 0.2, width + 0.5, height + 0.1), state.heading)
        return SceneObject(
            track,
            state,
            Label.VEHICLE,
            model.keypoints @ frame[:3, :3].T + frame[:3, 3],
            model.facing @ frame[:3, :3].T,
            Standing(outline, 0.0, height, pixel_box(self._camera, wide.corners())),
            box3d,
            meshes,
            np.array(matrices),
            np.tile(np.array(track.colour), (len(meshes), 1)),
            (float(state.braking), float(self._dusk), 0.0, 0.0),
        )

    def _pose(self, people: list[tuple[Track, State]], time_s: float) -> list[SceneObject]:
        if not people:
            return []
        models = [self._people[track.model] for track, _ in people]
        places = np.array([(s.x_m, s.y_m, self._ground_m(s.y_m)) for _, s in people])
        headings = np.array([s.heading for _, s in people])
        walked = np.array([s.travelled_m for _, s in people])
        heights = np.array([m.height_m for m in models])
        speeds = np.array([s.speed for _, s in people])
        habits = np.stack([self._habit(track.track_id) for track, _ in people])
        idle = idle_at(habits, time_s, 1.0 - walking_share(speeds))
        pose = pose_people(models, places, headings, stride_phase(walked, heights), speeds, idle)
        out = []
        for index, (track, state) in enumerate(people):
            parts = part_list(models[index])
            facing = np.zeros((len(pose.keypoints[index]), 3))
            facing[:3] = pose.facing[index]
            x, y, z = (float(v) for v in places[index])
            height = models[index].height_m
            reach = Box3D(np.array([x, y, z + height / 2]), (1.3, 1.3, height * 1.1), state.heading)
            out.append(
                SceneObject(
                    track,
                    state,
                    Label.PERSON,
                    pose.keypoints[index],
                    facing,
                    Standing(
                        rectangle(x, y, state.heading, 0.44, 0.44),
                        0.0,
                        height,
                        pixel_box(self._camera, reach.corners()),
                    ),
                    None,
                    [mesh for _, mesh, _ in parts],
                    np.stack([pose.parts[part][index] for part, _, _ in parts]),
                    np.array([colour for _, _, colour in parts]),
                    (0.0, 0.0, 0.0, 0.0),
                )
            )
        return out


def _rolled(hub: Floats, angle: float) -> Floats:
    """A wheel's frame: at its hub, turned forwards."""
    out = np.eye(4)
    cos, sin = np.cos(angle), np.sin(angle)
    out[0, 0], out[2, 2], out[0, 2], out[2, 0] = cos, cos, sin, -sin
    out[:3, 3] = hub
    return out


def pixel_box(camera: Camera, points: Floats) -> PixelBox:
    """The half-open pixel box, clipped to the frame, around points; the whole frame if one is behind the camera."""
    width, height = camera.size_wh
    seen = camera.project(points)
    ahead = seen[:, 2] > NEAR_M
    if not ahead.any():
        return 0, 0, 0, 0
    if not ahead.all():
        return 0, 0, width, height
    low = np.floor(seen[:, :2].min(axis=0)).astype(int) - 1
    high = np.ceil(seen[:, :2].max(axis=0)).astype(int) + 1
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    x1, y1 = min(int(high[0]), width), min(int(high[1]), height)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else (0, 0, 0, 0)


def instances_of(objects: Sequence[SceneObject]) -> tuple[NDArray[np.void], list[str]]:
    """Instance rows of all objects' parts, and their mesh names."""
    meshes = [name for thing in objects for name in thing.meshes]
    owners = np.repeat(np.arange(len(objects)), [len(thing.meshes) for thing in objects])
    rows = np.zeros(len(meshes), dtype=INSTANCE)
    if meshes:
        rows["rows"] = np.concatenate([thing.matrices for thing in objects])
        rows["tint"][:, :3] = np.concatenate([thing.tints for thing in objects])
        rows["tint"][:, 3] = owners + 1
        rows["lamps"] = np.array([thing.lamps for thing in objects])[owners]
        rows["box"] = np.array([thing.standing.box for thing in objects])[owners]
    return rows, meshes


@dataclass(frozen=True, slots=True, eq=False)
class StaticPiece:
    """A piece of street furniture in place.

    Attributes:
        mesh: Name of its mesh, whose coordinates are the world's.
        standing: What the depth order needs.
    """

    mesh: str
    standing: Standing


def static_instances(pieces: Sequence[StaticPiece]) -> tuple[NDArray[np.void], list[str]]:
    """Instance rows and mesh names of static pieces."""
    rows = np.zeros(len(pieces), dtype=INSTANCE)
    rows["rows"] = np.eye(4)[:3]
    rows["tint"][:, 3] = np.arange(len(pieces)) + 1
    if pieces:
        rows["box"] = np.array([piece.standing.box for piece in pieces])
    return rows, [piece.mesh for piece in pieces]
