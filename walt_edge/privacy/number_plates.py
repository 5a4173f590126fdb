"""Where a vehicle may show its number plate: by texture and geometry, on the careful side.

Signs on a plate are dark, bright, dark, bright along a row, many times within a plate's width; lamps, grilles and
edges of the body are so once or twice. Windows of a plate's proportions are laid over the lower part of a
vehicle's silhouette in several sizes and score by how strongly and how often rows change in them. The best are
filled, a plate or not, as far as the texture goes on: where nothing changes there is nothing to read. What a vehicle
loses by that is bounded. No plate is filled of vehicles that were in the background from the beginning: nobody knows
of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.sightings import Sighting

WIDTH_MIN_PX = 120  # of the vehicle's box: below, a plate's signs are too small to be read
BEGINS = 0.3  # of the box's height: plates are below
WIDTHS = (0.14, 0.2, 0.28)  # of a plate, as parts of the vehicle's width: aslant and far to head on
ASPECT = 4.0  # of a window: of a plate in one line; of one in two it covers each line
PLACES = 3  # of each size
SCORE_MIN = 0.12  # of a window whose rows change by 4 grey levels once in 17 pixels: nobody reads that
AS_GOOD = 0.6  # of the best score: what comes so near to it may be the plate as well
SHARE_MAX = 0.1  # of the silhouette: what may be filled in all
_LEVELS = 4.0  # grey levels: less is noise
_GOES_ON = 0.3  # of a window's texture: what is as rough beside it is of the same plate
_BESIDE = (0.8, 0.7)  # of a window's sides: so far it is looked at
_RIM = 0.03  # of the width: the edge of the silhouette itself is no sign
_MARGIN = (0.5, 0.3)  # of a window's height, to the sides and up and down: the last sign, and a plate that is aslant

_Box = tuple[int, int, int, int]
"""Half-open xyxy."""


def number_plates(bgr: NDArray[np.uint8], sighting: Sighting) -> list[PatchMask]:
    """What to fill of a sighting so that its number plate cannot be read; empty for people and what is small.

    Args:
        bgr: (H, W, 3) the frame.
        sighting: Anything in it.
    """
    if sighting.label is Label.PERSON:
        return []
    tight = _inside(sighting.silhouette, bgr.shape)
    if tight.mask.shape[1] <= WIDTH_MIN_PX:
        return []
    x0, y0, x1, y1 = tight.box_xyxy
    grey = cv2.cvtColor(bgr[y0:y1, x0:x1], cv2.COLOR_BGR2GRAY).astype(np.float32)
    return [
        PatchMask(x0 + left, y0 + top, np.ones((bottom - top, right - left), bool))
        for left, top, right, bottom in _chosen(grey, tight.mask)
    ]


def _inside(silhouette: PatchMask, shape: tuple[int, ...]) -> PatchMask:
    x0, y0, x1, y1 = silhouette.box_xyxy
    box = (max(0, x0), max(0, y0), min(shape[1], x1), min(shape[0], y1))
    return PatchMask(box[0], box[1], silhouette.window(box)).tight()


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """A place for a plate: how much it looks like one, and its roughness there and around."""

    score: float
    box: _Box
    rough: NDArray[np.float32]

    def covers(self, other: _Window) -> bool:
        """Whether most of another lies in it."""
        x0, y0, x1, y1 = self.box
        u0, v0, u1, v1 = other.box
        common = max(0, min(x1, u1) - max(x0, u0)) * max(0, min(y1, v1) - max(y0, v0))
        return common > 0.5 * (u1 - u0) * (v1 - v0)


def _chosen(grey: NDArray[np.float32], mask: Mask) -> list[_Box]:
    """What to fill, best first."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((2 * round(_RIM * mask.shape[1]) + 1,) * 2, np.uint8))
    inner[: round(BEGINS * len(mask))] = 0
    windows = sorted((w for part in WIDTHS for w in _best(grey, inner, part)), key=lambda w: -w.score)
    left = SHARE_MAX * np.count_nonzero(mask)
    chosen: list[_Window] = []
    for window in windows:
        if window.score < max(SCORE_MIN, AS_GOOD * windows[0].score) or any(one.covers(window) for one in chosen):
            continue
        if len(chosen) == PLACES:
            break
        chosen.append(window)
    boxes: list[_Box] = []
    for window in chosen:
        box = _extended(window)
        left -= (box[2] - box[0]) * (box[3] - box[1])
        if left < 0 and boxes:
            break
        boxes.append(box)
    return boxes


def _best(grey: NDArray[np.float32], inner: NDArray[np.uint8], part: float) -> Iterator[_Window]:
    """The best places for a plate of one size."""
    height, width = grey.shape
    w = max(9, round(part * width))
    h = max(3, round(w / ASPECT))
    detail = grey - cv2.blur(grey, (h | 1, 1))
    rough = np.abs(detail)
    sign = (detail > _LEVELS).astype(np.int8) - (detail < -_LEVELS)
    changes = np.zeros((height, width), np.float32)
    changes[:, 2:] = sign[:, 2:] * sign[:, :-2] < 0
    often, strong = (cv2.blur(each, (w, h), borderType=cv2.BORDER_CONSTANT) for each in (changes, rough))
    score = np.sqrt(strong) * often * inner
    for _ in range(PLACES):
        _, best, _, (x, y) = cv2.minMaxLoc(score)
        box = (max(0, x - w // 2), max(0, y - h // 2), min(width, x + w // 2 + 1), min(height, y + h // 2 + 1))
        yield _Window(float(best), box, rough)
        score[max(0, y - h) : y + h + 1, max(0, x - w // 2) : x + w // 2 + 1] = 0.0


def _extended(window: _Window) -> _Box:
    """The window as far as its texture goes on beside it, with a margin."""
    x0, y0, x1, y1 = window.box
    height, width = window.rough.shape
    w, h = x1 - x0, y1 - y0
    left, right = max(0, x0 - round(_BESIDE[0] * w)), min(width, x1 + round(_BESIDE[0] * w))
    top, bottom = max(0, y0 - round(_BESIDE[1] * h)), min(height, y1 + round(_BESIDE[1] * h))
    dense = cv2.blur(window.rough[top:bottom, left:right], (max(3, h), max(3, h // 2)))
    limit = _GOES_ON * float(window.rough[y0:y1, x0:x1].mean())
    like = dense > limit
    columns = _run(like[y0 - top : y1 - top].mean(axis=0) > 0.5, x0 - left, x1 - left)
    rows = _run(like[:, x0 - left : x1 - left].mean(axis=1) > 0.5, y0 - top, y1 - top)
    more_x, more_y = (1 + round(part * h) for part in _MARGIN)
    return (
        max(0, left + columns[0] - more_x),
        max(0, top + rows[0] - more_y),
        min(width, left + columns[1] + more_x),
        min(height, top + rows[1] + more_y),
    )


def _run(along: NDArray[np.bool_], begin: int, end: int) -> tuple[int, int]:
    """A stretch, extended on both sides for as long as it goes on."""
    while begin > 0 and along[begin - 1]:
        begin -= 1
    while end < len(along) and along[end]:
        end += 1
    return begin, end
