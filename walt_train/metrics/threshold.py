"""The one score from which on a model is believed, fixed on validation data."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_train.data.sample import AmodalSample
from walt_train.metrics.matching import Truth, judge

FALLBACK = 0.5
"""Where nothing is found at any threshold, or there is nothing to find, the data says nothing about scores."""
NEARLY = 0.97
"""Share of the best F1 that is given up for objects that are harder than those of validation."""
_HIT_IOU = 0.5


def choose_threshold(frames: Iterable[tuple[AmodalInstances, AmodalSample]]) -> float:
    """The lowest score threshold whose F1 at box IoU 0.5, class-aware, is nearly the best.

    What validates is easier than what the camera will show: composites of objects that were seen whole, of a few
    objects only. Scores fall there, so of thresholds that are nearly equal here the one that finds most is meant.

    As in COCO, the surest prediction chooses first, the object of its class that it covers best; so the hits at any
    threshold are the first of one list. Objects that the metric does not count (too small, too hidden) neither reward
    nor punish who finds them.

    Args:
        frames: Predictions at a low threshold, and the truth.

    Returns:
        A threshold to be used as `score >= threshold`, 0..1. It lies half way between the lowest score kept and the
        next one, so that a runtime's rounding does not move a prediction across it. `FALLBACK` where no prediction
        hits anything: no truth, no predictions, or an untrained model.
    """
    scores: list[float] = []
    hits: list[bool] = []
    wanted = 0
    for found, sample in frames:
        truth = Truth.of(sample)
        wanted += int(np.count_nonzero(truth.counted))
        for index, hit in judge(found, truth, _HIT_IOU):
            scores.append(float(found.scores[index]))
            hits.append(hit)
    if not any(hits):
        return FALLBACK
    return _best(np.array(scores), np.array(hits), wanted)


def _best(scores: NDArray[np.float64], hits: NDArray[np.bool_], wanted: int) -> float:
    """The lowest threshold with `NEARLY` the best F1 = 2 hits / (kept + wanted)."""
    levels, place = np.unique(-scores, return_inverse=True)
    levels = -levels  # highest first
    kept = np.cumsum(np.bincount(place, minlength=len(levels)))
    right = np.cumsum(np.bincount(place, weights=hits, minlength=len(levels)))
    f1 = 2 * right / (kept + wanted)
    chosen = int(np.flatnonzero(f1 >= NEARLY * f1.max())[-1])
    lower = levels[chosen + 1] if chosen + 1 < len(levels) else levels[chosen]
    return float((levels[chosen] + lower) / 2)
