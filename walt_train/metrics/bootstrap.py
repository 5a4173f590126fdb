"""How sure a mean is: bootstrap by physical object.

The frames of one object are near copies of each other, so frames are no independent cases. Whole objects are drawn
with replacement, each with all its cases (cluster bootstrap; Davison and Hinkley 1997, section 3.8), and the mean is
taken over the cases drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
LEVEL = 0.95

Interval = tuple[float, float]
"""(low, high), in the unit of the values."""


def mean_intervals(
    values: NDArray[np.float64], objects: Sequence[str], seed: int, level: float = LEVEL
) -> list[Interval] | None:
    """The percentile intervals of the columns' means.

    Args:
        values: (K, D), D figures of each of K cases.
        objects: (K,) the physical object of each case.
        seed: Of the draws; the same seed gives the same interval.
        level: That an interval covers, 0..1.

    Returns:
        D intervals, or None with fewer than two objects, from which nothing can be said.
    """
    names, owner = np.unique(np.array(objects, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    counts = np.bincount(owner).astype(np.float64)
    sums = np.stack([np.bincount(owner, weights=column) for column in values.T], axis=1)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    means = (drawn @ sums) / (drawn @ counts)[:, None]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
