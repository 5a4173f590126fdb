"""What a tracker of amodal boxes tells, and how it is set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from walt_edge.contract.errors import WaltError
from walt_edge.tracking.found import Box

State = Literal["tentative", "seen", "partly_hidden", "hidden", "missed"]


class TrackingError(WaltError):
    """Frames came in an order that has no meaning, or a setting that has none."""


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """How an `AmodalTracker` decides. Sides are those of the square as large as an object's box.

    Attributes:
        sure_score: Detections from here on begin tracks and are given out first.
        least_score: Detections below it are left out.
        confirm_score: Sum of scores that makes an object of a tentative track.
        person_sway, vehicle_sway: Spectral density of acceleration, sides^2/s^3.
        memory_s: In which a speed is forgotten.
        edge_noise: Standard deviation of a detection's edges, sides.
        hidden_noise: What is added to it where all of the object is hidden.
        overlap: What counts for a pair beside its likelihood: so many nats times the IoU of the amodal boxes.
        newcomer_at_border, newcomer_inside: Log density of a detection that nobody has seen before, in sides, beside
            the frame's border, where objects enter, and elsewhere; higher: ids are given up sooner.
        gate: Greatest squared Mahalanobis distance of a pair, of four numbers.
        find_s: Looks for an object in the open fail together for about so long.
        hidden_limit_s: Nobody is carried longer than this.
        uncertain_limit: ... nor with a place less certain than this, sides.
        partly_hidden_from: Hidden share of an object that counts.
    """

    sure_score: float = 0.4
    least_score: float = 0.1
    confirm_score: float = 1.2
    person_sway: float = 0.2
    vehicle_sway: float = 0.25
    memory_s: float = 6.0
    edge_noise: float = 0.06
    hidden_noise: float = 0.3
    overlap: float = 10.0
    newcomer_at_border: float = -1.0
    newcomer_inside: float = -6.0
    gate: float = 20.0
    find_s: float = 0.3
    hidden_limit_s: float = 30.0
    uncertain_limit: float = 4.0
    partly_hidden_from: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.least_score <= self.sure_score <= 1:
            raise TrackingError(
                f"scores {self.least_score} and {self.sure_score}: give 0 <= least_score <= sure_score <= 1"
            )
        for name in ("person_sway", "vehicle_sway", "memory_s", "edge_noise", "gate", "find_s", "hidden_limit_s"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise TrackingError(f"{name} is {getattr(self, name)}: give a number above 0")


@dataclass(frozen=True, slots=True)
class TrackedObject:
    """One object at the time of an update.

    Attributes:
        id: From 1, never used again by the same tracker.
        label: What it was called most.
        box_xyxy: Its amodal box, smoothed or predicted, clipped to the frame, pixels.
        visible_box_xyxy: Tight box of what is seen of it; None while nothing is.
        velocity_xy: Of its ground contact, pixels a second.
        place_std_xy: Standard deviation of its ground contact, pixels; grows while it is not seen.
        state: `seen`; `partly_hidden`; `hidden`, expected behind something nearer; `missed`, expected in the open but
            not found, which ends soon; `tentative`, too new to be believed.
        occlusion_fraction: Hidden share of it, 0..1; expected where it is not seen.
        hidden_since_s: Time of the first update in which it was hidden; None while it is found.
        hidden_by: Id of who is before it; None where nobody is, or a static thing, or somebody unknown.
        age_s: Since its first detection.
        score: Of its newest detection, 0..1.
        instance: Which of the update's instances it is; None while it is not seen.
    """

    id: int
    label: int
    box_xyxy: Box
    visible_box_xyxy: Box | None
    velocity_xy: tuple[float, float]
    place_std_xy: tuple[float, float]
    state: State
    occlusion_fraction: float
    hidden_since_s: float | None
    hidden_by: int | None
    age_s: float
    score: float
    instance: int | None
