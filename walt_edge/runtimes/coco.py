"""COCO's 80 classes as teachers see them: which of them move, and which are people and vehicles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.runtimes import Detections

SCORE_MIN = 0.1
"""Below this a teacher says nothing; what disqualifies a neighbour may be unsure."""

NAMES = {
    0: "person",
    1: "bicycle",
    2: "car",
    3: "motorcycle",
    5: "bus",
    6: "train",
    7: "truck",
    15: "cat",
    16: "dog",
    17: "horse",
    18: "sheep",
}
"""The movable ones, by their contiguous index."""

_LABEL_OF = {0: Label.PERSON, 2: Label.VEHICLE, 5: Label.VEHICLE, 7: Label.VEHICLE}


def is_coco(names: Sequence[str]) -> bool:
    """Whether a detector's classes are COCO's, in COCO's order."""
    return len(names) == 80 and all(names[index] == name for index, name in NAMES.items())


def detections(
    boxes_xyxy: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], frame_wh: tuple[int, int]
) -> Detections:
    """What moves of a detector's answer, clipped to the frame.

    Args:
        boxes_xyxy: (N, 4) pixels of the frame.
        scores: (N,) 0..1.
        classes: (N,) contiguous COCO indices.
        frame_wh: The frame's size.
    """
    index = [int(one) for one in classes]
    keep = np.array([score >= SCORE_MIN and one in NAMES for score, one in zip(scores, index, strict=True)], bool)
    inside = np.clip(boxes_xyxy[keep].astype(np.float64), 0, (*frame_wh, *frame_wh)).reshape(-1, 4)
    labels = tuple(_LABEL_OF.get(one) for one, kept in zip(index, keep, strict=True) if kept)
    return Detections(inside, scores[keep].astype(np.float64), labels)
