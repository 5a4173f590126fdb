"""Reliability, calibration error and Brier score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.walt_train.metrics.boards import PERSON, found, truth
from walt_edge.contract.errors import UsageError
from walt_train.metrics.calibration import ScoreCalibration, brier, calibration, ece, reliability_bins


def test_by_hand() -> None:
    said, true = np.array([0.1, 0.1, 0.9, 1.0]), np.array([False, True, True, True])
    bins = reliability_bins(said, true, bins=2)
    assert [(each.low, each.high, each.count, each.accuracy) for each in bins] == [(0, 0.5, 2, 0.5), (0.5, 1, 2, 1)]
    assert [each.confidence for each in bins] == pytest.approx([0.1, 0.95])
    assert ece(bins) == pytest.approx((2 * 0.4 + 2 * 0.05) / 4)
    assert brier(said, true) == pytest.approx((0.01 + 0.81 + 0.01 + 0) / 4)


def test_who_means_what_they_say_has_no_error() -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(size=100_000)
    honest = calibration(said, rng.uniform(size=said.size) < said)
    assert honest.ece is not None
    assert honest.ece < 0.01
    boaster = calibration(np.sqrt(said), rng.uniform(size=said.size) < said)
    assert (boaster.ece or 0) == pytest.approx(2 / 3 - 1 / 2, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=50), st.integers(1, 20))
def test_bins_hold_everything_once(pairs: list[tuple[float, float]], bins: int) -> None:
    said, true = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    outcome = calibration(said, true, bins=bins)
    assert sum(each.count for each in outcome.bins) == outcome.count == len(pairs)
    assert all(each.low <= (each.confidence or 0) <= each.high + 1e-9 for each in outcome.bins if each.count)
    if not pairs:
        assert (outcome.ece, outcome.brier) == (None, None)


@pytest.mark.parametrize(
    ("said", "true", "message"),
    [([1.5], [1], "probability"), ([0.5], [np.nan], "outcome"), ([0.5], [], "one of each")],
)
def test_bad_numbers(said: list[float], true: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        reliability_bins(np.array(said), np.array(true))


def test_scores_of_detections() -> None:
    scores = ScoreCalibration()
    frame = truth((PERSON, (0, 0, 40, 40)), (PERSON, (100, 0, 120, 20)))  # the second is too small to count
    guesses = [(PERSON, (0, 0, 40, 40)), (PERSON, (0, 0, 40, 41)), (PERSON, (100, 0, 120, 20))]
    scores.add(found(*guesses, scores=[0.95, 0.45, 0.85]), frame)
    outcome = scores.result()
    assert [(each.low, each.accuracy) for each in outcome.bins if each.count] == [(0.4, 0.0), (0.9, 1.0)]
