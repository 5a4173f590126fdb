"""People whom only a detector or a model sees: who stands in the plate has no silhouette, and a head all the same.

The detector is asked once a frame at most, for the judge and for the anonymiser together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.runtimes import Detections, Teacher
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.watching.teacher import ANY_SCORE
from walt_edge.watching.tracking import iou_matrix

SAME_IOU = 0.5  # a silhouette and a box that overlap so far are one person's
HEAD_DEPTH = 0.25  # of a box's height: boxes begin at the hair, and a head leans
_NOBODY = Detections(np.zeros((0, 4)), np.zeros(0), ())


class Onlookers:
    """A detector that remembers its newest look, and the people in it who have no silhouette.

    Args:
        detector: Who looks.
        every_s: Media time after which a look is too old: who stands in the plate hardly moves.
    """

    def __init__(self, detector: Teacher, every_s: float) -> None:
        self._detector = detector
        self._every_s = every_s
        self._looked_at: NDArray[np.uint8] | None = None
        self._looked_s = -np.inf
        self._seen = _NOBODY

    @property
    def name(self) -> str:
        """The detector's."""
        return self._detector.name

    def __call__(self, bgr: NDArray[np.uint8]) -> Detections:
        """Looks at a frame, unless it is the one that was looked at last."""
        if self._looked_at is not bgr:
            self._seen = self._detector(bgr)
            self._looked_at = bgr
        return self._seen

    def sightings(
        self, bgr: NDArray[np.uint8], silhouettes: Sequence[PatchMask], time_s: float | None = None
    ) -> list[Sighting]:
        """The heads of the people without a silhouette, as the anonymiser takes them.

        Args:
            bgr: (H, W, 3), the frame.
            silhouettes: What motion found in it.
            time_s: Its media time; None for a picture of no moment, at which is always looked.
        """
        fresh = time_s is not None and 0 <= time_s - self._looked_s < self._every_s
        if self._looked_at is bgr or not fresh:
            self(bgr)
            self._looked_s = -np.inf if time_s is None else time_s
        return heads(self._seen, silhouettes)


def heads(seen: Detections, silhouettes: Sequence[PatchMask]) -> list[Sighting]:
    """The head part of every person's box, of any usable score, that no silhouette fits."""
    people = [
        label is Label.PERSON and score >= ANY_SCORE for label, score in zip(seen.labels, seen.scores, strict=True)
    ]
    chosen = np.array(people, dtype=bool)
    boxes, scores = seen.boxes_xyxy[chosen], seen.scores[chosen]
    lone = ~_known(boxes, silhouettes)
    return [_head(box, float(score)) for box, score in zip(boxes[lone], scores[lone], strict=True)]


def heads_of(seen: AmodalInstances, silhouettes: Sequence[PatchMask]) -> list[Sighting]:
    """The same of a model's people: by their amodal box, their amodal mask and what is visible of them.

    Args:
        seen: What the model saw in the frame; people of any score that it gives.
        silhouettes: Of what motion found and the anonymiser takes for people; what is covered as a vehicle is not.
    """
    found: list[Sighting] = []
    for index in np.flatnonzero(seen.labels == Label.PERSON).tolist():
        whole, visible = seen.amodal[index].tight(), seen.visible[index].tight()
        boxes = [seen.boxes_xyxy[index].tolist(), *(mask.box_xyxy for mask in (whole, visible) if mask.mask.size)]
        tried = np.array(boxes, np.float64)
        if not _known(tried, silhouettes).any():
            found += [_head(box, float(seen.scores[index])) for box in np.unique(tried, axis=0)]
    return found


def _known(boxes: NDArray[np.float64], silhouettes: Sequence[PatchMask]) -> NDArray[np.bool_]:
    """(N,) whether a silhouette fits each box."""
    known = np.array([patch.box_xyxy for patch in silhouettes], np.float64).reshape(-1, 4)
    return np.asarray((iou_matrix(boxes.reshape(-1, 4), known) >= SAME_IOU).any(axis=1))


def _head(box_xyxy: NDArray[np.float64], score: float) -> Sighting:
    """The upper part of a box, low enough that the anonymiser fills all of it."""
    x0, y0 = np.floor(box_xyxy[:2]).astype(int).tolist()
    x1, y1 = np.ceil(box_xyxy[2:]).astype(int).tolist()
    depth = max(1, min(round(HEAD_DEPTH * (y1 - y0)), x1 - x0))
    patch = PatchMask(x0, y0, np.ones((depth, max(1, x1 - x0)), bool))
    return Sighting(patch, Label.PERSON, score, ((x0 + x1) / 2, float(y1)), reasons=(Reason.FRAGMENT,))
