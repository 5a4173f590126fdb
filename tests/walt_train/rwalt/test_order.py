from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_train.rwalt.order import Standing, depth_ranks, rectangle

EYE = np.array([0.0, -20.0])
BOX = (0, 0, 100, 100)


def thing(
    x: float, y: float, length: float = 1.0, width: float = 1.0, heading: float = 0.0, bottom: float = 0.0
) -> Standing:
    return Standing(rectangle(x, y, heading, length, width), bottom, bottom + 1.5, BOX)


@pytest.mark.parametrize(
    ("things", "ranks"),
    [
        ([thing(0, 0), thing(0, 3)], [0, 1]),
        ([thing(0, 3), thing(0, 0)], [1, 0]),
        # The bus's nearest corner is farther than the car, yet its side lies before it.
        ([thing(9, 2, length=1), thing(0, 0, length=14, width=2.5)], [1, 0]),
        # A crown above a person hides, though its trunk stands behind.
        ([thing(0, 0), thing(0, 0.4, length=3, width=3, bottom=2.5)], [1, 0]),
        ([], []),
    ],
)
def test_ranks(things: list[Standing], ranks: list[int]) -> None:
    assert depth_ranks(things, EYE) == ranks


def test_a_cycle_is_cut() -> None:
    bars = [thing(3 * np.cos(a), 3 * np.sin(a), 9, 0.5, a + 1.9) for a in (0.0, 2.09, 4.19)]
    assert sorted(depth_ranks(bars, EYE)) == [0, 1, 2]


@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(0, 20), st.floats(0, 6.3)), max_size=8))
def test_ranks_are_strict(places: list[tuple[float, float, float]]) -> None:
    ranks = depth_ranks([thing(x, y, 4.5, 1.8, heading) for x, y, heading in places], EYE)
    assert sorted(ranks) == list(range(len(places)))
