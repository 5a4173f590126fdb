"""How far a confidence can be trusted: reliability diagram, precision and recall per physical object, thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_train.metrics import calibration

_Z95 = 1.959964
_SIDE_PX, _MARGIN_PX = 360, 46
_INK, _PALE, _BAR = (40, 40, 40), (205, 205, 205), (190, 130, 60)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Interval(NamedTuple):
    """A 95% interval of a share, 0..1."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Claims of like confidence.

    Attributes:
        count: How many.
        confidence: Their mean confidence.
        share: How many of them are true, 0..1.
        interval: Of the share.
    """

    count: int
    confidence: float
    share: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram in figures.

    Attributes:
        bins: Those that are not empty, from unsure to sure.
        ece: Expected calibration error (Naeini et al. 2015): mean distance of share and confidence over the claims.
        brier: Mean squared distance of confidence and truth (Brier 1950).
    """

    bins: tuple[Bin, ...]
    ece: float
    brier: float


@dataclass(frozen=True, slots=True)
class Operating:
    """What a threshold gives.

    Attributes:
        threshold: Claims of at least this confidence are taken.
        taken: How many are.
        right: How many of them are true.
        recall: True ones among them, of all objects that were ever whole.
    """

    threshold: float
    taken: int
    right: int
    recall: float

    @property
    def precision(self) -> float:
        """Right of taken; 0 where nothing is."""
        return self.right / self.taken if self.taken else 0.0

    @property
    def interval(self) -> Interval:
        """Of the precision."""
        return wilson(self.right, self.taken)


def wilson(right: int, count: int) -> Interval:
    """95% score interval of a share (Wilson 1927); 0..1 where nothing was counted."""
    if count == 0:
        return Interval(0.0, 1.0)
    share, z2 = right / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def reliability(confidences: Floats, truths: Bools, *, bins: int = 10) -> Reliability:
    """Figures of a reliability diagram over bins of equal width.

    Args:
        confidences: (N,) 0..1.
        truths: (N,) whether each claim is true.
        bins: How many.
    """
    diagram = calibration.reliability_bins(confidences, truths, bins=bins)
    found = [
        Bin(one.count, one.confidence, one.accuracy, wilson(round(one.accuracy * one.count), one.count))
        for one in diagram
        if one.confidence is not None and one.accuracy is not None
    ]
    return Reliability(tuple(found), calibration.ece(diagram) or 0.0, calibration.brier(confidences, truths) or 0.0)


def operate(confidences: Floats, truths: Bools, possible: int, threshold: float) -> Operating:
    """Precision and recall at a threshold; `possible` is the number of objects that were ever whole."""
    taken = confidences >= threshold
    right = int((taken & truths).sum())
    return Operating(threshold, int(taken.sum()), right, right / max(1, possible))


def curve(confidences: Floats, truths: Bools, possible: int) -> list[Operating]:
    """One point for each confidence that occurs, from the strictest down."""
    return [operate(confidences, truths, possible, float(level)) for level in np.unique(confidences)[::-1]]


def threshold_for_precision(confidences: Floats, truths: Bools, precision: float) -> float:
    """The loosest threshold at which so many of those taken are right; 1 where none is."""
    points = curve(confidences, truths, 1)
    return min((point.threshold for point in points if point.precision >= precision), default=1.0)


def draw(figures: Reliability, points: Sequence[Operating]) -> NDArray[np.uint8]:
    """(H, W, 3) BGR: the reliability diagram with its intervals, and precision over recall beside it."""
    left, right = _axes("confidence", "whole"), _axes("recall", "precision")
    cv2.line(left, _at(0, 0), _at(1, 1), _PALE, 1, cv2.LINE_AA)
    largest = max((one.count for one in figures.bins), default=1)
    for one in figures.bins:
        x = one.confidence
        cv2.line(left, _at(x, one.interval.low), _at(x, one.interval.high), _BAR, 2, cv2.LINE_AA)
        cv2.circle(left, _at(x, one.share), 3 + round(5 * one.count / largest), _BAR, -1, cv2.LINE_AA)
    _write(left, f"ECE {figures.ece:.3f}  Brier {figures.brier:.3f}", (_MARGIN_PX + 8, _MARGIN_PX // 2))
    line = np.array([_at(point.recall, point.precision) for point in points], np.int32).reshape(-1, 1, 2)
    cv2.polylines(right, [line], isClosed=False, color=_BAR, thickness=2, lineType=cv2.LINE_AA)
    return np.hstack([left, right])


def _axes(across: str, up: str) -> NDArray[np.uint8]:
    side = _SIDE_PX + 2 * _MARGIN_PX
    image = np.full((side, side, 3), 255, np.uint8)
    for tick in range(0, 11, 2):
        cv2.line(image, _at(tick / 10, 0), _at(tick / 10, 1), (238, 238, 238), 1)
        cv2.line(image, _at(0, tick / 10), _at(1, tick / 10), (238, 238, 238), 1)
        x, y = _at(tick / 10, 0)
        _write(image, f"{tick / 10:g}", (x - 8, y + 16))
        x, y = _at(0, tick / 10)
        _write(image, f"{tick / 10:g}", (x - 28, y + 4))
    cv2.rectangle(image, _at(0, 0), _at(1, 1), _INK, 1)
    _write(image, across, (side // 2 - 30, side - 10))
    _write(image, up, (4, _MARGIN_PX - 12))
    return image


def _at(x: float, y: float) -> tuple[int, int]:
    return round(_MARGIN_PX + x * _SIDE_PX), round(_MARGIN_PX + (1 - y) * _SIDE_PX)


def _write(image: NDArray[np.uint8], text: str, place_xy: tuple[int, int]) -> None:
    cv2.putText(image, text, place_xy, cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
