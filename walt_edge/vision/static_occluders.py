"""Poles, signs and trees that objects pass behind, learned from the objects.

A pixel of a static occluder never changes while parts of one object show on both sides of it. So two counts are kept
for each pixel: how many objects covered it, and how many left it as a gap between their parts. Where gaps outweigh
covers lies a seed; it grows over the hole that it lies in, where nobody was seen while many were beside it.

Where an occluder touches the ground follows from its own lowest row, corrected by the objects: it stands nearer than
the feet of all that passed behind it, and farther than the feet of those that passed before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.clipart import StaticThing
from walt_edge.contract.masks import Mask, PatchMask, encode_rle
from walt_edge.vision.settings import WatchSettings

_EVERY = 3
_HOLE_SHARE = 0.15
_WIDEST = 0.12  # of the frame's height: a sign, a trunk
_BRIDGE_WIDTH = 0.6
_BRIDGE_HEIGHT = 0.7
_THING_SHARE = 4e-4  # of the frame; smaller ones hide nothing that matters
_PIECES = 0.03  # of the frame's height: a gap in a pole that nobody has passed yet
_UPRIGHT, _FULL = 1.5, 0.5  # height by width; share of the box around it
_PASSED_SHARE = 0.3  # of a thing's pixels: whoever covered less only brushed it

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class OccluderCounts:
    """What a map was learned from; maps of one camera position add up.

    Attributes:
        hits: (H, W) objects that covered the pixel.
        misses: (H, W) objects that left it as a gap.
        behind_y: (H, W) lowest ground row of those that left a gap; 0 where none did.
        before_y: (H, W) highest ground row of those that covered it; infinite where none did.
        size_px: Median height of the objects; 0 before the first.
    """

    hits: Rows
    misses: Rows
    behind_y: Rows
    before_y: Rows
    size_px: float

    def shifted(self, dx: int, dy: int) -> OccluderCounts:
        """The same counts moved by whole pixels, rows included."""
        return OccluderCounts(
            _shifted(self.hits, dx, dy, 0.0),
            _shifted(self.misses, dx, dy, 0.0),
            _shifted(np.where(self.behind_y > 0, self.behind_y + dy, 0).astype(np.float32), dx, dy, 0.0),
            _shifted(self.before_y + np.float32(dy), dx, dy, np.inf),
            self.size_px,
        )


class StaticOccluders:
    """The map of one camera position.

    Args:
        frame_wh: Size of the frames.
        settings: See `WatchSettings`.
    """

    def __init__(self, frame_wh: tuple[int, int], settings: WatchSettings) -> None:
        width, height = frame_wh
        self._settings = settings
        self._hits = np.zeros((height, width), np.float32)
        self._misses = np.zeros((height, width), np.float32)
        self._behind_y = np.zeros((height, width), np.float32)
        self._before_y = np.full((height, width), np.inf, np.float32)
        self._sizes: deque[float] = deque(maxlen=300)
        self._age = 0
        self.mask: Mask = np.zeros((height, width), bool)

    def learn(self, trail: Sequence[Footprint]) -> None:
        """Notes one finished track. It counts once in each place, however slowly it passed."""
        seen = np.zeros(self.mask.shape, bool)
        bridged = np.zeros(self.mask.shape, bool)
        for step in trail:
            if step.usable:
                # Where a shadow falls, one sees the ground: nothing stands before it.
                _paint(seen, PatchMask(step.own.x, step.own.y, step.own.mask | step.changed))
                gap = _bridged(step)
                _paint(bridged, gap)
                self._note_rows(step.own, gap)
        self._hits[seen] += 1
        self._misses[bridged & ~seen] += 1
        self._sizes.extend(float(step.own.mask.shape[0]) for step in trail[:: max(1, len(trail) // 3)])
        self._age += 1
        if self._age % _EVERY == 0:
            self.mask = self._find()

    def _note_rows(self, own: PatchMask, gap: PatchMask) -> None:
        """Which ground rows passed behind and before each pixel."""
        x0, y0, x1, y1 = own.box_xyxy
        foot = np.float32(y0 + np.flatnonzero(own.mask.any(axis=1))[-1] + 1)
        if foot > len(self.mask) - 2 * self._settings.clear_px:  # cut by the frame: where it stands is not seen
            return
        behind, before = self._behind_y[y0:y1, x0:x1], self._before_y[y0:y1, x0:x1]
        behind[gap.mask] = np.maximum(behind[gap.mask], foot)
        before[own.mask] = np.minimum(before[own.mask], foot)

    def counts(self) -> OccluderCounts:
        """What was counted so far."""
        size = float(np.median(self._sizes)) if self._sizes else 0.0
        return OccluderCounts(self._hits, self._misses, self._behind_y, self._before_y, size)

    def absorb(self, counts: OccluderCounts) -> None:
        """Adds what another watch of the same position counted, and looks again."""
        self._hits += counts.hits
        self._misses += counts.misses
        np.maximum(self._behind_y, counts.behind_y, out=self._behind_y)
        np.minimum(self._before_y, counts.before_y, out=self._before_y)
        if counts.size_px > 0:
            self._sizes.append(counts.size_px)
        self.mask = self._find()

    def things(self) -> list[StaticThing]:
        """Each occluder with the row at which it touches the ground; pieces above each other are one.

        What nobody was seen to pass behind is left out, and what lies rather than stands: kerbs and markings, on
        which outlines break, would cover who drives on them.
        """
        found = self.mask.astype(np.uint8)
        reach = max(3, round(_PIECES * len(found))) | 1
        whole = cv2.morphologyEx(
            np.pad(found, ((reach, reach), (0, 0))), cv2.MORPH_CLOSE, np.ones((reach, 3), np.uint8)
        )
        count, labels = cv2.connectedComponents(whole[reach:-reach] | found, connectivity=8)
        masks = [self.mask & (labels == index) for index in range(1, count)]
        own = [mask for mask in masks if np.count_nonzero(mask) >= _THING_SHARE * mask.size and _stands(mask)]
        rows = [self._ground_y(mask) for mask in own]
        return [
            StaticThing(mask=encode_rle(mask), ground_y=row)
            for mask, row in zip(own, rows, strict=True)
            if row is not None
        ]

    def _ground_y(self, mask: Mask) -> float | None:
        """The lowest row, moved between those who passed behind and those before; None where nobody passed."""
        lowest = float(np.flatnonzero(mask.any(axis=1))[-1] + 1)
        behind, before = self._behind_y[mask], self._before_y[mask]
        passed = behind[behind > 0]
        if passed.size < _PASSED_SHARE * behind.size:
            return None
        low = float(np.quantile(passed, 0.9))
        crossed = before[np.isfinite(before) & (before > low)]
        high = float(np.median(crossed)) if crossed.size >= _PASSED_SHARE * before.size else float(len(self.mask))
        return float(np.clip(lowest, low, max(low, high)))

    def _find(self) -> Mask:
        """Seeds where misses outweigh hits, grown over the hole in the traffic that they lie in."""
        settings = self._settings
        seeds = (self._misses >= settings.occluder_tracks) & (
            self._misses > settings.occluder_share * (self._misses + self._hits)
        )
        if not seeds.any() or not self._sizes:
            return np.zeros_like(seeds)
        side = int(min(float(np.median(self._sizes)), _WIDEST * self.mask.shape[0])) | 1
        across = np.ones((1, side), np.uint8)
        # A gap needs somebody beside it: above and below all traffic are only bridges to pieces that flicker.
        seeds &= cv2.dilate(self._hits, across) >= settings.occluder_tracks
        # Nothing passes beyond the frame: what is open to its edge is no hole.
        busy = cv2.morphologyEx(
            self._hits, cv2.MORPH_CLOSE, across, borderType=cv2.BORDER_CONSTANT, borderValue=(0.0,)
        )
        near = cv2.dilate(seeds.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
        hole = near & (busy >= settings.occluder_tracks) & (self._hits <= _HOLE_SHARE * busy)
        count, labels = cv2.connectedComponents((hole | seeds).astype(np.uint8), connectivity=8)
        chosen = np.zeros(count, bool)
        chosen[np.unique(labels[seeds])] = True
        chosen[0] = False
        found: Mask = chosen[labels]
        return found

    def contact(self, patch: PatchMask) -> float:
        """Length of the outline that runs along an occluder, as part of the outline's height, 0 and up."""
        height, width = self.mask.shape
        x0, y0, x1, y1 = patch.box_xyxy
        reach = self._settings.clear_px
        box = (max(0, x0 - reach), max(0, y0 - reach), min(width, x1 + reach), min(height, y1 + reach))
        near = self.mask[box[1] : box[3], box[0] : box[2]]
        if not near.any():
            return 0.0
        own = patch.window(box).astype(np.uint8)
        ring = cv2.dilate(own, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) - own
        touching = (ring > 0) & near
        return float(np.count_nonzero(touching)) / reach / max(1, y1 - y0)


