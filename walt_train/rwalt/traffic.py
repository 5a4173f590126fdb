"""Vehicles: they follow each other, halt at the light, come in to park, stand and leave.

The longitudinal motion is the intelligent driver model (Treiber, Hennecke and Helbing 2000), stepped at `STEP_S`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from walt_train.rwalt.layout import Lane, Layout, between, stream
from walt_train.rwalt.timeline import STEP_S, Path, Track
from walt_train.rwalt.vehicles import VehicleModel, draw_paint

ACCELERATION, BRAKING, HEADWAY_S, GAP_M = 1.9, 2.4, 1.1, 1.9
MERGE_M = 11.0
"""Length of the curve between a lane and a parking bay."""
CLEARANCE_M = 9.0
"""How far a bay that is used must be clear of parked neighbours, before and behind."""


@dataclass(slots=True, eq=False)
class _Bay:
    """A place at the kerb where vehicles stop for a while."""

    lane: Lane
    s: float
    taken: bool = False


@dataclass(slots=True, eq=False)
class _Vehicle:
    """One vehicle under way."""

    track_id: int
    model: int
    length: float
    width: float
    cruise: float
    offset: float
    stay_s: float
    path: Path
    s: float = 0.0
    v: float = 0.0
    bay: _Bay | None = None
    stage: str = "driving"
    """driving, arriving, standing, leaving"""
    stood_s: float = 0.0
    colour: tuple[float, float, float] = field(default=(0.5, 0.5, 0.5))

    def lateral(self) -> float:
        """0 in the lane, 1 in the bay."""
        if self.bay is None or self.stage == "driving":
            return 0.0
        along = self.bay.s - self.s if self.stage in ("arriving", "standing") else self.s - self.bay.s
        share = 1.0 - min(max(along / MERGE_M, 0.0), 1.0)
        return share * share * (3 - 2 * share)

    @property
    def in_lane(self) -> bool:
        return self.lateral() < 0.8


class Traffic:
    """Simulates all vehicles of a street, from before its beginning to its end; their track ids are odd.

    Args:
        layout: The street.
        models: What vehicles look like.
        weights: How often each model is seen.
        people: Tracks of people; nobody drives onto the crosswalk while somebody is on it.
    """

    def __init__(
        self, layout: Layout, models: list[VehicleModel], weights: list[float], people: Sequence[Track]
    ) -> None:
        self._layout = layout
        self._models = models
        self._weights = np.asarray(weights) / sum(weights)
        self._rng = stream(layout.seed, "traffic")
        self._next_id = 1
        self._reach_m = _reach_m(layout)
        self._crossing_steps = _crossing_steps(layout, people)
        self._lanes: dict[Lane, list[_Vehicle]] = {lane: [] for lane in layout.road.lanes}
        self._due_s = dict.fromkeys(layout.road.lanes, 0.0)
        self._waiting: dict[Lane, _Vehicle | None] = dict.fromkeys(layout.road.lanes)
        self._bays: list[_Bay] = []
        self._done: list[Track] = []

    def run(self, start_s: float, end_s: float) -> list[Track]:
        """All tracks between two times; parked ones first."""
        self._park(start_s, end_s)
        for lane in self._lanes:
            self._due_s[lane] = start_s + float(self._rng.exponential(self._interval_s()))
        steps = round((end_s - start_s) / STEP_S)
        for step in range(steps + 1):
            self._step(start_s + step * STEP_S)
        for vehicles in self._lanes.values():
            for vehicle in vehicles:
                self._finish(vehicle)
        return self._done

    def _interval_s(self) -> float:
        return 60.0 * len(self._lanes) / self._layout.preset.vehicles_per_minute

    def _new(self, lane: Lane, time_s: float, model: int | None = None) -> _Vehicle:
        rng = self._rng
        if model is None:
            model = int(rng.choice(len(self._models), p=self._weights))
        length, width, _ = self._models[model].size_lwh
        heavy = length > 6
        vehicle = _Vehicle(
            track_id=self._next_id,
            model=model,
            length=length,
            width=width,
            cruise=float(rng.uniform(6.5, 8.5) if heavy else rng.uniform(7.5, 11.0)),
            offset=float(rng.uniform(-0.2, 0.2)),
            stay_s=float(rng.uniform(12, 50)),
            path=Path(time_s),
            colour=draw_paint(rng),
        )
        self._next_id += 2
        free = [bay for bay in self._bays if bay.lane is lane and not bay.taken]
        if free and not heavy and rng.random() < 0.3:
            vehicle.bay = free[int(rng.integers(len(free)))]
            vehicle.bay.taken = True
        return vehicle

    def _park(self, start_s: float, end_s: float) -> None:
        """Fills the parking strips: rows of parked vehicles, and bays kept clear for those who come and go."""
        # What never drives is no car here, but for bicycles, which only stand.
        shown = [w > 0 or m.size_lwh[1] < 1.0 for m, w in zip(self._models, self._weights.tolist(), strict=True)]
        light_ones = [i for i, model in enumerate(self._models) if model.size_lwh[0] < 6 and shown[i]]
        crosswalk = self._layout.road.crosswalk_x
        for lane in self._layout.road.lanes:
            if lane.strip_y_m is None:
                continue
            centre = lane.direction * crosswalk
            low, high = self._seen(lane)
            bay = between(self._rng, low + 2, high - 2)
            if abs(bay - centre) > 6.5:
                self._bays.append(_Bay(lane, bay))
            s = -self._reach_m + 5
            while s < self._reach_m:
                model = light_ones[int(self._rng.integers(len(light_ones)))]
                length = self._models[model].size_lwh[0]
                middle = s + length / 2
                clear = all(abs(middle - b.s) > CLEARANCE_M + length / 2 for b in self._bays if b.lane is lane)
                if (
                    clear
                    and abs(middle - centre) > 5.5 + length / 2
                    and self._rng.random() < self._layout.preset.parked_share
                ):
                    self._add_parked(lane, model, middle, start_s, end_s)
                s += length + float(self._rng.uniform(0.9, 1.6))

    def _add_parked(self, lane: Lane, model: int, s: float, start_s: float, end_s: float) -> None:
        assert lane.strip_y_m is not None
        x, y = lane.direction * s, lane.strip_y_m + float(self._rng.uniform(-0.12, 0.12))
        path = Path(start_s)
        heading = (0.0 if lane.direction > 0 else np.pi) + float(self._rng.normal(0, 0.015))
        for time_s in (start_s, end_s):
            path.add(x, y, heading, 0.0, 0.0, False)
            path.at_s.append(time_s)
        self._done.append(path.track(self._next_id, model, draw_paint(self._rng), person=False))
        self._next_id += 2

    def _seen(self, lane: Lane) -> tuple[float, float]:
        left, right = self._layout.camera.visible_x(lane.y_m)
        return (left, right) if lane.direction > 0 else (-right, -left)

    def _step(self, time_s: float) -> None:
        red = self._layout.signal.is_red(time_s) or round(time_s / STEP_S) in self._crossing_steps
        for lane, vehicles in self._lanes.items():
            self._enter(lane, vehicles, time_s)
            vehicles.sort(key=lambda vehicle: -vehicle.s)
            pulls = [self._pull(lane, vehicle, vehicles, red) for vehicle in vehicles]
            for vehicle, pull in zip(vehicles, pulls, strict=True):
                self._advance(lane, vehicle, pull, vehicles)
            for vehicle in [v for v in vehicles if v.s > self._reach_m + v.length]:
                vehicles.remove(vehicle)
                self._finish(vehicle)

    def _enter(self, lane: Lane, vehicles: list[_Vehicle], time_s: float) -> None:
        waiting = self._waiting[lane]
        if waiting is None and time_s >= self._due_s[lane]:
            waiting = self._waiting[lane] = self._new(lane, time_s)
            self._due_s[lane] = time_s + max(1.2, float(self._rng.exponential(self._interval_s())))
        if waiting is None:
            return
        waiting.s = -self._reach_m - waiting.length
        last = min((v.s - v.length / 2 for v in vehicles if v.in_lane), default=np.inf)
        if last - waiting.s - waiting.length / 2 > 8.0:
            waiting.v = waiting.cruise * (1.0 if last > waiting.s + 30 else 0.6)
            waiting.path.start_s = time_s
            vehicles.append(waiting)
            self._waiting[lane] = None

    def _pull(self, lane: Lane, me: _Vehicle, vehicles: list[_Vehicle], red: bool) -> float:
        """Acceleration, m/s^2, of the intelligent driver model against the nearest thing to mind."""
        if me.stage == "standing":
            return 0.0
        front = me.s + me.length / 2
        obstacles = [
            (other.s - other.length / 2 - front, other.v) for other in vehicles if other.s > me.s and other.in_lane
        ]
        to_line = lane.stop_s - front
        if red and to_line > -0.5 and (to_line > me.v**2 / (2 * 3.5) or me.v < 1.0):
            obstacles.append((to_line + GAP_M - 0.6, 0.0))
        if me.stage == "arriving" and me.bay is not None:
            obstacles.append((me.bay.s - me.s + GAP_M - 0.05, 0.0))
        free = 1 - (me.v / me.cruise) ** 4
        worst = free
        for gap, speed in obstacles:
            wish = GAP_M + max(0.0, me.v * HEADWAY_S + me.v * (me.v - speed) / (2 * (ACCELERATION * BRAKING) ** 0.5))
            worst = min(worst, free - (wish / max(gap, 0.1)) ** 2)
        return float(ACCELERATION * max(worst, -4.0))

    def _advance(self, lane: Lane, me: _Vehicle, pull: float, vehicles: list[_Vehicle]) -> None:
        if me.stage == "standing":
            me.stood_s += STEP_S
            if me.stood_s > me.stay_s and self._may_leave(me, vehicles):
                me.stage = "leaving"
        else:
            me.v = max(0.0, me.v + pull * STEP_S)
            me.s += me.v * STEP_S
        if me.bay is not None and me.stage == "driving" and me.bay.s - me.s < 40:
            me.stage = "arriving"
        if me.bay is not None and me.stage == "arriving" and me.bay.s - me.s < 0.6 and me.v < 0.25:
            me.stage, me.v = "standing", 0.0
        if me.bay is not None and me.stage == "leaving" and me.s - me.bay.s > MERGE_M:
            me.bay.taken, me.bay, me.stage = False, None, "driving"
        self._record(lane, me, pull)

    @staticmethod
    def _may_leave(me: _Vehicle, vehicles: list[_Vehicle]) -> bool:
        return all(not (-26 < other.s - me.s < 16) for other in vehicles if other is not me and other.in_lane)

    def _record(self, lane: Lane, me: _Vehicle, pull: float) -> None:
        y = lane.y_m + me.offset
        if me.bay is not None and lane.strip_y_m is not None:
            y += me.lateral() * (lane.strip_y_m - y)
        x = lane.direction * me.s
        heading = 0.0 if lane.direction > 0 else np.pi
        if me.path.xs and me.v > 0.05:
            forward = max(me.v * STEP_S, 1e-3)
            heading += float(np.arctan2(lane.direction * (y - me.path.ys[-1]), forward))
        elif me.path.xs:
            heading = me.path.headings[-1]
        me.path.add(x, y, heading, me.v, me.path.travelled() + me.v * STEP_S, pull < -0.6 or (me.v < 0.1))

    def _finish(self, vehicle: _Vehicle) -> None:
        if len(vehicle.path.xs) > 1:
            self._done.append(vehicle.path.track(vehicle.track_id, vehicle.model, vehicle.colour, person=False))


def _crossing_steps(layout: Layout, people: Sequence[Track]) -> frozenset[int]:
    """The steps of the simulation in which somebody is on the carriageway."""
    road = layout.road
    steps: set[int] = set()
    for track in people:
        on_road = (track.states[:, 1] > road.kerb_near) & (track.states[:, 1] < road.kerb_far)
        steps.update(np.rint(track.at_s[on_road] / STEP_S).astype(int).tolist())
    return frozenset(steps)


def _reach_m(layout: Layout) -> float:
    """Half the length of road that is simulated: past what the frame shows of any lane, with a queue's room."""
    edges = [abs(x) for lane in layout.road.lanes for x in layout.camera.visible_x(lane.y_m, (0.0, 3.0))]
    return max(edges) + 14.0
