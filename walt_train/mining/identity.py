"""Which clips of an archive show the same physical object.

A track is one object. Tracks are joined where one ends and another goes on in its direction within seconds and looks
the same; and where they stood at one place, over gaps, recordings and days, for as long as what stands there looks
the same. Looks are compared without any network: a histogram of colours, and the outlines' overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.contract.messages import CropHeader
from walt_edge.watching.tracking import iou_matrix
from walt_train.mining.recordings import Trail
from walt_train.mining.stationary import FOREVER_US, find_clusters

Track = tuple[str, int]
"""Boot id and track id."""

_PLACE_IOU = 0.6
_MASK_IOU = 0.6
_ALIKE_M = 0.62
"""Greatest Euclidean distance of the roots of two histograms (square root of two Bhattacharyya coefficients off)."""
_GAP_S = 4.0
_GOES_ON_IOU = 0.3
_BINS = (8, 4, 6)  # hue, saturation, brightness against the surroundings


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """How a clip looks.

    Attributes:
        looks: (D,) roots of a histogram that sums to 1.
        outline: The mask in the frame.
    """

    looks: NDArray[np.float64]
    outline: PatchMask


def describe(header: CropHeader, bgr: NDArray[np.uint8], mask: Mask, shown: Mask) -> Appearance:
    """Hue, saturation and brightness relative to what is around, so that dusk changes little.

    Args:
        header: Its record.
        bgr: (h, w, 3) the crop.
        mask: (h, w) the object.
        shown: (h, w) pixels that are not filled.
    """
    hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV).astype(np.float32)
    own, around = mask & shown, ~mask & shown
    light = float(np.median(hsv[around][:, 2])) if around.any() else 96.0
    values = hsv[own] if own.any() else hsv[mask]
    values[:, 2] = np.clip(values[:, 2] / max(light, 8.0) / 2.5, 0, 0.999)
    values[values[:, 1] < 40, 0] = 0.0  # the hue of grey is noise
    histogram, _ = np.histogramdd(values, bins=_BINS, range=((0.0, 180.0), (0.0, 256.0), (0.0, 1.0)))
    smooth = cv2.GaussianBlur(histogram.reshape(_BINS[0] * _BINS[1], _BINS[2]), (3, 1), 0.6)
    looks = np.sqrt(smooth.ravel() / max(1.0, float(smooth.sum())))
    return Appearance(looks, PatchMask(*header.crop_xy, mask))


def physical_objects(
    headers: Sequence[CropHeader], appearances: Sequence[Appearance], trails: Mapping[Track, Trail]
) -> list[int]:
    """A number for each clip's physical object, from 1 by the time it was first seen."""
    groups = _Groups(len(headers))
    first: dict[Track, int] = {}
    for place, header in enumerate(headers):
        groups.join(place, first.setdefault((header.captured.boot_id, header.track_id), place))
    _join_resumed(first, appearances, trails, headers, groups)
    _join_standing(headers, appearances, groups)
    order = sorted(range(len(headers)), key=lambda place: (headers[place].captured.utc_us, place))
    numbers: dict[int, int] = {}
    for place in order:
        numbers.setdefault(groups.root(place), len(numbers) + 1)
    return [numbers[groups.root(place)] for place in range(len(headers))]


class _Groups:
    """Disjoint sets (Galler and Fischer 1964)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, place: int) -> int:
        while self._parent[place] != place:
            self._parent[place] = self._parent[self._parent[place]]
            place = self._parent[place]
        return place

    def join(self, one: int, other: int) -> None:
        self._parent[self.root(one)] = self.root(other)


def alike(one: Appearance, other: Appearance) -> bool:
    """Whether two clips may show the same object by their colours."""
    return float(np.linalg.norm(one.looks - other.looks)) <= _ALIKE_M


def _join_resumed(
    first: Mapping[Track, int],
    appearances: Sequence[Appearance],
    trails: Mapping[Track, Trail],
    headers: Sequence[CropHeader],
    groups: _Groups,
) -> None:
    """Joins tracks that go on where another was lost."""
    tracks = sorted((track for track in first if track in trails), key=lambda track: trails[track].first_s)
    for place, late in enumerate(tracks):
        for early in tracks[:place]:
            same_kind = headers[first[early]].label is headers[first[late]].label
            follows = early[0] == late[0] and same_kind and _goes_on(trails[early], trails[late])
            if follows and alike(appearances[first[early]], appearances[first[late]]):
                groups.join(first[late], first[early])


def _goes_on(early: Trail, late: Trail) -> bool:
    gap_s = late.first_s - early.last_s
    if not 0 < gap_s <= _GAP_S:
        return False
    shift = np.array([*early.speed_xy, *early.speed_xy]) * gap_s
    expected = np.array([early.last_xyxy]) + shift
    return bool(iou_matrix(expected, np.array([late.first_xyxy]))[0, 0] >= _GOES_ON_IOU)


def _join_standing(headers: Sequence[CropHeader], appearances: Sequence[Appearance], groups: _Groups) -> None:
    """Joins what stood at one place and looks the same."""
    still = [place for place, header in enumerate(headers) if header.stationary_us is not None]
    if not still:
        return
    clusters = find_clusters(
        np.array([headers[place].box_xyxy for place in still]),
        np.array([int(headers[place].label) for place in still]),
        np.array([headers[place].captured.utc_us for place in still]),
        iou_min=_PLACE_IOU,
        still_us=0,
        absence_us=FOREVER_US,
        members_min=2,
        appearance=np.stack([appearances[place].looks for place in still]),
        appearance_max=_ALIKE_M,
    )
    for cluster in clusters:
        members = [still[row] for row in cluster.members.tolist()]
        for one, other in itertools.pairwise(members):
            if appearances[one].outline.iou(appearances[other].outline) >= _MASK_IOU:
                groups.join(other, one)
