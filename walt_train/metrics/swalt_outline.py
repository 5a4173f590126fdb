"""The outline of an object that stands still, from its picture and from its place when it is empty.

The median of many frames has hardly any noise, so small differences count: a grey window before grey road differs.
What differs is object or shadow, and a shadow darkens the ground without colouring it. From the lowest pixel of each
column that is no shadow upwards all that differs is believed, and the border is moved to the picture's edges
(GrabCut; Rother, Kolmogorov and Blake 2004).

An outline is believed where an edge came with the object. One that runs along edges that the empty place has as well
was cut there by something static; one that follows no edge is a patch of light, or goes through the middle of things.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.plate import Image
from walt_train.metrics.matching import tight_box
from walt_train.metrics.swalt_ground import largest_difference

Floats = NDArray[np.float32]

_REACH, _REACH_MIN_PX = 0.35, 12
"""Of the longer side: how far around an object is looked."""
_LEVEL, _LEVEL_AT_EDGES = 10.0, 0.6
"""Grey levels from which on medians differ, and more where the ground has edges: poses are known to half a pixel."""
_OFFSET = 4.0
_SHADE_MIN, _SHADE_MAX, _SHADE_CHROMA = 0.33, 0.92, 0.17
_ROUNDS = 3
_EDGE, _GROUND_EDGE, _PARALLEL = 4.0, 2.5, 0.85
_CLOSE, _OPEN, _CORE, _SURE, _RIM = 0.03, 0.02, 0.05, 0.04, 0.1
"""Radii as parts of the side of the object's square."""
_PART = 0.3


@dataclass(frozen=True, slots=True)
class Doubt:
    """What speaks for and against an outline, each 0..1 unless it says otherwise.

    Attributes:
        edge: Part of the outline at which the picture has an edge.
        fixed: Part of the outline that runs along an edge which the empty place has as well.
        fixed_run: Longest such run, in sides of the object's square.
        beside: What differs around it and is no shadow, as a part of the object's area.
        unchanged: Part of its inside at which the empty place looks the same.
        shaded: Part of it that might as well be shadow.
        lost: Part of what the detector saw, without what may be shadow at its foot, that is outside.
        cut: It leaves the window that was looked at.
    """

    edge: float
    fixed: float
    fixed_run: float
    beside: float
    unchanged: float
    shaded: float
    lost: float
    cut: bool

    @property
    def small(self) -> bool:
        """Whether the outline may be truth; limits chosen on rendered streets, see `benchmarks.swalt`."""
        return (
            not self.cut
            and self.edge >= 0.93
            and self.fixed <= 0.2
            and self.fixed_run <= 0.3
            and self.beside <= 0.05
            and self.unchanged <= 0.1
            and self.shaded <= 0.5
            and self.lost <= 0.08
        )


def outline(mask: PatchMask, picture: Image, ground: Image) -> tuple[PatchMask, Doubt] | None:
    """The object's tight mask and what speaks against it; None where nothing differs there.

    Args:
        mask: Where the detector saw it; not empty.
        picture: (H, W, 3) uint8 BGR, median of the frames in which it stands there.
        ground: (H, W, 3) uint8 BGR, the place without it.
    """
    place = _Place.of(mask, picture, ground)
    whole = _differing(place)
    core = None if whole is None else _core(place, whole)
    if whole is None or core is None:
        return None
    found = _cut_out(place, whole, core)
    if not found.any():
        return None
    x0, y0, _, _ = place.box_xyxy
    full = PatchMask(x0, y0, found)
    box = tight_box(full)
    return PatchMask(box[0], box[1], full.window(box)), _doubt(place, whole, core, found)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A window around an object.

    Attributes:
        box_xyxy: Of the window, pixels.
        seen: What the detector saw.
        picture: With the object.
        ground: Without it, in the same light.
        differs: Where they are not the same.
        shade: Where the difference may be a shadow's.
        side_px: Of the object's square.
    """

    box_xyxy: tuple[int, int, int, int]
    seen: Mask
    picture: Image
    ground: Image
    differs: Mask
    shade: Mask
    side_px: float

    @classmethod
    def of(cls, mask: PatchMask, picture: Image, ground: Image) -> _Place:
        height, width = picture.shape[:2]
        x0, y0, x1, y1 = mask.box_xyxy
        reach = max(_REACH_MIN_PX, round(_REACH * max(x1 - x0, y1 - y0)))
        box = max(0, x0 - reach), max(0, y0 - reach), min(width, x1 + reach), min(height, y1 + reach)
        window = slice(box[1], box[3]), slice(box[0], box[2])
        seen, now = mask.window(box), np.ascontiguousarray(picture[window])
        empty = in_light_of(ground[window], now, ~_grown(seen, 3))
        level = _LEVEL + _LEVEL_AT_EDGES * np.hypot(*_slopes(empty))
        differs = cv2.medianBlur((largest_difference(now, empty) > level).astype(np.uint8), 3) > 0
        ratio = (now.astype(np.float32) + _OFFSET) / (empty.astype(np.float32) + _OFFSET)
        mean = ratio.mean(axis=2)
        grey = np.ptp(ratio, axis=2) < _SHADE_CHROMA * mean
        shade = differs & grey & (mean > _SHADE_MIN) & (mean < _SHADE_MAX)
        return cls(box, seen, now, empty, differs, shade, float(np.sqrt(mask.area)))

    def radius(self, part: float, least: int = 1) -> int:
        """A part of the object's side, pixels."""
        return max(least, round(part * self.side_px))


