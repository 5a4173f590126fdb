"""Objects that stand still, in timelines with jitter, gaps, walkers and newcomers."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError
from walt_train.mining.stationary import SECOND_US, Cluster, _cell, _iou, _near, find_clusters

MINUTE_US = 60 * SECOND_US


def timeline(
    *things: tuple[tuple[float, float, float, float], Sequence[int]], jitter: float = 0.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Boxes, classes and times of things seen at moments, given in seconds, in an order that means nothing."""
    rng = np.random.default_rng(seed)
    boxes: NDArray[np.float64] = np.array([box for box, moments in things for _ in moments], np.float64).reshape(
        -1, 4
    )
    times = np.array([moment * SECOND_US for _, moments in things for moment in moments], np.int64)
    order = rng.permutation(len(boxes))
    boxes = boxes + rng.uniform(-jitter, jitter, boxes.shape)
    return boxes[order], np.ones(len(boxes), np.int64), times[order]


def spans(clusters: Sequence[Cluster]) -> list[tuple[int, int]]:
    return [(first // SECOND_US, last // SECOND_US) for first, last in (c.interval_us for c in clusters)]


CAR = (100.0, 100.0, 180.0, 150.0)


def test_jitter_and_missed_detections_do_not_break_a_stay() -> None:
    seen = [moment for moment in range(0, 3600, 10) if moment % 70 != 0 and not 1000 < moment < 1500]
    boxes, labels, times = timeline((CAR, seen), jitter=4.0)
    (cluster,) = find_clusters(boxes, labels, times)
    assert len(cluster.members) == len(seen)
    assert cluster.interval_us == (10 * SECOND_US, 3590 * SECOND_US)
    assert np.diff(times[cluster.members]).min() > 0
    np.testing.assert_allclose(cluster.box_xyxy, CAR, atol=1)


def test_another_object_after_a_long_absence_is_another_one() -> None:
    boxes, labels, times = timeline((CAR, range(100)), (CAR, range(1000, 1100)))
    assert spans(find_clusters(boxes, labels, times)) == [(0, 99), (1000, 1099)]
    assert spans(find_clusters(boxes, labels, times, absence_us=1000 * SECOND_US)) == [(0, 1099)]


def test_looks_tell_a_newcomer_without_any_absence_and_forgive_who_passes_before() -> None:
    boxes, labels, times = timeline((CAR, range(200)))
    looks = np.where(times[:, None] < 100 * SECOND_US, 0.0, 5.0) + np.zeros((1, 3))
    looks[np.isin(times // SECOND_US, (20, 21, 22))] = 40.0  # somebody's coat
    looks[np.isin(times // SECOND_US, (30, 130))] = np.nan
    clusters = find_clusters(boxes, labels, times, appearance=looks, appearance_max=2.0)
    assert spans(clusters) == [(0, 99), (100, 199)]
    assert len(clusters[0].members) == 97
    assert len(clusters[1].members) == 100


def test_classes_and_neighbours_are_apart_and_walkers_are_none() -> None:
    near = (120.0, 100.0, 200.0, 150.0)
    boxes, labels, times = timeline((CAR, range(50)), (near, range(50)), jitter=2.0)
    people = np.array([(3.0 * t, 40.0, 3.0 * t + 20, 90.0) for t in range(50)])
    boxes, times = np.concatenate([boxes, people]), np.concatenate([times, np.arange(50) * SECOND_US])
    clusters = find_clusters(boxes, np.concatenate([labels, np.full(50, 2)]), times)
    assert [len(cluster.members) for cluster in clusters] == [50, 50]
    boxes, labels, times = timeline((CAR, range(50)), (CAR, range(50)))
    assert len(find_clusters(boxes, labels, times)) == 1  # said twice
    labels[:] = np.arange(100) % 2
    assert len(find_clusters(boxes, labels, times)) == 2


def test_bad_input() -> None:
    boxes, labels, times = timeline((CAR, range(50)))
    with pytest.raises(UsageError, match="iou_min"):
        find_clusters(boxes, labels, times, iou_min=0.3)
    with pytest.raises(UsageError, match="labels"):
        find_clusters(boxes, labels[1:], times)
    boxes[::2] = (np.nan, 0, 0, 0)
    boxes[1::4] = (10, 10, 10, 10)
    assert find_clusters(boxes[:0], labels[:0], times[:0]) == []
    assert len(find_clusters(boxes, labels, times, members_min=13)) == 0


sides = st.floats(1, 2000)
places = st.floats(-500, 4000)


@given(places, places, sides, sides, *[st.floats(-0.6, 0.6)] * 4, st.floats(0.5, 1.0))
def test_the_grid_misses_nothing(
    x: float, y: float, wide: float, high: float, a: float, b: float, c: float, d: float, iou_min: float
) -> None:
    box = (x, y, x + wide, y + high)
    other = (x + a * wide, y + b * high, x + wide + c * wide, y + high + d * high)
    if other[2] - other[0] > 1e-3 and other[3] - other[1] > 1e-3 and _iou(box, other) >= iou_min:
        assert _cell(other, 1) in set(_near(box, 1, iou_min))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_order_does_not_matter_and_no_row_is_taken_twice(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 300, (count, 2))
    things = [
        ((*corner, *(corner + rng.uniform(30, 90, 2))), np.flatnonzero(rng.uniform(size=60) < 0.8).tolist())
        for corner in corners
    ]
    boxes, labels, times = timeline(*things, jitter=2.0, seed=seed)
    clusters = find_clusters(boxes, labels, times)
    taken = np.concatenate([cluster.members for cluster in clusters]) if clusters else np.zeros(0, np.intp)
    assert len(np.unique(taken)) == len(taken)
    order = rng.permutation(len(boxes))
    again = find_clusters(boxes[order], labels[order], times[order])
    assert [cluster.interval_us for cluster in again] == [cluster.interval_us for cluster in clusters]
    for one, other in zip(clusters, again, strict=True):
        np.testing.assert_array_equal(one.members, order[other.members])


def test_a_day_of_a_car_park_is_quick() -> None:
    """100,000 boxes of 200 places and of who passes: far less than their pairs."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1800, (200, 2))
    standing = np.concatenate([np.concatenate([corners, corners + 60], axis=1)] * 400) + rng.normal(0, 1, (80_000, 4))
    passing = rng.uniform(0, 1800, (20_000, 1, 2)) + np.array([[0, 0], [50, 40]])
    boxes = np.concatenate([standing, passing.reshape(-1, 4)])
    times = np.concatenate([np.repeat(np.arange(400), 200), rng.integers(0, 400, 20_000)]) * 10 * SECOND_US
    start = time.monotonic()
    clusters = find_clusters(boxes, np.ones(len(boxes), np.int64), times)
    assert time.monotonic() - start < 60
    assert len([cluster for cluster in clusters if len(cluster.members) > 300]) >= 150
