"""People: along the pavements, over the crosswalk, standing, alone and in groups.

Everybody has a list of waypoints. A step gives each a wished velocity, turns it away from those ahead, and then
pushes apart who came too near (position-based: bodies never overlap), all in arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from walt_train.rwalt.layout import CROSSWALK_M, Layout, between, stream
from walt_train.rwalt.meshes import Floats
from walt_train.rwalt.people import PersonModel, draw_person
from walt_train.rwalt.timeline import STEP_S, Path, Track

BODY_M = 0.62
"""No two people come nearer than this, centre to centre."""
SIGHT_M = 2.6


@dataclass(frozen=True, slots=True)
class _Leg:
    """Go there; `wait` is `light` (until people may walk), or seconds to stand."""

    x: float
    y: float
    wait: str | float = 0.0
    corridor: str = "near"
    """`near`, `far` or `crosswalk`: where one may be on the way."""


@dataclass(slots=True, eq=False)
class _Walker:
    track_id: int
    model: int
    pace: float
    legs: list[_Leg]
    path: Path
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0
    heading: float = 0.0
    stood_s: float = 0.0
    look_at: tuple[float, float] | None = None


class Crowd:
    """Simulates all people of a street; their track ids are even.

    Args:
        layout: The street.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rng = stream(layout.seed, "crowd")
        self._next_id = 2
        self._walkers: list[_Walker] = []
        self._done: list[Track] = []
        self.models: list[PersonModel] = []
        road = layout.road
        self._bounds = {
            "near": (road.front_near + 0.35, road.kerb_near - 0.35),
            "far": (road.kerb_far + 0.35, road.front_far - 0.45),
        }
        self._ends = {name: self._range(low, high) for name, (low, high) in self._bounds.items()}
        self._posts = np.array([(p.x_m, p.y_m) for p in layout.props])
        self._post_radii = np.array([p.radius_m + 0.28 for p in layout.props])

    def _range(self, low: float, high: float) -> tuple[float, float]:
        edges = [self._layout.camera.visible_x(y, (0.0, 1.0, 2.0)) for y in (low, high)]
        return min(e[0] for e in edges) - 2.5, max(e[1] for e in edges) + 2.5

    def run(self, start_s: float, end_s: float) -> list[Track]:
        """All tracks between two times."""
        preset = self._layout.preset
        due_s = start_s
        stand_due_s = start_s
        for step in range(round((end_s - start_s) / STEP_S) + 1):
            time_s = start_s + step * STEP_S
            while time_s >= due_s:
                self._spawn(time_s, self._itinerary())
                due_s += float(self._rng.exponential(60.0 / preset.walkers_per_minute))
            while time_s >= stand_due_s:
                self._spawn(time_s, self._standing_itinerary(), look=True)
                stand_due_s += float(self._rng.exponential(45.0 / preset.standing_people))
            self._step(time_s)
        for walker in self._walkers:
            self._finish(walker)
        return self._done

    def _itinerary(self) -> list[_Leg]:
        rng = self._rng
        side = "near" if rng.random() < 0.5 else "far"
        start, end = self._ends[side][:: (1 if rng.random() < 0.5 else -1)]
        low, high = self._bounds[side]
        y = float(rng.uniform(low + 0.2, high - 0.2))
        first = _Leg(start, y, corridor=side)
        if rng.random() < 0.3:
            return [first, *self._crossing(side)]
        return [first, _Leg(end, y, corridor=side)]

    def _crossing(self, side: str) -> list[_Leg]:
        other = "far" if side == "near" else "near"
        x = self._layout.road.crosswalk_x + float(self._rng.uniform(-0.5, 0.5)) * (CROSSWALK_M - 1.0)
        kerb = self._bounds["near"][1] if side == "near" else self._bounds["far"][0]
        landing = self._bounds["near"][1] - 1.2 if other == "near" else self._bounds["far"][0] + 1.2
        low, high = self._bounds[other]
        onwards = self._ends[other][int(self._rng.integers(2))]
        return [
            _Leg(x, kerb, "light", side),
            _Leg(x, landing, 0.0, "crosswalk"),
            _Leg(onwards, float(self._rng.uniform(low + 0.2, high - 0.2)), 0.0, other),
        ]

    def _standing_itinerary(self) -> list[_Leg]:
        rng = self._rng
        side = "near" if rng.random() < 0.4 else "far"
        start, end = self._ends[side][:: (1 if rng.random() < 0.5 else -1)]
        low, high = self._bounds[side]
        left, right = self._layout.camera.visible_x((low + high) / 2)
        y = high - 0.25 if rng.random() < 0.5 else low + 0.25
        spot = _Leg(between(rng, left + 1, right - 1), y, float(rng.uniform(10, 45)), side)
        return [_Leg(start, y, corridor=side), spot, _Leg(end, (low + high) / 2, corridor=side)]

    def _spawn(self, time_s: float, legs: list[_Leg], look: bool = False) -> None:
        rng = self._rng
        together = rng.random() < self._layout.preset.group_share
        count = int(rng.integers(2, 5)) if together else 1
        pace = float(rng.uniform(1.0, 1.55))
        ring = (
            [(0.42 * math.cos(2.4 * k + 0.7), 0.42 * math.sin(2.4 * k + 0.7)) for k in range(count)]
            if count > 1
            else [(0.0, 0.0)]
        )
        centre = (legs[1].x, legs[1].y)
        for dx, dy in ring:
            own = [_Leg(leg.x + dx * 1.2, self._inside(leg, leg.y + dy), leg.wait, leg.corridor) for leg in legs]
            start = own.pop(0)
            self.models.append(draw_person(rng))
            walker = _Walker(self._next_id, len(self.models) - 1, pace, own, Path(time_s), start.x, start.y)
            walker.heading = math.atan2(own[0].y - start.y, own[0].x - start.x)
            walker.look_at = centre if look and count > 1 else None
            self._next_id += 2
            self._walkers.append(walker)

    def _inside(self, leg: _Leg, y: float) -> float:
        if leg.corridor == "crosswalk":
            return y
        low, high = self._bounds[leg.corridor]
        return min(max(y, low), high)

    def _step(self, time_s: float) -> None:
        if not self._walkers:
            return
        wished = np.array([self._wish(walker, time_s) for walker in self._walkers])
        at = np.array([(w.x, w.y) for w in self._walkers])
        velocity = np.array([(w.vx, w.vy) for w in self._walkers])
        velocity += (self._avoid(at, velocity, wished) - velocity) * min(1.0, STEP_S * 4.0)
        velocity[np.hypot(*wished.T) == 0] = 0.0
        wanted = at + velocity * STEP_S
        settled = self._separate(wanted, np.hypot(*wished.T) == 0)
        for walker, place, old in zip(list(self._walkers), settled, at, strict=True):
            self._move(walker, place, old)

    def _wish(self, walker: _Walker, time_s: float) -> tuple[float, float]:
        """The wished velocity, m/s; turns to the next leg where one is reached."""
        leg = walker.legs[0]
        dx, dy = leg.x - walker.x, leg.y - walker.y
        distance = math.hypot(dx, dy)
        if distance < (0.7 if leg.wait == 0.0 else 0.5):
            if not self._may_go_on(walker, leg, time_s):
                return 0.0, 0.0
            walker.stood_s = 0.0
            walker.legs.pop(0)
            if not walker.legs:
                return 0.0, 0.0
            return self._wish(walker, time_s)
        return walker.pace * dx / distance, walker.pace * dy / distance

    def _may_go_on(self, walker: _Walker, leg: _Leg, time_s: float) -> bool:
        if isinstance(leg.wait, str):
            return self._layout.signal.may_walk(time_s)
        walker.stood_s += STEP_S
        return walker.stood_s >= leg.wait

    def _avoid(self, at: Floats, velocity: Floats, wished: Floats) -> Floats:
        """Turns wished velocities aside from people and posts ahead."""
        between = at[None] - at[:, None]
        distance = np.maximum(np.hypot(between[..., 0], between[..., 1]) + np.eye(len(at)) * 99, 1e-3)
        closing = -np.einsum("ijk,ijk->ij", between, velocity[None] - velocity[:, None]) / distance
        weight = np.clip(1 - distance / SIGHT_M, 0, 1) * np.clip(closing, 0, 2)
        speed = np.maximum(np.hypot(*wished.T), 1e-6)
        ahead = np.einsum("ijk,ik->ij", between, wished) / (distance * speed[:, None]) > 0.5
        rightward = np.stack([wished[:, 1], -wished[:, 0]], axis=-1) / speed[:, None]
        offside = np.einsum("ijk,ik->ij", between, rightward)
        turn = (weight * ahead * np.where(offside > 0.05, -1.0, 1.0)).sum(axis=1)
        sideways = np.clip(turn, -0.9, 0.9) + self._around_posts(at, wished / speed[:, None], rightward)
        turned: Floats = wished + rightward * sideways[:, None]
        return turned

    def _around_posts(self, at: Floats, ahead: Floats, rightward: Floats) -> Floats:
        """(n,) how much to step to the right, for the posts that stand in the way."""
        to = self._posts[None] - at[:, None]
        far = np.hypot(to[..., 0], to[..., 1]) + 1e-6
        facing = np.einsum("ijk,ik->ij", to, ahead) / far > 0.4
        side = np.where(np.einsum("ijk,ik->ij", to, rightward) > 0, -1.0, 1.0)
        sideways: Floats = (np.clip(1 - (far - self._post_radii) / 1.5, 0, 1) * facing * side * 0.9).sum(axis=1)
        return sideways

    def _separate(self, at: Floats, rooted: Floats) -> Floats:
        """Pushes apart who overlaps; who stands gives way less than who walks."""
        give, order = np.where(rooted, 0.02, 1.0), np.arange(len(at))
        for _ in range(3):
            between = at[None] - at[:, None]
            distance = np.hypot(between[..., 0], between[..., 1]) + np.eye(len(at)) * 99
            # Who stand at the very same place part along x: there is no direction between them.
            between[..., 0] += np.sign(np.subtract.outer(-order, -order)) * 1e-3 * (distance < 1e-3)
            excess = np.clip(BODY_M - distance, 0, None)
            share = give[:, None] / (give[:, None] + give[None])
            direction = between / np.maximum(distance, 1e-3)[..., None]
            at = at - (direction * (excess * share)[..., None]).sum(axis=1)
            away = at[:, None] - self._posts[None]
            far = np.maximum(np.hypot(away[..., 0], away[..., 1]), 1e-6)
            at = at + (away * (np.clip(self._post_radii - far, 0, None) / far)[..., None]).sum(axis=1)
        return at

    def _move(self, walker: _Walker, place: Floats, old: Floats) -> None:
        if not walker.legs:
            self._walkers.remove(walker)
            self._finish(walker)
            return
        x, y = float(place[0]), self._clamped(walker, float(place[1]), float(old[1]))
        step = math.hypot(x - old[0], y - old[1])
        if step < 0.004:
            x, y, step = float(old[0]), float(old[1]), 0.0
        walker.vx, walker.vy = (x - old[0]) / STEP_S, (y - old[1]) / STEP_S
        walker.x, walker.y = x, y
        self._turn(walker, step)
        speed = step / STEP_S
        walker.path.add(x, y, walker.heading, speed, walker.path.travelled() + step, False)

    def _turn(self, walker: _Walker, step: float) -> None:
        if step > 0.02:
            goal = math.atan2(walker.vy, walker.vx)
        elif walker.look_at is not None:
            goal = math.atan2(walker.look_at[1] - walker.y, walker.look_at[0] - walker.x)
        else:
            return
        difference = (goal - walker.heading + math.pi) % (2 * math.pi) - math.pi
        walker.heading += min(max(difference * 0.25, -0.25), 0.25)

    def _clamped(self, walker: _Walker, y: float, old_y: float) -> float:
        corridor = walker.legs[0].corridor
        if corridor == "crosswalk":
            return y
        low, high = self._bounds[corridor]
        # Who has just left the carriageway walks in; nobody jumps.
        return min(max(y, min(low, old_y)), max(high, old_y))

    def _finish(self, walker: _Walker) -> None:
        if len(walker.path.xs) > 1:
            self._done.append(walker.path.track(walker.track_id, walker.model, (1.0, 1.0, 1.0), person=True))
