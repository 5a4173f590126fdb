"""What composites are put together from, as it lies in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_train.clipart.light import FULL_LIGHT, Light, LightMap

ALPHA_HALF = 128
"""A pixel belongs to a mask from this alpha on."""
POINT_ONE = 256
"""Points are whole numbers of this part of a pixel."""
_RAMP = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32)

Box = tuple[int, int, int, int]
Points = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """One object's pixels.

    Attributes:
        image_bgr: (h, w, 3) uint8, with a pixel of context around the mask.
        alpha: (h, w) uint8; 128 and more inside the mask, less outside.
        box_xyxy: Of the mask in the frame, half-open pixels.
        xy: Top left corner of the image in the frame; may be -1, where the context leaves the frame.
        label: Its class.
        object_id: The physical object, numbered from 1 by the time it was first seen.
        plate_id: The plate it was seen before.
        hour: UTC hour it was seen at.
        seen_us: When it was seen, microseconds since 1970, as `believed_times` has it.
        light: In which it was seen.
        confidence: How sure it is that nothing hides a part of it, 0..1; None where nobody said.
        keypoints: (K, 2) x, y in the frame, 1/256 pixel, or None.
        seen: (K,) their COCO visibility: 2 seen, 1 hidden, 0 unknown; None without keypoints.
        cuboid: (8, 2) corners of its 3D box in the frame, 1/256 pixel, or None.
        crop: Id of the envelope that it came in, or "".
    """

    image_bgr: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    box_xyxy: Box
    xy: tuple[int, int]
    label: Label
    object_id: int
    plate_id: str
    hour: int
    seen_us: int
    light: Light = FULL_LIGHT
    confidence: float | None = None
    keypoints: Points | None = None
    seen: NDArray[np.int64] | None = None
    cuboid: Points | None = None
    crop: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """A plate without holes.

    Attributes:
        image_bgr: (H, W, 3) uint8.
        plate_id: Its id.
        hour: UTC hour that it stands for.
        utc_us: When it was finished.
        light: Its light everywhere; None where nobody measured.
        source: `median` of many frames, or one `frame`.
        guessed: Flat indices of the pixels that no plate knows and that were filled from around; None for none.
    """

    image_bgr: NDArray[np.uint8]
    plate_id: str
    hour: int
    utc_us: int
    light: LightMap | None = None
    source: Literal["median", "frame"] = "median"
    guessed: NDArray[np.intp] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Post:
    """A static thing that hides what passes behind it.

    Attributes:
        mask: In the frame, tight.
        alpha: (h + 2, w + 2) uint8 around it, with a pixel of context.
        ground_y: Row where it touches the ground, pixels; infinite where it is before everything.
    """

    mask: PatchMask
    alpha: NDArray[np.uint8]
    ground_y: float


def soft_edge(mask: Mask) -> NDArray[np.uint8]:
    """Alpha with a ramp of one pixel to either side: at least 128 exactly where the mask is."""
    # Sums of small whole numbers are exact in float32, and the filter only adds.
    weight = cv2.filter2D(mask.astype(np.float32), cv2.CV_32F, _RAMP, borderType=cv2.BORDER_CONSTANT).astype(np.int32)
    inside = np.maximum(weight * 16, ALPHA_HALF)
    outside = np.minimum(weight * 16, ALPHA_HALF - 16)
    alpha: NDArray[np.uint8] = np.minimum(np.where(mask, inside, outside), 255).astype(np.uint8)
    return alpha
