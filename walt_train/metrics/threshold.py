"""The one score from which on a model is believed, fixed on validation data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_train.data.sample import AmodalSample
from walt_train.metrics.matching import Truth, judge

FALLBACK = 0.5
"""Where nothing is found at any threshold, or there is nothing to find, the data says nothing about scores."""
NEARLY = 0.97
"""Share of the best F1 that is given up for objects that are harder than those of validation."""
FEW = 200
"""Objects from which on the best F1 is no accident; below, what draws of the frames say counts."""
_HIT_IOU = 0.5
_DRAWS = 101
_SEED = 0


class _Frame(NamedTuple):
    """What was found in a frame: scores and hits, surest first, and how many objects there were to find."""

    scores: tuple[float, ...]
    hits: tuple[bool, ...]
    wanted: int


def choose_threshold(frames: Iterable[tuple[AmodalInstances, AmodalSample]]) -> float:
    """The lowest score threshold whose F1 at box IoU 0.5, class-aware, is nearly the best.

    What validates is easier than what the camera will show: composites of objects that were seen whole, of a few
    objects only. Scores fall there, so of thresholds that are nearly equal here the one that finds most is meant.

    As in COCO, the surest prediction chooses first, the object of its class that it covers best; so the hits at any
    threshold are the first of one list. Objects that the metric does not count (too small, too hidden) neither reward
    nor punish who finds them.

    With few objects the F1 of two or three decides where its top is. There, frames are drawn anew with replacement
    many times, and the mean of the draws' thresholds is taken (bagging; Breiman 1996). Simulated with four kinds of
    detectors and 4 to 60 objects this is better than the plain rule each time: by 0.3 to 1.3 points of F1 in the
    mean, and by up to 3.3 in the worst tenth of the data sets. A fixed threshold is not: it loses 45 points where a
    network is unsure of everything, as one is that was trained briefly.

    Args:
        frames: Predictions at a low threshold, and the truth.

    Returns:
        A threshold to be used as `score >= threshold`, 0..1. It lies half way between the lowest score kept and the
        next one, so that a runtime's rounding does not move a prediction across it. `FALLBACK` where no prediction
        hits anything: no truth, no predictions, or an untrained model.
    """
    judged = sorted(_judged(found, sample) for found, sample in frames)  # whatever order they came in
    scores = np.array([score for frame in judged for score in frame.scores])
    hits = np.array([hit for frame in judged for hit in frame.hits], bool)
    wanted = np.array([frame.wanted for frame in judged])
    if not hits.any():
        return FALLBACK
    if wanted.sum() >= FEW or len(judged) == 1:
        return _best(scores, hits, np.ones(len(scores)), int(wanted.sum()))
    owner = np.repeat(np.arange(len(judged)), [len(frame.scores) for frame in judged])
    drawn = np.random.default_rng(_SEED).multinomial(len(judged), np.full(len(judged), 1 / len(judged)), size=_DRAWS)
    chosen = [_best(scores, hits, times[owner], int(times @ wanted)) for times in drawn if times[owner] @ hits]
    return float(np.mean(chosen))


def _judged(found: AmodalInstances, sample: AmodalSample) -> _Frame:
    truth = Truth.of(sample)
    judged = [(float(found.scores[index]), hit) for index, hit in judge(found, truth, _HIT_IOU)]
    scores, hits = zip(*judged, strict=True) if judged else ((), ())
    return _Frame(scores, hits, int(np.count_nonzero(truth.counted)))


def _best(scores: NDArray[np.float64], hits: NDArray[np.bool_], times: NDArray[np.floating], wanted: int) -> float:
    """The lowest threshold with `NEARLY` the best F1 = 2 hits / (kept + wanted), each score being there so often."""
    there = times > 0
    levels, place = np.unique(-scores[there], return_inverse=True)
    levels = -levels  # highest first
    kept = np.cumsum(np.bincount(place, weights=times[there], minlength=len(levels)))
    right = np.cumsum(np.bincount(place, weights=(times * hits)[there], minlength=len(levels)))
    f1 = 2 * right / (kept + wanted)
    chosen = int(np.flatnonzero(f1 >= NEARLY * f1.max())[-1])
    lower = levels[chosen + 1] if chosen + 1 < len(levels) else levels[chosen]
    return float((levels[chosen] + lower) / 2)