@dataclass(frozen=True, slots=True, eq=False)
class Footprint:
    """One sighting of a track.

    Attributes:
        time_s: Media time.
        own: The silhouette and the loose pieces around it.
        changed: What else differs from the plate there, in the same window: others, and shadows.
        usable: Not merged with another object.
    """

    time_s: float
    own: PatchMask
    changed: Mask
    usable: bool


@dataclass(frozen=True, slots=True, eq=False)
class PackedFootprint:
    """A footprint as it waits for the end of its track: a bit a pixel.

    A byte a pixel is 20 MB for a dozen people on a small picture, the largest part of what comes and goes.

    Attributes:
        time_s: As the footprint's.
    """

    time_s: float
    _corner_xy: tuple[int, int]
    _shape: tuple[int, ...]
    _bits: NDArray[np.uint8]
    _usable: bool

    @classmethod
    def of(cls, step: Footprint) -> PackedFootprint:
        """Packs one."""
        bits = np.packbits(np.stack([step.own.mask, step.changed]))
        return cls(step.time_s, (step.own.x, step.own.y), step.own.mask.shape, bits, step.usable)

    def unpacked(self) -> Footprint:
        """The footprint."""
        size = int(np.prod(self._shape))
        own, changed = np.unpackbits(self._bits, count=2 * size).view(bool).reshape(2, *self._shape)
        return Footprint(self.time_s, PatchMask(*self._corner_xy, own), changed, self._usable)


