"""What every object does over time, so that a frame is a pure function of (street, time)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from walt_train.rwalt.meshes import Colour, Floats

STEP_S = 0.1
"""Step of the simulation; between steps states are interpolated linearly."""

STILL_M_S = 0.05
STILL_MIN_S = 2.0


@dataclass(frozen=True, slots=True)
class State:
    """One object at one time: metres, radians, metres a second.

    Attributes:
        x_m, y_m: Where it stands.
        heading: 0 along +x.
        speed: Metres a second.
        travelled_m: Distance since its track began; drives gait and wheels.
        braking: Whether a vehicle's brake lights are on.
    """

    x_m: float
    y_m: float
    heading: float
    speed: float
    travelled_m: float
    braking: bool


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One physical object.

    Attributes:
        track_id: Unique in the street.
        model: Index into the street's vehicle or person models.
        colour: A vehicle's paint.
        person: Whether it is a person.
        at_s: (n,) times, seconds, increasing.
        states: (n, 6): x, y, heading (unwrapped), speed, travelled, braking.
        still_s: Intervals of at least `STILL_MIN_S` in which it stands.
    """

    track_id: int
    model: int
    colour: Colour
    person: bool
    at_s: Floats
    states: Floats
    still_s: tuple[tuple[float, float], ...]

    def at(self, time_s: float) -> State | None:
        """Its state, or None before its first and after its last step."""
        if not self.at_s[0] <= time_s <= self.at_s[-1]:
            return None
        after = min(int(np.searchsorted(self.at_s, time_s, side="right")), len(self.at_s) - 1)
        before = max(after - 1, 0)
        span = self.at_s[after] - self.at_s[before]
        share = (time_s - self.at_s[before]) / span if span > 0 else 0.0
        # a + (b - a) * share: exactly a where nothing changes.
        step = self.states[after] - self.states[before]
        x, y, heading, speed, travelled, braking = self.states[before] + step * share
        return State(float(x), float(y), float(heading), float(speed), float(travelled), bool(braking > 0.5))

    def still_at(self, time_s: float) -> tuple[float, float] | None:
        """The interval of standing that holds `time_s`."""
        return next((span for span in self.still_s if span[0] <= time_s <= span[1]), None)


@dataclass(slots=True, eq=False)
class Path:
    """Collects the steps of one object while it is simulated."""

    start_s: float
    xs: list[float] = field(default_factory=list)
    ys: list[float] = field(default_factory=list)
    headings: list[float] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    braking: list[bool] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    """Times of the steps; left empty they are one `STEP_S` apart."""

    def add(self, x: float, y: float, heading: float, speed: float, travelled: float, braking: bool) -> None:
        """Appends a step."""
        self.xs.append(x)
        self.ys.append(y)
        self.headings.append(heading)
        self.speeds.append(speed)
        self.distances.append(travelled)
        self.braking.append(braking)

    def travelled(self) -> float:
        """Distance at the last step."""
        return self.distances[-1] if self.distances else 0.0

    def track(self, track_id: int, model: int, colour: Colour, person: bool) -> Track:
        """The finished track."""
        at_s = np.asarray(self.at_s or [self.start_s + STEP_S * step for step in range(len(self.xs))], dtype=float)
        columns = [self.xs, self.ys, np.unwrap(self.headings), self.speeds, self.distances, self.braking]
        states = np.stack([np.asarray(column, dtype=float) for column in columns], axis=1)
        return Track(track_id, model, colour, person, at_s, states, _still(at_s, states[:, 3]))


def _still(at_s: Floats, speeds: Floats) -> tuple[tuple[float, float], ...]:
    standing = np.concatenate(([False], speeds < STILL_M_S, [False]))
    edges = np.flatnonzero(standing[1:] != standing[:-1]).reshape(-1, 2)
    spans = [(float(at_s[first]), float(at_s[last - 1])) for first, last in edges]
    return tuple(span for span in spans if span[1] - span[0] >= STILL_MIN_S)
