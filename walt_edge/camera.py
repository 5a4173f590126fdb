"""Frames of a fixed camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.messages import Moment


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture as it came from the camera: not anonymised, never to leave memory.

    Attributes:
        bgr: (H, W, 3) uint8.
        index: How many frames the source had delivered before this one, skipped ones included.
        captured: When.
    """

    bgr: NDArray[np.uint8]
    index: int
    captured: Moment
