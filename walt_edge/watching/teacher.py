"""What a detector teacher adds to what motion found (mining-notes.md: purity, not outline)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.runtimes import Detections
from walt_edge.vision.sightings import Reason
from walt_edge.vision.unoccluded import Parts
from walt_edge.watching.tracking import iou_matrix, overlap_matrix

SURE_SCORE = 0.35
ANY_SCORE = 0.15
MATCH_IOU = 0.65
NEAR_PX = 3


@dataclass(frozen=True, slots=True)
class Lesson:
    """The teacher's word on one silhouette.

    Attributes:
        parts: Of the unoccluded confidence.
        label: The class, where exactly one sure box fits.
    """

    parts: Parts
    label: Label | None


def teach(patch: PatchMask, detections: Detections) -> Lesson:
    """Exactly one sure box must fit, and no other box of any confidence may come near."""
    own = np.array([patch.box_xyxy], np.float64)
    seen = detections.scores >= ANY_SCORE
    boxes, scores = detections.boxes_xyxy[seen], detections.scores[seen]
    labels = [label for label, kept in zip(detections.labels, seen, strict=True) if kept]
    if not len(boxes):
        return Lesson({Reason.FRAGMENT: 0.0}, None)
    fits = iou_matrix(own, boxes)[0] >= MATCH_IOU
    near = overlap_matrix(own + np.array([-NEAR_PX, -NEAR_PX, NEAR_PX, NEAR_PX]), boxes)[0] > 0
    sure = np.flatnonzero(fits & (scores >= SURE_SCORE))
    parts: Parts = {Reason.NEIGHBOUR: 0.0 if (near & ~fits).any() else 1.0}
    if sure.size == 0:
        return Lesson({**parts, Reason.FRAGMENT: 0.0}, None)
    return Lesson(parts, labels[int(sure[np.argmax(scores[sure])])])