def _stands(mask: Mask) -> bool:
    """Whether it is upright like a pole or full like a sign; what lies on the ground is a slanting strip."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    return height >= _UPRIGHT * width or float(mask.mean() * mask.size) >= _FULL * height * width


def _bridged(step: Footprint) -> PatchMask:
    """Gaps inside one object: what lies between its parts, side by side (a pole) or above each other (a sign)."""
    mask = step.own.mask.astype(np.uint8)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    across = _close_line(mask, (1, round(_BRIDGE_WIDTH * width) | 1))
    along = _close_line(mask, (round(_BRIDGE_HEIGHT * height) | 1, 1))
    gap = (across | along) & ~step.own.mask & ~step.changed
    return PatchMask(step.own.x, step.own.y, gap)


def _close_line(mask: NDArray[np.uint8], size: tuple[int, int]) -> Mask:
    closed: Mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones(size, np.uint8)) > 0
    return closed


def _paint(into: Mask, patch: PatchMask) -> None:
    x0, y0, x1, y1 = patch.box_xyxy
    into[y0:y1, x0:x1] |= patch.mask


def _shifted(values: Rows, dx: int, dy: int, empty: float) -> Rows:
    height, width = values.shape
    out = np.full_like(values, empty)
    rows, columns = slice(max(0, dy), min(height, height + dy)), slice(max(0, dx), min(width, width + dx))
    out[rows, columns] = values[max(0, -dy) : min(height, height - dy), max(0, -dx) : min(width, width - dx)]
    return out
