"""Is all of this object seen? Each test gives a part of the confidence, 0..1; below one half it is a reason.

The tests err towards no: an object not taken costs one crop, an occluded one that is taken teaches a lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.plate import Image
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import Shape
from walt_edge.vision.sightings import Reason

Parts = dict[Reason, float]

_EDGE_LEVEL = 18  # grey levels within three pixels


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome.

    Attributes:
        confidence: Product of the parts, 0..1.
        parts: By reason.
        reasons: Those whose part is too low.
    """

    confidence: float
    parts: Mapping[Reason, float]
    reasons: tuple[Reason, ...]


def verdict(parts: Mapping[Reason, float], settings: WatchSettings) -> Verdict:
    """Combines parts: any one that fails, fails."""
    confidence = float(np.prod(list(parts.values()))) if parts else 0.0
    reasons = tuple(reason for reason, part in parts.items() if part < settings.whole_confidence)
    if parts and not reasons and confidence < settings.confidence_min:
        reasons = (min(parts, key=lambda reason: parts[reason]),)
    return Verdict(confidence, parts, reasons)


def label_map(patches: Iterable[PatchMask], height: int, width: int) -> NDArray[np.int32]:
    """(H, W) 0 for nothing, i + 1 for the i-th silhouette."""
    painted = np.zeros((height, width), np.int32)
    for index, patch in enumerate(patches):
        x0, y0, x1, y1 = patch.box_xyxy
        painted[y0:y1, x0:x1][patch.mask] = index + 1
    return painted


def neighbour_part(index: int, patch: PatchMask, painted: NDArray[np.int32], settings: WatchSettings) -> float:
    """0 where another silhouette comes within `clear_px`, rising to 1 at three times that."""
    reach = 3 * settings.clear_px
    window, own = _window(patch, painted, reach)
    others = (window != 0) & (window != index + 1)
    if not others.any():
        return 1.0
    distance = cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, 3)
    nearest = float(distance[others].min())
    return ramp(nearest, settings.clear_px, reach, low=0.0, middle=0.55)


def border_part(patch: PatchMask, frame_wh: tuple[int, int], settings: WatchSettings) -> float:
    """0 at the frame's edge."""
    x0, y0, x1, y1 = patch.box_xyxy
    gap = min(x0, y0, frame_wh[0] - x1, frame_wh[1] - y1)
    return ramp(gap, settings.border_px, 3 * settings.border_px, low=0.0, middle=0.6)


def small_part(patch: PatchMask, settings: WatchSettings) -> float:
    """0 below the sizes that are worth learning from."""
    height, width = patch.mask.shape
    if patch.area < settings.area_min_px * (1 + settings.area_margin) or min(height, width) < settings.side_min_px:
        return 0.0
    return ramp(patch.area, settings.area_min_px, 2 * settings.area_min_px, low=0.0, middle=0.8)


