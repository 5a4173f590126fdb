"""Which views of an object are worth a crop: few, whole, sharp, large, and different from each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from walt_edge.contract.messages import Moment
from walt_edge.privacy import AnonymisedImage
from walt_edge.tracking import Observation
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import Shape
from walt_edge.vision.sightings import Sighting


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One look at an object, already anonymised.

    Attributes:
        sighting: As judged then.
        observation: Its place in the track.
        shape: Its outline, measured.
        image: The crop with its margin.
        crop_xy: The crop's corner in the frame.
        captured: When.
        sharpness: Of its rim, 0..1.
    """

    sighting: Sighting
    observation: Observation
    shape: Shape
    image: AnonymisedImage
    crop_xy: tuple[int, int]
    captured: Moment
    sharpness: float

    @property
    def worth(self) -> float:
        """Confidence x sharpness x size: what a clip is chosen by."""
        return worth(self.sighting, self.sharpness)


def worth(sighting: Sighting, sharpness: float) -> float:
    """Confidence x sharpness x fourth root of the area: the last so that a near, blurred view does not win."""
    return sighting.unoccluded_confidence * (0.3 + sharpness) * float(max(sighting.silhouette.area, 1)) ** 0.25


@dataclass(slots=True)
class ViewKeeper:
    """The best views of one track so far, apart from each other in time and place. Bounded."""

    settings: WatchSettings
    views: list[View] = field(default_factory=list)

    def offer(self, observation: Observation, value: float, make: Callable[[], View]) -> bool:
        """Keeps a view if it is better than those near it; calls `make` (which crops) only then."""
        near = [view for view in self.views if self._near(view.observation, observation)]
        if any(view.worth >= value for view in near):
            return False
        if not near and len(self.views) >= self._capacity and min(v.worth for v in self.views) >= value:
            return False
        self.views = [view for view in self.views if view not in near]
        if len(self.views) >= self._capacity:
            self.views.remove(min(self.views, key=lambda view: view.worth))
        self.views.append(make())
        return True

    def chosen(self) -> list[View]:
        """The views to send, best first, within the quota."""
        return sorted(self.views, key=lambda view: -view.worth)[: self.settings.views_per_track]

    @property
    def _capacity(self) -> int:
        # Twice the quota: some fall when the whole track is known.
        return 2 * self.settings.views_per_track

    def _near(self, one: Observation, other: Observation) -> bool:
        apart_s = abs(one.time_s - other.time_s)
        dx = (one.box_xyxy[0] + one.box_xyxy[2] - other.box_xyxy[0] - other.box_xyxy[2]) / 2
        dy = (one.box_xyxy[1] + one.box_xyxy[3] - other.box_xyxy[1] - other.box_xyxy[3]) / 2
        moved = (dx * dx + dy * dy) ** 0.5 / max(1.0, one.height)
        return apart_s < self.settings.view_gap_s or moved < self.settings.view_gap_heights
