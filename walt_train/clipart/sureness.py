"""How often clips are drawn, from how sure it is that nothing hides a part of them.

What mining takes is fairly sure: confidences of a real camera lie between 0.7 and 0.96. Drawn in their proportion,
the most doubtful clip would come nearly as often as the surest. Odds tell them apart: for each clip that is not whole
there are three whole ones at 0.75, and nineteen at 0.95. From the threshold on, at which 97% of other cameras' clips
were whole, more sureness gains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from walt_train.mining.confidence import package_coefficients

ALWAYS = 1 << 16
"""The weight of a clip that is surest, and of one of which nobody said how sure it is."""
_OBJECTS = 24
_OBJECTS_SHARE = 2 / 3
_SOFTER = 3


def drawing_weights(confidences: Sequence[float | None], objects: Sequence[int]) -> tuple[int, ...]:
    """How often each clip is drawn against the others, 1..65,536.

    Where that would leave a composite too few objects to choose from, the differences are made softer, root by root,
    and at last nothing: the draws stay as good as even ones of 24 objects, or of two thirds of fewer.

    Args:
        confidences: Calibrated, 0..1; None where nobody said.
        objects: The physical object that each shows.
    """
    if all(confidence is None for confidence in confidences):
        return (ALWAYS,) * len(confidences)
    most = _odds(package_coefficients().threshold)
    weights = np.array([1.0 if one is None else min(1.0, _odds(one) / most) for one in confidences])
    enough = min(_OBJECTS, _OBJECTS_SHARE * len(set(objects)))
    for _ in range(_SOFTER):
        if _effective(weights, objects) >= enough:
            return tuple(max(1, round(weight * ALWAYS)) for weight in weights.tolist())
        weights = np.sqrt(weights)  # exact to the last bit on every machine, as powers are not
    return (ALWAYS,) * len(confidences)


def _odds(confidence: float) -> float:
    return confidence / (1 - confidence) if confidence < 1 else math.inf


def _effective(weights: NDArray[np.float64], objects: Sequence[int]) -> float:
    """As how many evenly drawn objects they are worth (Kish 1965); an object is drawn, then one of its views."""
    _, place = np.unique(np.array(objects), return_inverse=True)
    means = np.bincount(place, weights) / np.bincount(place)
    return float(means.sum() ** 2 / max(float((means**2).sum()), 1e-12))