def in_light_of(ground: Image, picture: Image, where: Mask) -> Image:
    """One picture as bright as another, by the median of the ratio where most of both is the same."""
    if not where.any():
        return np.ascontiguousarray(ground)
    ratio = np.median((picture[where] + np.float32(1)) / (ground[where] + np.float32(1)), axis=0)
    lit: Image = np.clip(ground * ratio + 0.5, 0, 255).astype(np.uint8)
    return lit


def _differing(place: _Place) -> Mask | None:
    """The filled regions that differ where the detector saw the object."""
    smooth = _opened(_closed(place.differs, place.radius(_CLOSE)), place.radius(_OPEN))
    count, labels = cv2.connectedComponents(smooth.astype(np.uint8), connectivity=4)
    sizes = np.bincount(labels.ravel(), minlength=count)
    own = np.bincount(labels[place.seen], minlength=count)
    chosen = own > _PART * np.minimum(sizes, np.count_nonzero(place.seen))
    chosen[0] = False
    return _filled(chosen[labels]) if chosen.any() else None


def _core(place: _Place, whole: Mask) -> Mask | None:
    """What is no shadow, and all that differs above it."""
    solid = place.differs & ~place.shade & whole
    above = np.flip(np.maximum.accumulate(np.flip(_opened(solid, 1), 0), 0), 0)
    core = (_filled(_closed(solid, place.radius(_CORE, 2))) | above) & whole
    core = _opened(core, place.radius(_OPEN))
    return core if core.any() else None


def _cut_out(place: _Place, whole: Mask, core: Mask) -> Mask:
    """The core with its border moved to the edges of the picture."""
    known = np.full(whole.shape, cv2.GC_BGD, np.uint8)
    known[_grown(whole, 2)] = cv2.GC_PR_BGD
    known[core] = cv2.GC_PR_FGD
    known[_shrunk(core, place.radius(_SURE, 2))] = cv2.GC_FGD
    if not (known == cv2.GC_FGD).any() or not (known == cv2.GC_BGD).any():
        return np.zeros_like(whole)
    cv2.setRNGSeed(0)  # GrabCut's clusters begin at random
    cv2.grabCut(place.picture, known, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = ((known == cv2.GC_FGD) | (known == cv2.GC_PR_FGD)) & _grown(whole, 1)
    return _largest(_filled(_opened(found, 1)))


def _doubt(place: _Place, whole: Mask, core: Mask, found: Mask) -> Doubt:
    rim = _grown(found, 1) & ~_shrunk(found, 1)
    inside = _shrunk(found, 2)
    now, empty = _slopes(place.picture), _slopes(place.ground)
    level = np.hypot(*empty)
    along = np.abs(now[0] * empty[0] + now[1] * empty[1]) >= _PARALLEL * np.hypot(*now) * level
    fixed = rim & (level > _GROUND_EDGE) & along
    area, side = float(np.count_nonzero(found)), float(np.sqrt(np.count_nonzero(found)))
    around = _grown(found, place.radius(_RIM, 3)) & ~_grown(found, 2)
    seen = place.seen & (core | ~place.shade)  # but for what may be shadow at its foot
    return Doubt(
        edge=float((cv2.dilate(_steepness(place.picture), np.ones((3, 3), np.uint8))[rim] > _EDGE).mean()),
        fixed=float(np.count_nonzero(fixed) / np.count_nonzero(rim)),
        fixed_run=_longest(fixed) / side,
        beside=float(np.count_nonzero(place.differs & ~place.shade & around) / area),
        unchanged=float(np.count_nonzero(inside & ~place.differs) / area),
        shaded=float(np.count_nonzero(place.shade & whole) / np.count_nonzero(whole)),
        lost=float(np.count_nonzero(seen & ~found) / max(1, np.count_nonzero(seen))),
        cut=bool(found[[0, -1]].any() or found[:, [0, -1]].any()),
    )


def _slopes(bgr: Image) -> tuple[Floats, Floats]:
    """How steep the grey picture is across and down, grey levels a pixel."""
    grey = cv2.GaussianBlur(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), (3, 3), 0).astype(np.float32)
    across: Floats = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)
    down: Floats = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    return across, down


def _steepness(bgr: Image) -> Floats:
    """How steep the steepest channel is, grey levels a pixel."""
    calm = cv2.GaussianBlur(bgr, (3, 3), 0).astype(np.float32)
    across, down = (cv2.Sobel(calm, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    steepest: Floats = np.hypot(across, down).max(axis=2)
    return steepest


def _longest(mask: Mask) -> float:
    """The longest extent of its pieces, pixels."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return float(stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(initial=0))


def _largest(mask: Mask) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count == 1:
        return mask
    largest: Mask = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return largest


def _filled(mask: Mask) -> Mask:
    """Without holes."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(canvas, outlines, -1, 1, cv2.FILLED)
    filled: Mask = canvas > 0
    return filled


def _grown(mask: Mask, radius_px: int) -> Mask:
    grown: Mask = cv2.dilate(mask.astype(np.uint8), _disc(radius_px)) > 0
    return grown


def _shrunk(mask: Mask, radius_px: int) -> Mask:
    shrunk: Mask = cv2.erode(mask.astype(np.uint8), _disc(radius_px)) > 0
    return shrunk


def _closed(mask: Mask, radius_px: int) -> Mask:
    closed: Mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, _disc(radius_px)) > 0
    return closed


def _opened(mask: Mask, radius_px: int) -> Mask:
    opened: Mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disc(radius_px)) > 0
    return opened


def _disc(radius_px: int) -> NDArray[np.uint8]:
    disc: NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1,) * 2)
    return disc