def sharpness(patch: PatchMask, frame: Image) -> float:
    """Steepness of the rim against its contrast, 0..1: 1 is an edge within two pixels, motion blur is below 0.3."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = patch.box_xyxy
    box = (max(0, x0 - 4), max(0, y0 - 4), min(width, x1 + 4), min(height, y1 + 4))
    grey = cv2.cvtColor(frame[box[1] : box[3], box[0] : box[2]], cv2.COLOR_BGR2GRAY)
    mask = patch.window(box).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    rim = (cv2.dilate(mask, kernel) - cv2.erode(mask, kernel)) > 0
    if not rim.any():
        return 0.0
    steep = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, kernel)[rim].astype(np.float32)
    wide = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((9, 9), np.uint8))[rim].astype(np.float32)
    clear = wide > 20
    if np.count_nonzero(clear) < 8:
        return 0.5
    return float(np.median(steep[clear] / wide[clear]))


def crown_part(patch: PatchMask, moving: NDArray[np.bool_], settings: WatchSettings) -> float:
    """0 where too much of the upper half's outline borders on something else that moves."""
    width = moving.shape[1]
    x0, y0, x1, y1 = patch.box_xyxy
    reach = settings.halo_px + 3
    box = (max(0, x0 - reach), max(0, y0 - reach), min(width, x1 + reach), (y0 + y1) // 2)
    own = patch.window(box).astype(np.uint8)
    inner = cv2.dilate(own, np.ones((2 * settings.halo_px + 1,) * 2, np.uint8))
    ring = (cv2.dilate(inner, np.ones((5, 5), np.uint8)) - inner) > 0
    if not ring.any():
        return 1.0
    share = float(moving[box[1] : box[3], box[0] : box[2]][ring].mean())
    return 1.0 - ramp(share, 0.3 * settings.crown_max, 1.7 * settings.crown_max, low=0.0, middle=0.0)


def edge_part(patch: PatchMask, frame: Image, settings: WatchSettings) -> float:
    """0 where too little of the outline is an edge in the picture."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = patch.box_xyxy
    box = (max(0, x0 - 2), max(0, y0 - 2), min(width, x1 + 2), min(height, y1 + 2))
    own = patch.window(box).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    rim = (cv2.dilate(own, kernel) - cv2.erode(own, kernel)) > 0
    steep = cv2.morphologyEx(frame[box[1] : box[3], box[0] : box[2]], cv2.MORPH_GRADIENT, kernel).max(axis=2)
    share = float((steep[rim] > _EDGE_LEVEL).mean())
    return ramp(share, settings.edge_min - 0.1, settings.edge_min + 0.1, low=0.0, middle=0.0)


def cut_part(patch: PatchMask, plate_gradient: NDArray[np.uint8], settings: WatchSettings) -> float:
    """0 where a side of the outline runs upright along an edge of the plate: something there stands before it.

    An object's own side may be upright, and the plate has edges of its own, but they hardly meet along a length.
    """
    height, width = plate_gradient.shape
    mask = patch.mask
    rows = np.flatnonzero(mask.any(axis=1))
    longest = 0.0
    for columns in (mask.argmax(axis=1)[rows], mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)[rows]):
        counts = np.bincount(columns, minlength=mask.shape[1])
        column = int(np.argmax(np.convolve(counts, np.ones(3), mode="same")))
        there = rows[np.abs(columns - column) <= 1]
        x0, x1 = max(0, patch.x + column - 2), min(width, patch.x + column + 3)
        edge = plate_gradient[np.clip(patch.y + there, 0, height - 1), x0:x1].max(axis=1) > settings.see_through_level
        longest = max(longest, float(np.count_nonzero(edge)))
    share = longest / rows.size
    return 1.0 - ramp(share, 0.5 * settings.cut_max, 1.5 * settings.cut_max, low=0.0, middle=0.0)


def known_part(patch: PatchMask, known: NDArray[np.bool_]) -> float:
    """How much of the silhouette and its surroundings lies on learned plate, squared."""
    height, width = known.shape
    x0, y0, x1, y1 = patch.box_xyxy
    around = known[max(0, y0 - 3) : min(height, y1 + 3), max(0, x0 - 3) : min(width, x1 + 3)]
    return ramp(float(around.mean()), 0.9, 1.0, low=0.0, middle=0.5)


def proportion_part(label: Label | None, shape: Shape) -> float:
    """0 for an outline that cannot be one object of its class: two heads, too wide for one person, two cars."""
    if label is Label.PERSON:
        wide = ramp(shape.shoulders, 0.42, 0.60, low=1.0, middle=1.0, high=0.0)
        upright = ramp(shape.aspect, 1.2, 1.6, low=0.0, middle=0.0)
        return min(wide, upright, 1.0 if shape.heads <= 1 else 0.0)
    if label is Label.VEHICLE:
        compact = ramp(shape.solidity, 0.80, 0.92, low=0.0, middle=0.5)
        single = ramp(shape.notch, 0.14, 0.26, low=1.0, middle=1.0, high=0.0)
        lying = ramp(shape.aspect, 1.2, 1.7, low=1.0, middle=1.0, high=0.0)
        return min(compact, single, lying)
    return 1.0


def size_parts(ratio: float | None, label: Label, settings: WatchSettings) -> Parts:
    """FRAGMENT where smaller than the ground allows, MERGED where larger."""
    if ratio is None:
        return {Reason.FRAGMENT: 0.85, Reason.MERGED: 0.85}
    tolerance = settings.size_tolerance * (1.0 if label is Label.PERSON else 1.15)
    small = ramp(ratio, 1 / (1 + 1.5 * tolerance), 1 / (1 + 0.5 * tolerance), low=0.0, middle=0.0)
    large = ramp(ratio, 1 + 0.5 * tolerance, 1 + 1.5 * tolerance, low=1.0, middle=1.0, high=0.0)
    return {Reason.FRAGMENT: small, Reason.MERGED: large}


def bulk_part(ratio: float) -> float:
    """0 for a person much bulkier than is usual for their height: two who walk side by side, or one and a shadow."""
    return ramp(ratio, 1.15, 1.5, low=1.0, middle=1.0, high=0.0)


def see_through_part(silhouette: PatchMask, label: Label | None) -> float:
    """0 for a vehicle with a hole in it: what is seen there stands before it. People have holes beside their arms."""
    if label is not Label.VEHICLE:
        return 1.0
    mask = silhouette.mask.astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(mask.copy(), contours, -1, 1, cv2.FILLED)
    hole = 1.0 - np.count_nonzero(mask) / max(1, np.count_nonzero(filled))
    return ramp(float(hole), 0.01, 0.03, low=1.0, middle=1.0, high=0.0)


def ramp(value: float, start: float, end: float, *, low: float, middle: float, high: float = 1.0) -> float:
    """`low` up to start, then linear from `middle` to `high` at end, and `high` beyond."""
    if value <= start:
        return low
    if value >= end:
        return high
    return middle + (high - middle) * (value - start) / (end - start)


def _window(patch: PatchMask, painted: NDArray[np.int32], margin: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    height, width = painted.shape
    x0, y0, x1, y1 = patch.box_xyxy
    box = (max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin))
    return painted[box[1] : box[3], box[0] : box[2]], patch.window(box)
