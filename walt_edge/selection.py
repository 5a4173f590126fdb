"""Which views of an object are worth a crop: few, whole, sharp, large, and different from each other."""

from __future__ import annotations

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
    size = float(max(sighting.silhouette.area, 1) ** 0.25)
    return sighting.unoccluded_confidence * (0.3 + sharpness) * size


@dataclass(slots=True)
class ViewKeeper:
    """The best views of one track so far, apart from each other in time and place. Bounded.

    Attributes:
        settings: See `WatchSettings`.
        views: Kept and not yet sent.
        sent: Where and when views were sent already; nothing near them is wanted again.
    """

    settings: WatchSettings
    views: list[View] = field(default_factory=list)
    sent: list[Observation] = field(default_factory=list)

    def wants(self, observation: Observation, value: float) -> bool:
        """Whether a view of this worth would be kept: asked before the crop is made."""
        if len(self.sent) >= self.settings.views_per_track or any(self._near(o, observation) for o in self.sent):
            return False
        near = [view for view in self.views if self._near(view.observation, observation)]
        if near:
            return all(view.worth < value for view in near)
        return len(self.views) < self._capacity or min(view.worth for view in self.views) < value

    def keep(self, view: View) -> None:
        """Keeps a view in the place of those near it, or of the least one."""
        self.views = [kept for kept in self.views if not self._near(kept.observation, view.observation)]
        if len(self.views) >= self._capacity:
            self.views.remove(min(self.views, key=lambda kept: kept.worth))
        self.views.append(view)

    def take(self, views: list[View]) -> list[View]:
        """Empties the keeper; of the views given returns the best, within what is left of the quota.

        What some reason speaks against takes no quota and no place: a better view may come there.
        """
        best = sorted(views, key=lambda view: -view.worth)[: self.settings.views_per_track - len(self.sent)]
        self.sent.extend(view.observation for view in best if not view.sighting.reasons)
        self.views = []
        return best

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
