"""Quality gates: what a clip has to be besides whole. Each is a named part of the confidence, 0..1.

Below one half a part rejects. The parts join those that the eyes gave, so that a calibration may weigh them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.contract.messages import CropHeader
from walt_edge.vision.ground import SizeLine
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.sightings import Reason
from walt_edge.vision.unoccluded import border_part, ramp

SHARP, NIGHT, NOISE, CONTRAST = "sharpness", "night", "noise", "contrast"
COMPACT, COMPLETE, TRUNCATED = "compactness", "completeness", "truncated"
GATES = (SHARP, NIGHT, NOISE, CONTRAST, COMPACT, COMPLETE, TRUNCATED, Reason.STATIC_OCCLUDER.value)
PASS = 0.5

_SETTINGS = WatchSettings()
_SHARP = (0.32, 0.48)  # of an edge's contrast within three pixels; real clips have 0.48 to 0.7, blur over 13 px 0.37
_UNKNOWN = 0.4  # nothing has an edge there
_DARK = (22.0, 45.0)  # median grey level of object and surroundings; street lights give 30 and more
_NOISE = (2.0, 6.0)  # contrast in units of the noise: below two, outlines are made of noise
_CONTRAST = (12.0, 32.0)  # span of grey levels, 5% to 95%; rain and fog halve the usual 60 to 150
_SOLID = {Label.PERSON: (0.35, 0.60), Label.VEHICLE: (0.60, 0.85)}  # of the mask, left by an opening
_OPENING = 0.12  # of the mask's smaller side
_WHOLE = (0.78, 0.92)  # of the size that the object's other silhouettes lead one to expect
_SIBLINGS_MIN = 2


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A clip as the gates look at it.

    Attributes:
        header: Its record.
        image_bgr: (h, w, 3) its crop.
        mask: (h, w).
        object_id: The physical object.
    """

    header: CropHeader
    image_bgr: NDArray[np.uint8]
    mask: Mask
    object_id: int


def gate_parts(clips: Sequence[Seen], filled: Sequence[Mask]) -> list[dict[str, float]]:
    """The parts of each clip, in order.

    Args:
        clips: All of one camera and epoch: completeness compares an object's silhouettes with each other.
        filled: Per clip (h, w) pixels of the anonymiser's colour, which say nothing about the picture.
    """
    complete = _completeness(clips)
    return [
        {**picture_parts(clip.image_bgr, clip.mask, ~gone), **outline_parts(clip), COMPLETE: whole}
        for clip, gone, whole in zip(clips, filled, complete, strict=True)
    ]


def failed(parts: Mapping[str, float]) -> str | None:
    """The gate that speaks most against a clip, or None."""
    lowest = min((name for name in GATES if name in parts), key=lambda name: parts[name], default=None)
    return lowest if lowest is not None and parts[lowest] < PASS else None


def picture_parts(bgr: NDArray[np.uint8], mask: Mask, shown: Mask) -> dict[str, float]:
    """Sharpness, light, noise and contrast of a crop.

    Args:
        bgr: (h, w, 3).
        mask: (h, w) the object.
        shown: (h, w) pixels that show something.
    """
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    around = grey[shown] if shown.any() else grey.reshape(-1)
    low, high = np.percentile(around, [5, 95])
    span = float(high - low)
    noise = noise_level(grey, shown)
    return {
        SHARP: ramp(edge_steepness(grey, mask & shown), *_SHARP, low=0.0, middle=0.2),
        NIGHT: ramp(float(np.median(around)), *_DARK, low=0.0, middle=0.2),
        NOISE: ramp(span / max(noise, 0.25), *_NOISE, low=0.0, middle=0.2),
        CONTRAST: ramp(span, *_CONTRAST, low=0.0, middle=0.2),
    }


def noise_level(grey: NDArray[np.uint8], shown: Mask) -> float:
    """Standard deviation of the noise, grey levels: Immerkaer's (1996) mask, which lines and edges cancel in.

    The median of |response| replaces the mean, so that texture counts little.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(grey.astype(np.float32), cv2.CV_32F, kernel))
    inside = cv2.erode(shown.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    values = response[inside] if inside.any() else response.reshape(-1)
    return float(np.median(values)) / (6.0 * 0.6745)


def edge_steepness(grey: NDArray[np.uint8], inside: Mask) -> float:
    """How much of an edge's contrast over nine pixels lies within three, 0..1, in the blurrier of both directions.

    Motion blurs along its own direction only.
    """
    near = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    found = []
    for along in ((1, 0), (0, 1)):
        short, long = (np.ones((1 + n * along[0], 1 + n * along[1]), np.uint8) for n in (2, 8))
        step = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, short)[near].astype(np.float32)
        wide = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, long)[near].astype(np.float32)
        clear = wide > 24
        if np.count_nonzero(clear) >= 16:
            # Pixels beside an edge see it in the long window alone: the steepest lie on it.
            found.append(float(np.quantile(step[clear] / wide[clear], 0.85)))
    return min(found, default=_UNKNOWN)


def outline_parts(clip: Seen) -> dict[str, float]:
    """Compactness of the mask, and whether the frame's edge may cut it."""
    x, y = clip.header.crop_xy
    patch = PatchMask.from_full(clip.mask)
    own = PatchMask(x + patch.x, y + patch.y, patch.mask)
    return {
        COMPACT: ramp(compactness(patch.mask), *_SOLID[clip.header.label], low=0.0, middle=0.2),
        TRUNCATED: border_part(own, clip.header.origin.frame_wh, _SETTINGS),
    }


def compactness(mask: Mask) -> float:
    """How much of a tight mask is left by an opening: threads, specks and torn rims are not."""
    side = max(3, round(_OPENING * min(mask.shape))) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    opened = cv2.morphologyEx(np.pad(mask, side).astype(np.uint8), cv2.MORPH_OPEN, disc)
    return float(np.count_nonzero(opened)) / max(1, np.count_nonzero(mask))


def _completeness(clips: Sequence[Seen]) -> list[float]:
    """Each silhouette's size on the ground against the median of its object's others; 1 where there are too few."""
    lines = {label: SizeLine() for label in Label}
    for clip in clips:
        lines[clip.header.label].add(clip.header.box_xyxy[3], _size(clip), clip.object_id)
    sizes: dict[int, list[float]] = {}
    relative = []
    for clip in clips:
        expected = lines[clip.header.label].expected(clip.header.box_xyxy[3])
        relative.append(_size(clip) / (expected or 1.0))
        sizes.setdefault(clip.object_id, []).append(relative[-1])
    parts = []
    for clip, ratio in zip(clips, relative, strict=True):
        known = sizes[clip.object_id]
        whole = ratio / float(np.median(known)) if len(known) > _SIBLINGS_MIN else 1.0
        parts.append(ramp(whole, *_WHOLE, low=0.0, middle=0.2))
    return parts


def _size(clip: Seen) -> float:
    return math.sqrt(float(np.count_nonzero(clip.mask)))
