"""Which views of an object are worth a crop: few, whole, sharp, large, and different from each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from walt_edge.contract.masks import BoxXYXY, rle_area
from walt_edge.contract.messages import CropHeader, Moment
from walt_edge.privacy.anonymiser import AnonymisedImage
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import Shape
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.watching.tracking import Observation

_CONTEXT = 0.2  # of the larger side: the margin that crops are cut with


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
        context: How much of the margin around it lies inside the frame, 0..1; see `context`.
        filled: How much of it the anonymiser has filled, 0..1.
    """

    sighting: Sighting
    observation: Observation
    shape: Shape
    image: AnonymisedImage
    crop_xy: tuple[int, int]
    captured: Moment
    sharpness: float
    context: float = 1.0
    filled: float = 0.0

    @property
    def worth(self) -> float:
        """What a clip is chosen by."""
        return worth(self.sighting, self.sharpness, self.context, self.filled)


def worth(sighting: Sighting, sharpness: float, context: float = 1.0, filled: float = 0.0) -> float:
    """What a view of an object would teach.

    Confidence x (0.3 + sharpness) x fourth root of the area x (1 + context) / 2 x (1 - filled).

    The root, so that a near, blurred view does not win over a sharp one. Half of the worth goes with the context: an
    object at the frame's edge may be truncated by more than its outline tells, and is pasted without its
    surroundings. What is filled shows nothing of the object.

    Args:
        sighting: Its confidence that nothing hides a part of it, and its outline.
        sharpness: Of its rim, 0..1.
        context: See `context`.
        filled: How much of it the anonymiser has filled, 0..1.
    """
    return _worth(sighting.unoccluded_confidence, sighting.silhouette.area, sharpness, context, filled)


def worth_of_header(header: CropHeader) -> float:
    """The same of a crop that is sealed: its sharpness is the part of the confidence that stands for it."""
    sharpness = header.confidence_parts.get(Reason.BLURRED, 1.0)
    x0, y0, x1, y1 = header.box_xyxy
    margin_px = _CONTEXT * max(x1 - x0, y1 - y0)
    around = context(header.box_xyxy, header.origin.frame_wh, margin_px)
    return _worth(header.unoccluded_confidence, rle_area(header.mask), sharpness, around)


def context(box_xyxy: BoxXYXY, frame_wh: tuple[int, int], margin_px: float) -> float:
    """How much of a margin of that width lies inside the frame at the box's worst side: 0 touches, 1 is clear."""
    x0, y0, x1, y1 = box_xyxy
    gap = min(x0, y0, frame_wh[0] - x1, frame_wh[1] - y1)
    return min(1.0, max(0.0, gap / max(1.0, margin_px)))


def _worth(confidence: float, area: int, sharpness: float, around: float, filled: float = 0.0) -> float:
    size = float(max(area, 1) ** 0.25)
    return confidence * (0.3 + sharpness) * size * (0.5 + 0.5 * around) * (1.0 - filled)


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
