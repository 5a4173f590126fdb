"""What is known about each track: its class, its size, its best views, and whether it was seen whole."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.classify import ClassEvidence
from walt_edge.vision.ground import Sizes
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.sightings import Reason
from walt_edge.vision.static_occluders import Footprint, PackedFootprint, StaticOccluders
from walt_edge.vision.unoccluded import Parts, ramp, size_parts, verdict
from walt_edge.watching.tracking import Track
from walt_edge.watching.views import View, ViewKeeper

_TRAIL = 100
_TRAIL_STEP_S = 0.09
_RECENT_S = 0.55
_RECENT_MIN = 3


@dataclass(slots=True)
class Dossier:
    """One track's file.

    Attributes:
        track: The track.
        evidence: For its class.
        keeper: Its best views so far.
        failed: How often each reason spoke against it.
        failed_late: The same, of kept views when the whole track was known.
        released_s: When its views were last sent, or its birth.
        trail: Its newest sightings, for learning static occluders.
    """

    track: Track
    keeper: ViewKeeper
    evidence: ClassEvidence = field(default_factory=ClassEvidence)
    failed: Counter[Reason] = field(default_factory=Counter)
    failed_late: Counter[Reason] = field(default_factory=Counter)
    released_s: float = -np.inf
    trail: deque[PackedFootprint] = field(default_factory=lambda: deque(maxlen=_TRAIL))

    def note_footprint(self, footprint: Footprint) -> None:
        """Keeps a sighting for learning static occluders, ten a second at most."""
        if not self.trail or footprint.time_s - self.trail[-1].time_s >= _TRAIL_STEP_S:
            self.trail.append(PackedFootprint.of(footprint))

    def own_ratio(self, area: float, time_s: float) -> float | None:
        """Area over the median of the track's own within the last half second; None while there are too few."""
        recent = [o.area for o in self.track.history if o.clean and time_s - o.time_s <= _RECENT_S]
        return area / float(np.median(recent)) if len(recent) >= _RECENT_MIN else None


def jump_parts(ratio: float | None) -> Parts:
    """FRAGMENT and MERGED from the jump of a silhouette's area against the track's recent ones."""
    if ratio is None:
        return {Reason.FRAGMENT: 0.9, Reason.MERGED: 0.9}
    return {
        Reason.FRAGMENT: ramp(ratio, 0.72, 0.92, low=0.0, middle=0.3),
        Reason.MERGED: ramp(ratio, 1.10, 1.40, low=1.0, middle=1.0, high=0.0),
    }


def weakest(*many: Parts) -> Parts:
    """The smallest part for each reason."""
    out: Parts = {}
    for parts in many:
        for reason, part in parts.items():
            out[reason] = min(part, out.get(reason, 1.0))
    return out


def rejudge(view: View, dossier: Dossier, sizes: Sizes, occluders: StaticOccluders, settings: WatchSettings) -> View:
    """Judges a kept view again now that its whole track is known."""
    label, score = dossier.evidence.classify()
    parts = {Reason(name): part for name, part in view.sighting.confidence_parts}
    parts = weakest(parts, track_parts(dossier, label, score, settings))
    parts = weakest(parts, occluder_parts(view.sighting.silhouette, occluders, settings))
    if label is not None:
        seen = view.observation
        ratio = sizes.ratio(label, seen.box_xyxy[3], seen.height, seen.area)
        parts = weakest(parts, size_parts(ratio, label, settings), whole_track_parts(view, dossier))
    outcome = verdict(parts, settings)
    sighting = dataclasses.replace(
        view.sighting,
        label=label,
        score=score,
        reasons=outcome.reasons,
        unoccluded_confidence=outcome.confidence,
        confidence_parts=tuple((reason.value, part) for reason, part in parts.items()),
    )
    return dataclasses.replace(view, sighting=sighting)


def occluder_parts(patch: PatchMask, occluders: StaticOccluders, settings: WatchSettings) -> Parts:
    """What the map of poles and signs says about an outline."""
    limit = settings.occluder_contact
    return {
        Reason.STATIC_OCCLUDER: 1.0 - ramp(occluders.contact(patch), 0.25 * limit, 2 * limit, low=0.0, middle=0.0)
    }


def track_parts(dossier: Dossier, label: Label | None, score: float, settings: WatchSettings) -> Parts:
    """What the track as a whole says: long enough, and of a class."""
    track = dossier.track
    enough = track.sightings >= settings.track_sightings_min and track.seen_s - track.born_s >= settings.track_s_min
    return {
        Reason.SHORT_TRACK: 1.0 if enough else 0.0,
        Reason.UNCLASSIFIED: 0.0 if label is None else score,
    }


def whole_track_parts(view: View, dossier: Dossier) -> Parts:
    """The view's area against those of the track seen at nearly the same place, before and after."""
    seen = view.observation
    near = [
        o.area for o in dossier.track.history if o.clean and abs(o.box_xyxy[3] - seen.box_xyxy[3]) < 0.5 * seen.height
    ]
    return jump_parts(seen.area / float(np.median(near)) if len(near) >= 5 else None)
