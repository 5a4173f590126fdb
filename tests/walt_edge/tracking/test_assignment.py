from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from walt_edge.tracking.assignment import assign

_GAINS = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=7),
    elements=st.one_of(st.integers(-2, 4).map(float), st.floats(-1, 8, width=16)),
)


@given(_GAINS)
def test_pairs_are_one_to_one_wanted_and_worth_the_most(gains: NDArray[np.float64]) -> None:
    pairs = assign(gains)
    wanted = np.maximum(gains, 0)
    rows, columns = linear_sum_assignment(wanted, maximize=True)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(gains[pair] > 0 for pair in pairs)
    assert np.isclose(sum(gains[pair] for pair in pairs), wanted[rows, columns].sum())


def test_the_best_first_would_lose_a_pair() -> None:
    assert assign(np.array([[5.0, 4.0], [4.0, 0.0]])) == [(0, 1), (1, 0)]


def test_a_large_matrix_is_solved() -> None:
    gains = np.random.default_rng(3).random((60, 90))
    rows, columns = linear_sum_assignment(gains, maximize=True)
    assert np.isclose(sum(gains[pair] for pair in assign(gains)), gains[rows, columns].sum())
