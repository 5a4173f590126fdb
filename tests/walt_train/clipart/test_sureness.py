from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_train.clipart.sureness import ALWAYS, drawing_weights
from walt_train.mining.confidence import package_coefficients

THRESHOLD = package_coefficients().threshold


def test_what_is_sure_enough_is_drawn_alike_and_doubt_counts_by_its_odds() -> None:
    doubtful, less = 0.8, 0.9
    confidences = [THRESHOLD, 0.99, 1.0, None, doubtful, less] + [0.97] * 60
    weights = drawing_weights(confidences, range(len(confidences)))
    assert weights[:4] == (ALWAYS,) * 4
    most = THRESHOLD / (1 - THRESHOLD)
    assert weights[4] / ALWAYS == pytest.approx(4 / most, abs=1e-4)
    assert weights[5] / weights[4] == pytest.approx(9 / 4, abs=1e-3)
    assert weights[4] / ALWAYS < 0.3, "a confidence of 0.8 is drawn far less often than its share"


def test_nobody_said_anything() -> None:
    assert drawing_weights([None, None], [1, 1]) == (ALWAYS, ALWAYS)
    assert drawing_weights([], []) == ()


def test_few_objects_are_not_starved_for_one_that_is_sure() -> None:
    weights = np.array(drawing_weights([0.96, *[0.7] * 5], range(6)))
    assert weights[0] == ALWAYS
    assert 0.35 < weights[1] / ALWAYS < 1
    assert weights.sum() ** 2 / (weights.astype(float) ** 2).sum() >= 4
    assert drawing_weights([0.96, 0.0, 0.0, 0.0], range(4)) == (ALWAYS,) * 4
    # Views of one object are one: many sure views of it do not let the others be starved.
    views = drawing_weights([*[0.96] * 30, *[0.7] * 5], [0] * 30 + [1, 2, 3, 4, 5])
    assert views[-1] == weights[-1]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9)), min_size=1, max_size=40))
def test_weights_follow_confidence_and_stay_in_range(clips: list[tuple[float, int]]) -> None:
    confidences, objects = [one for one, _ in clips], [number for _, number in clips]
    weights = drawing_weights(confidences, objects)
    assert all(1 <= weight <= ALWAYS for weight in weights)
    order = np.argsort(confidences, kind="stable")
    assert (np.diff(np.array(weights)[order]) >= 0).all()
    assert weights == drawing_weights(confidences, objects)
