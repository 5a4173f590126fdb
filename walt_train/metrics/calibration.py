"""Whether a probability means what it says: reliability diagrams, expected calibration error and Brier score.

Of all that was said with probability p, a share of p should come true. Bins have equal width, as in Guo et al. 2017,
"On Calibration of Modern Neural Networks", section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError
from walt_edge.contract.instances import AmodalInstances
from walt_train.data.sample import AmodalSample
from walt_train.metrics.matching import Truth, judge

BINS = 10
RIGHT_IOU = 0.5
"""A detection is right from this box IoU on."""


class ReliabilityBin(msgspec.Struct, frozen=True):
    """What was said with probabilities from `low` up to `high`, which belongs to the last bin only.

    Attributes:
        low: Least probability.
        high: Greatest.
        count: How many were said.
        confidence: Their mean; None where there are none.
        accuracy: Which share came true.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class Calibration(msgspec.Struct, frozen=True):
    """How far probabilities can be believed.

    Attributes:
        count: How many were judged.
        ece: Expected calibration error, 0..1; None where there are none.
        brier: Mean squared error, 0..1.
        bins: The reliability diagram.
    """

    count: int
    ece: float | None
    brier: float | None
    bins: tuple[ReliabilityBin, ...]


def reliability_bins(
    probabilities: NDArray[np.floating], outcomes: NDArray[np.bool_] | NDArray[np.floating], *, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """The reliability diagram.

    Args:
        probabilities: (N,) 0..1.
        outcomes: (N,) whether it came true, or to which part, 0..1.
        bins: How many of equal width.

    Raises:
        UsageError: The lengths differ, or a number is not within 0..1.
    """
    said, true = _checked(probabilities, outcomes)
    place = np.minimum((said * bins).astype(np.intp), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (said, true)]
    edges = np.linspace(0, 1, bins + 1).round(12).tolist()
    return tuple(
        ReliabilityBin(low, high, count, said_sum / count if count else None, true_sum / count if count else None)
        for (low, high), count, said_sum, true_sum in zip(
            pairwise(edges), counts.tolist(), sums[0].tolist(), sums[1].tolist(), strict=True
        )
    )


def ece(bins: Sequence[ReliabilityBin]) -> float | None:
    """Expected calibration error: mean of |confidence - accuracy| over what was said, 0..1; None for nothing."""
    total = sum(each.count for each in bins)
    gaps = (each.count * abs((each.confidence or 0.0) - (each.accuracy or 0.0)) for each in bins)
    return sum(gaps) / total if total else None


def brier(probabilities: NDArray[np.floating], outcomes: NDArray[np.bool_] | NDArray[np.floating]) -> float | None:
    """Mean squared difference (Brier 1950), 0..1; None for nothing; raises UsageError as `reliability_bins`."""
    said, true = _checked(probabilities, outcomes)
    return float(np.mean((said - true) ** 2)) if said.size else None


def calibration(
    probabilities: NDArray[np.floating], outcomes: NDArray[np.bool_] | NDArray[np.floating], *, bins: int = BINS
) -> Calibration:
    """All three; raises UsageError as `reliability_bins` does.

    Mask probabilities are judged in the same way: give the pixels' probabilities, and the truth's pixels.
    """
    diagram = reliability_bins(probabilities, outcomes, bins=bins)
    return Calibration(len(probabilities), ece(diagram), brier(probabilities, outcomes), diagram)


class ScoreCalibration:
    """Collects, frame by frame, whether scores tell how often detections are right.

    A detection is right if it finds an object of its class with a box IoU of at least `RIGHT_IOU`, the surest first.
    One that finds what does not count (too small, too hidden) is neither right nor wrong.
    """

    def __init__(self) -> None:
        self._scores: list[float] = []
        self._right: list[bool] = []

    def add(self, found: AmodalInstances, sample: AmodalSample) -> None:
        """Looks at one frame."""
        for index, right in judge(found, Truth.of(sample), RIGHT_IOU):
            self._scores.append(float(found.scores[index]))
            self._right.append(right)

    def result(self) -> Calibration:
        """What was found in all frames."""
        return calibration(np.array(self._scores, np.float64), np.array(self._right, bool))


def _checked(
    probabilities: NDArray[np.floating], outcomes: NDArray[np.bool_] | NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    said, true = np.asarray(probabilities, np.float64), np.asarray(outcomes, np.float64)
    if said.shape != true.shape or said.ndim != 1:
        raise UsageError(f"probabilities {said.shape} with outcomes {true.shape}: give one of each, in one row")
    for name, values in (("a probability", said), ("an outcome", true)):
        if not ((values >= 0) & (values <= 1)).all():
            raise UsageError(f"{name} is not within 0..1: they run from {values.min()} to {values.max()}")
    return said, true
