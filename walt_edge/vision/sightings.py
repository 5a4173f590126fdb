"""What the eyes hand on: one frame's objects, before anybody judged them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask


class Reason(enum.StrEnum):
    """Why an object was not taken as seen whole."""

    NEIGHBOUR = "neighbour"
    BORDER = "border"
    STATIC_OCCLUDER = "static occluder"
    BLURRED = "blurred"
    SMALL = "small"
    UNCLASSIFIED = "unclassified"
    FRAGMENT = "fragment"
    MERGED = "merged"
    SHORT_TRACK = "short track"
    NOT_BEST = "a better view was taken"
    WARM_UP = "plate not learned yet"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One object in one frame.

    Attributes:
        silhouette: Its visible mask.
        label: Its class, or None if shape, size and motion do not tell (yet).
        score: How sure the class is, 0..1.
        ground_xy: Where it touches the ground, pixels in the frame.
        track_id: The track it belongs to, or -1 before tracking.
        reasons: Why it is not taken as seen whole; empty means whole.
        unoccluded_confidence: 0..1.
        confidence_parts: What the confidence was made of, each 0..1, keyed by `Reason` values.
    """

    silhouette: PatchMask
    label: Label | None
    score: float
    ground_xy: tuple[float, float]
    track_id: int = -1
    reasons: tuple[Reason, ...] = ()
    unoccluded_confidence: float = 0.0
    confidence_parts: tuple[tuple[str, float], ...] = ()
