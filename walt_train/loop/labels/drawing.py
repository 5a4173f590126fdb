"""What a person draws on a frame: outlines of whole objects, also where something hides them or the frame ends.

A drawing comes from a browser and is believed in nothing: sizes, numbers and places are checked, and that what is
seen of an object lies within its outline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from walt_edge.contract.errors import WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask
from walt_train.data.depth import Region
from walt_train.data.polygons import fill_polygon

DRAWING_BYTES: Final = 1 << 20
THINGS_MOST: Final = 200
POINTS_MOST: Final = 20_000
"""In a drawing; a person sets a few hundred."""
COVER_MOST: Final = 32
"""All outlines together span so many times the frame at most: each is filled to be checked; a crowd spans a few."""
LEAST_PX: Final = 16
"""An outline around fewer pixels is a slip of the hand."""
_OUTSIDE_SHARE, _OUTSIDE_PX = 0.02, 20
"""Two outlines along one edge are never drawn alike: so much of what is seen may lie outside, and is cut off."""

Point = tuple[float, float]
Ring = Annotated[list[Point], Meta(min_length=3, max_length=1000)]


class DrawingError(WaltError):
    """A drawing cannot be."""


class Thing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something outlined.

    Attributes:
        label: Its class; `static` only hides what is behind it.
        track: The same in every frame that shows the same physical object.
        amodal: Its whole outline, pixels of the frame; it may leave the frame by half of the frame's size.
        visible: What is seen of it; None = all that nothing nearer covers.
    """

    label: Literal["person", "vehicle", "static"]
    track: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    amodal: Ring
    visible: Annotated[list[Ring], Meta(max_length=16)] | None = None

    @property
    def rings(self) -> list[Ring]:
        """All of them."""
        return [self.amodal, *(self.visible or ())]

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """The amodal box; it may leave the frame."""
        xs, ys = zip(*self.amodal, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


class Drawing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything outlined in a frame, nearest first.

    Attributes:
        size_wh: Of the frame.
        things: What is outlined; an object hides those that come after it.
    """

    size_wh: tuple[int, int]
    things: Annotated[list[Thing], Meta(max_length=THINGS_MOST)] = []


def read_drawing(data: bytes | str, size_wh: tuple[int, int]) -> Drawing:
    """Reads and checks a drawing.

    Args:
        data: JSON.
        size_wh: Of the frame that it was drawn on.

    Raises:
        DrawingError: It is too large, malformed, or something in it cannot be.
    """
    if len(data) > DRAWING_BYTES:
        raise DrawingError(f"a drawing of {len(data)} bytes is above the limit of {DRAWING_BYTES}")
    try:
        drawing = msgspec.json.decode(data, type=Drawing)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DrawingError(f"not a drawing: {error}") from error
    if drawing.size_wh != size_wh:
        raise DrawingError(f"drawn on {drawing.size_wh}, the frame is {size_wh}: load the page again")
    if sum(len(ring) for thing in drawing.things for ring in thing.rings) > POINTS_MOST:
        raise DrawingError(f"a drawing of more than {POINTS_MOST} points: draw with fewer")
    tracks = [thing.track for thing in drawing.things]
    if len(set(tracks)) < len(tracks):
        raise DrawingError("two things are said to be the same object: delete one of them")
    for place, thing in enumerate(drawing.things, start=1):
        _check_places(thing, f"{thing.label} {place}", size_wh)
    _check_cover(drawing)
    for place, thing in enumerate(drawing.things, start=1):
        _check(thing, f"{thing.label} {place}", size_wh)
    return drawing


def encode_drawing(drawing: Drawing) -> str:
    """As it is kept."""
    return msgspec.json.encode(drawing).decode()


def regions_of(drawing: Drawing) -> list[Region]:
    """As masks of the whole frame, nearest first; what nobody outlined as seen is seen where nothing nearer is."""
    width, height = drawing.size_wh
    nearer: Mask = np.zeros((height, width), dtype=bool)
    regions = []
    for thing in drawing.things:
        amodal = _fill([thing.amodal], (0, 0, width, height))
        visible = amodal & ~nearer
        if thing.visible is not None:
            visible &= _fill(thing.visible, (0, 0, width, height))
        label = None if thing.label == "static" else Label[thing.label.upper()]
        regions.append(Region(label, amodal, visible, thing.track))
        nearer |= amodal
    return regions


def _check_places(thing: Thing, name: str, size_wh: tuple[int, int]) -> None:
    for ring in thing.rings:
        for x, y in ring:
            if not (math.isfinite(x) and math.isfinite(y)):
                raise DrawingError(f"{name}: a corner is no place")
            if not (_is_near(x, size_wh[0]) and _is_near(y, size_wh[1])):
                raise DrawingError(f"{name}: a corner at {x:g}, {y:g} is too far outside of the frame {size_wh}")


def _check_cover(drawing: Drawing) -> None:
    width, height = drawing.size_wh
    area = sum(
        (x1 - x0) * (y1 - y0) * len(thing.rings)
        for thing in drawing.things
        for x0, y0, x1, y1 in [_pixels_around(thing, drawing.size_wh)]
    )
    if area > COVER_MOST * width * height:
        raise DrawingError(
            f"its outlines span {area / (width * height):.0f} times the frame, at most {COVER_MOST}: delete some"
        )


def _check(thing: Thing, name: str, size_wh: tuple[int, int]) -> None:
    box = _pixels_around(thing, size_wh)
    amodal = _fill([thing.amodal], box)
    if np.count_nonzero(amodal) < LEAST_PX:
        raise DrawingError(
            f"{name}: its outline holds fewer than {LEAST_PX} pixels of the frame: draw it, or delete it"
        )
    if thing.visible is not None:
        visible = _fill(thing.visible, box)
        outside = np.count_nonzero(visible & ~amodal)
        if outside > max(_OUTSIDE_PX, _OUTSIDE_SHARE * np.count_nonzero(visible)):
            raise DrawingError(
                f"{name}: {outside} pixels that are seen of it lie outside of its whole outline: widen the outline"
            )


def _is_near(value: float, side: int) -> bool:
    return -side / 2 <= value <= 1.5 * side


def _pixels_around(thing: Thing, size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    points = np.concatenate([np.asarray(ring) for ring in thing.rings])
    x0, y0 = np.clip(np.floor(points.min(axis=0)), 0, size_wh).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(points.max(axis=0)), 0, size_wh).astype(int).tolist()
    return x0, y0, x1, y1


def _fill(rings: Sequence[Ring], box_xyxy: tuple[int, int, int, int]) -> Mask:
    """The pixels of a part of the frame that lie within any of the rings."""
    x0, y0, x1, y1 = box_xyxy
    mask: Mask = np.zeros((y1 - y0, x1 - x0), dtype=bool)
    for ring in rings:
        if mask.size:
            mask |= fill_polygon(np.asarray(ring, dtype=np.float64) - (x0, y0), (y1 - y0, x1 - x0))
    return mask
