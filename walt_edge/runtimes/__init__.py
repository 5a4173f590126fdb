"""Inference runtimes behind one protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a teacher saw in one frame: movable things only, of any confidence.

    Attributes:
        boxes_xyxy: (N, 4) float64, half-open pixels of the frame.
        scores: (N,) 0..1.
        labels: N classes; None for a movable thing that is neither (a bicycle, a dog).
    """

    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: tuple[Label | None, ...]


class Teacher(Protocol):
    """A teacher that names things. It sharpens what motion finds and is never needed."""

    @property
    def name(self) -> str:
        """How it is written into headers, at most 40 characters."""

    def __call__(self, bgr: NDArray[np.uint8]) -> Detections:
        """Looks at one (H, W, 3) uint8 frame."""
