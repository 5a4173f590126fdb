"""Fits the calibrated confidence (`walt_train.mining.confidence`) to views whose truth is known.

Two steps. The weights come from every view, each object counting once; then the slope and the bias are set on the
one view of each object that would be taken, for taking the surest of several views is itself a choice that flatters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from walt_train.mining.confidence import Coefficients, doubt

Floats = NDArray[np.float64]
_RIDGE = 0.02


@dataclass(frozen=True, slots=True)
class Example:
    """A view whose truth is known.

    Attributes:
        camera: Where it was taken.
        object: The physical object, of that camera.
        parts: `walt_train.mining.confidence.evidence`.
        whole: The truth.
    """

    camera: str
    object: int
    parts: Mapping[str, float]
    whole: bool


def fit(examples: Sequence[Example]) -> Coefficients:
    """Weights of at least 0, ridge-regularised, by maximum likelihood; the threshold is left at one half."""
    names = sorted({name for one in examples for name in one.parts})
    doubts = np.array([[doubt(one.parts.get(name, 1.0)) for name in names] for one in examples])
    truths = np.array([one.whole for one in examples], float)
    keys = [(one.camera, one.object) for one in examples]
    counts = Counter(keys)
    shares = np.array([1 / counts[key] for key in keys])
    bias, weights = _logistic(doubts, truths, shares)
    odds = bias - doubts @ weights
    best = _surest(keys, odds)
    level, slope = _logistic(-odds[best, None], truths[best], np.ones(len(best)))
    return Coefficients(
        bias=round(float(level + slope[0] * bias), 4),
        weights={name: round(float(slope[0] * w), 4) for name, w in zip(names, weights, strict=True) if w > 1e-4},
        threshold=0.5,
        objects=len(best),
    )


def _surest(keys: Sequence[tuple[str, int]], odds: Floats) -> list[int]:
    """Of each object the first of its surest views."""
    best: dict[tuple[str, int], int] = {}
    for index, key in enumerate(keys):
        if key not in best or odds[index] > odds[best[key]]:
            best[key] = index
    return list(best.values())


def _logistic(doubts: Floats, truths: Floats, shares: Floats) -> tuple[float, Floats]:
    """Bias and weights >= 0 of P(true) = 1 / (1 + exp(-(bias - doubts @ weights)))."""

    def loss(values: Floats) -> tuple[float, Floats]:
        odds = values[0] - doubts @ values[1:]
        wrong = 1 / (1 + np.exp(-odds)) - truths
        cost = float(shares @ (np.logaddexp(0, odds) - truths * odds)) + _RIDGE * float(values[1:] @ values[1:])
        pull = shares * wrong
        return cost, np.concatenate([[pull.sum()], -doubts.T @ pull + 2 * _RIDGE * values[1:]])

    start = np.concatenate([[1.0], np.full(doubts.shape[1], 0.5)])
    bounds = [(None, None)] + [(0.0, None)] * doubts.shape[1]
    found: Floats = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(found[0]), found[1:]


def across_cameras(
    examples: Sequence[Example], learn: Callable[[Sequence[Example]], Callable[[Example], float]]
) -> Floats:
    """(N,) the confidence of each example by what was learned on all other cameras."""
    confidences = np.zeros(len(examples))
    for camera in sorted({one.camera for one in examples}):
        model = learn([one for one in examples if one.camera != camera])
        for index, one in enumerate(examples):
            if one.camera == camera:
                confidences[index] = model(one)
    return confidences


def isotonic(scores: Floats, truths: Floats) -> Callable[[float], float]:
    """The monotone step function nearest to the truths (pool adjacent violators): the alternative to compare with."""
    order = np.argsort(scores, kind="stable")
    blocks: list[tuple[float, float, int]] = []  # (lowest score, sum of truths, count)
    for score, truth in zip(scores[order].tolist(), truths[order].tolist(), strict=True):
        blocks.append((score, truth, 1))
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][2] >= blocks[-1][1] * blocks[-2][2]:
            _, total, count = blocks.pop()
            low, before, number = blocks.pop()
            blocks.append((low, before + total, number + count))
    levels = np.array([low for low, _, _ in blocks])
    values = np.array([total / count for _, total, count in blocks])
    return lambda score: float(values[max(0, int(np.searchsorted(levels, score, side="right")) - 1)])
