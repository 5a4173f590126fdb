"""Proposal shapes that fit what one camera shows: upright people and wide vehicles, each at its own sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 30


def fit_anchors(sizes_wh: NDArray[np.float64], count: int) -> tuple[tuple[float, float], ...]:
    """Groups box sizes by k-means with 1 - IoU of centred boxes as distance (Redmon and Farhadi 2017).

    The start is spread over the sizes in order of their area: the same sizes give the same anchors.

    Args:
        sizes_wh: (N, 2) pixels of the input, above 0; N >= 1.
        count: How many groups; fewer are left where sizes coincide.

    Returns:
        Widths and heights, pixels to a tenth, smallest area first.
    """
    order = np.argsort(sizes_wh.prod(axis=1), kind="stable")
    centres = sizes_wh[order[((np.arange(count) + 0.5) * len(order) / count).astype(np.int64)]]
    for _ in range(_ROUNDS):
        nearest = _centred_iou(sizes_wh, centres).argmax(axis=1)
        moved = np.array(
            [
                np.median(sizes_wh[nearest == group], axis=0) if (nearest == group).any() else centre
                for group, centre in enumerate(centres)
            ]
        )
        if np.array_equal(moved, centres):
            break
        centres = moved
    found = sorted({(round(float(w), 1), round(float(h), 1)) for w, h in centres}, key=lambda wh: wh[0] * wh[1])
    return tuple(found)


def _centred_iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    common = np.minimum(one[:, None], other[None]).prod(axis=2)
    union = one.prod(axis=1)[:, None] + other.prod(axis=1)[None] - common
    shares: NDArray[np.float64] = common / union
    return shares
