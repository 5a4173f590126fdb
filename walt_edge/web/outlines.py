"""A live frame's objects as outlines, for the browser to draw: polygons, boxes and words, no pixels.

Drawing in the browser costs the device nothing but the contours, and lets a person switch layers without a request.
Points are in the frame's pixels; an outline goes through the centres of the outermost pixels of its mask.
"""

from __future__ import annotations

from typing import Final

import cv2
import msgspec
import numpy as np

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.sightings import Sighting
from walt_edge.web.status import LiveFrame

_OBJECTS_MAX: Final = 64
_TOLERANCE_PX: Final = 0.7

Polygon = list[list[int]]
"""Corners [x, y]; holes are polygons of their own, to be filled by the even-odd rule."""


class Outline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One object.

    Attributes:
        id: Its track, or -1.
        label: `person`, `vehicle` or "".
        score: 0..1.
        whole: Its full extent.
        behind: The part of it that something hides.
        hidden: That part's share of the whole, 0..1.
        reasons: Why the eyes did not take it as seen whole; empty means whole.
    """

    id: int = -1
    label: str = ""
    score: float = 0.0
    whole: list[Polygon] = []
    behind: list[Polygon] = []
    hidden: float = 0.0
    reasons: list[str] = []


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """A tracked object that is hidden altogether; see `status.Carried`."""

    id: int
    label: str
    box: list[float]
    spread: float


class Overlay(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn over one frame.

    Attributes:
        camera: The camera's name.
        number: Of the frame.
        utc_us: When it was captured.
        age_s: How long ago that was when this was told.
        frame_wh: Size of the frame, pixels; the picture beside may be smaller.
        amodal: What the model saw, or None where none looked.
        carried: What is tracked and hidden altogether.
        seen: What the eyes saw.
    """

    camera: str
    number: int
    utc_us: int
    age_s: float
    frame_wh: tuple[int, int]
    amodal: list[Outline] | None
    carried: list[Expected]
    seen: list[Outline]


def overlay_of(frame: LiveFrame, now_ns: int) -> Overlay:
    """The outlines of a live frame.

    Args:
        frame: The frame.
        now_ns: Monotonic time.
    """
    height, width = frame.image.bgr.shape[:2]
    instances = frame.instances
    return Overlay(
        camera=frame.camera,
        number=frame.number,
        utc_us=frame.captured.utc_us,
        age_s=max(0.0, (now_ns - frame.captured.monotonic_ns) / 1e9),
        frame_wh=(width, height),
        amodal=None if instances is None else _of_instances(instances, frame.track_ids),
        carried=[
            Expected(
                id=one.track_id, label=one.label.title, box=[round(c, 1) for c in one.box_xyxy], spread=one.spread_px
            )
            for one in frame.carried[:_OBJECTS_MAX]
        ],
        seen=[_of_sighting(one) for one in frame.sightings[:_OBJECTS_MAX]],
    )


def polygons(patch: PatchMask) -> list[Polygon]:
    """The mask's contours, holes included, in the frame's pixels."""
    if not patch.mask.size:
        return []
    bits = np.ascontiguousarray(patch.mask).view(np.uint8)
    contours, _ = cv2.findContours(bits, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(patch.x, patch.y))
    return [cv2.approxPolyDP(one, _TOLERANCE_PX, closed=True)[:, 0].tolist() for one in contours]


def _of_instances(instances: AmodalInstances, track_ids: tuple[int, ...]) -> list[Outline]:
    count = min(len(instances), _OBJECTS_MAX)
    ids = [*track_ids, *[-1] * (count - len(track_ids))]
    return [_of_instance(instances, index, ids[index]) for index in range(count)]


def _of_instance(instances: AmodalInstances, index: int, track_id: int) -> Outline:
    whole, front = instances.amodal[index], instances.occluder[index]
    behind: Mask = whole.mask & front.window(whole.box_xyxy)
    area = whole.area
    return Outline(
        id=track_id,
        label=_title(int(instances.labels[index])),
        score=round(float(instances.scores[index]), 2),
        whole=polygons(whole),
        behind=polygons(PatchMask(whole.x, whole.y, behind)),
        hidden=round(int(np.count_nonzero(behind)) / area, 2) if area else 0.0,
    )


def _of_sighting(sighting: Sighting) -> Outline:
    return Outline(
        id=sighting.track_id,
        label=sighting.label.title if sighting.label else "",
        score=round(sighting.score, 2),
        whole=polygons(sighting.silhouette),
        reasons=[reason.value for reason in sighting.reasons],
    )


def _title(label: int) -> str:
    return Label(label).title if label in set(Label) else ""
