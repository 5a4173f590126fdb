"""Optimal one-to-one assignment of small sparse matrices, without SciPy on the device.

Most pairs are nobody else's choice and are taken at once; what is left is solved by shortest augmenting paths, row by
row (Kuhn 1955, Munkres 1957, in the form of Jonker and Volgenant 1987), in O(n^3) with one numpy call for each step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def assign(gains: Floats) -> list[tuple[int, int]]:
    """The pairs (row, column), one to one, whose gains add up to the most; rows ascend.

    Args:
        gains: (N, M) finite; a pair is wanted where its gain is above 0 and never taken elsewhere.
    """
    wanted = gains > 0
    rows, columns = np.nonzero(wanted)
    alone = (wanted.sum(axis=1)[rows] == 1) & (wanted.sum(axis=0)[columns] == 1)
    pairs = list(zip(rows[alone].tolist(), columns[alone].tolist(), strict=True))
    if not alone.all():
        some_rows, some_columns = np.unique(rows[~alone]), np.unique(columns[~alone])
        part = np.maximum(gains[np.ix_(some_rows, some_columns)], 0)
        pairs += [(int(some_rows[i]), int(some_columns[j])) for i, j in _dense(part) if part[i, j] > 0]
    return sorted(pairs)


def _dense(gains: Floats) -> list[tuple[int, int]]:
    """All rows (or all columns, where there are fewer) are given one; a pair of gain 0 stands for nobody."""
    if gains.shape[0] > gains.shape[1]:
        return [(row, column) for column, row in _dense(gains.T)]
    count, width = gains.shape
    row_price, column_price = np.zeros(count), np.zeros(width + 1)
    # The last column is the root of each search: whoever is to be placed next stands there.
    owner = np.full(width + 1, -1)
    for row in range(count):
        owner[width] = row
        _augment(-gains, row_price, column_price, owner)
    return [(int(owner[column]), column) for column in range(width) if owner[column] >= 0]


def _augment(costs: Floats, row_price: Floats, column_price: Floats, owner: NDArray[np.int64]) -> None:
    """Finds the cheapest path from the root to a free column and moves everybody on it by one."""
    width = costs.shape[1]
    least, before = np.full(width, np.inf), np.full(width, width)
    done = np.zeros(width + 1, bool)
    at = width
    while owner[at] >= 0:
        done[at] = True
        row = owner[at]
        reduced = costs[row] - row_price[row] - column_price[:width]
        nearer = ~done[:width] & (reduced < least)
        least[nearer], before[nearer] = reduced[nearer], at
        nearest = int(np.argmin(np.where(done[:width], np.inf, least)))
        step = least[nearest]
        row_price[owner[done]] += step
        column_price[done] -= step
        least[~done[:width]] -= step
        at = nearest
    while at != width:
        owner[at] = owner[before[at]]
        at = int(before[at])
