"""Figures of trust: against cases that can be told by hand."""

from __future__ import annotations

import numpy as np
import pytest

from walt_train.mining.reliability import curve, draw, operate, reliability, threshold_for_precision, wilson


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 0, 0.0, 1.0), (10, 10, 0.722, 1.0), (0, 10, 0.0, 0.278), (50, 100, 0.404, 0.596), (985, 1000, 0.975, 0.991)],
)
def test_wilson(right: int, count: int, low: float, high: float) -> None:
    assert wilson(right, count) == pytest.approx((low, high), abs=6e-4)


def test_who_is_as_sure_as_right_has_no_error() -> None:
    confidences = np.repeat([0.25, 0.75], 4)
    found = reliability(confidences, np.array([1, 0, 0, 0, 1, 1, 1, 0], bool))
    assert found.ece == pytest.approx(0)
    assert found.brier == pytest.approx(0.1875)
    assert [(one.count, one.share) for one in found.bins] == [(4, 0.25), (4, 0.75)]


def test_who_is_always_sure_is_off_by_what_is_wrong() -> None:
    found = reliability(np.ones(10), np.arange(10) < 6)
    assert found.ece == pytest.approx(0.4)
    assert found.brier == pytest.approx(0.4)


def test_precision_and_recall_count_objects_that_gave_no_view() -> None:
    confidences, truths = np.array([0.9, 0.8, 0.7, 0.2]), np.array([True, False, True, True])
    point = operate(confidences, truths, possible=6, threshold=0.7)
    assert (point.taken, point.right) == (3, 2)
    assert point.recall == pytest.approx(1 / 3)
    assert point.precision == pytest.approx(2 / 3)
    assert [one.taken for one in curve(confidences, truths, 6)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("precision", "threshold"), [(0.9, 0.9), (0.75, 0.2), (0.7, 0.2), (0.5, 0.2)])
def test_the_loosest_threshold_that_keeps_the_precision(precision: float, threshold: float) -> None:
    confidences, truths = np.array([0.9, 0.8, 0.7, 0.2]), np.array([True, False, True, True])
    assert threshold_for_precision(confidences, truths, precision) == threshold


def test_nothing_taken_is_no_precision() -> None:
    empty = np.zeros(0)
    assert operate(empty, empty.astype(bool), 0, 0.5).precision == 0
    assert threshold_for_precision(empty, empty.astype(bool), 0.5) == 1
    assert reliability(empty, empty.astype(bool)).ece == 0


def test_the_picture_shows_the_figures() -> None:
    rng = np.random.default_rng(1)
    confidences = rng.uniform(0, 1, 300)
    truths = rng.uniform(0, 1, 300) < confidences
    picture = draw(reliability(confidences, truths), curve(confidences, truths, 300))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[1] == 2 * picture.shape[0]
    bare = draw(reliability(np.zeros(0), np.zeros(0, bool)), [])
    assert (picture != bare).any(axis=2).sum() > 1000
