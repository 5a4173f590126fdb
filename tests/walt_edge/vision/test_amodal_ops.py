"""The references of the amodal operators against their definitions, told point by point."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.amodal_maps import Crowd, crowd
from walt_edge.vision.amodal_ops import (
    SAME,
    STRICTLY_SAME,
    WEIGHED,
    Sameness,
    amodal_nms,
    occlusion_layers,
    occlusion_order,
    sample,
    trust,
    visible_ious,
)

Floats = NDArray[np.float32]
POINTS = 28


def level(box: list[float], cells: Floats, x: float, y: float) -> float:
    """A map's value at one point: bilinear between the centres of cells, nothing outside of the box."""
    if not (box[0] <= x < box[2] and box[1] <= y < box[3]):
        return 0.0
    rows, columns = cells.shape
    v = min(max((y - box[1]) / (box[3] - box[1]) * rows - 0.5, 0), rows - 1)
    u = min(max((x - box[0]) / (box[2] - box[0]) * columns - 0.5, 0), columns - 1)
    top, left = min(int(v), rows - 2), min(int(u), columns - 2)
    upper = cells[top, left] * (1 - (u - left)) + cells[top, left + 1] * (u - left)
    lower = cells[top + 1, left] * (1 - (u - left)) + cells[top + 1, left + 1] * (u - left)
    return float(upper * (1 - (v - top)) + lower * (v - top))


def levels(of: Crowd, index: int, box: list[float]) -> Floats:
    """(3, 28, 28) of an object's maps over a lattice of another box."""
    x = [box[0] + (k + 0.5) / POINTS * (box[2] - box[0]) for k in range(POINTS)]
    y = [box[1] + (k + 0.5) / POINTS * (box[3] - box[1]) for k in range(POINTS)]
    own = of.boxes[index].astype(float).tolist()
    return np.array([[[level(own, cells, a, b) for a in x] for b in y] for cells in of.maps[index]], np.float32)


def area(box: list[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def corners(one: list[float], other: list[float], *, outer: bool) -> list[float]:
    near, far = (min, max) if outer else (max, min)
    return [near(one[0], other[0]), near(one[1], other[1]), far(one[2], other[2]), far(one[3], other[3])]


def slow_nms(of: Crowd, same: Sameness) -> list[bool]:
    kept: list[bool] = []
    boxes = of.boxes.astype(float).tolist()
    for index, box in enumerate(boxes):
        shown = ((of.maps[index, 0] >= 0.5) & (of.maps[index, 1] < 0.5)).mean() * area(box)
        gone = False
        for other in range(index):
            alike = of.labels[other] == of.labels[index] and of.pictures[other] == of.pictures[index]
            common = area(corners(box, boxes[other], outer=False))
            if not (kept[other] and alike and common / (area(box) + area(boxes[other]) - common) >= same.box_iou):
                continue
            both = corners(box, boxes[other], outer=True)
            one, two = ((m[0] >= 0.5) & (m[1] < 0.5) for m in (levels(of, index, both), levels(of, other, both)))
            iou = (one & two).sum() / max(1, (one | two).sum())
            gone = gone or shown < 16 or iou >= same.visible_iou
        kept.append(not gone)
    return kept


@pytest.mark.parametrize("same", [SAME, WEIGHED, STRICTLY_SAME])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=12, deadline=None)
def test_suppression_is_what_it_is_defined_to_be(same: Sameness, seed: int) -> None:
    of = crowd(seed, 7)
    assert amodal_nms(of.boxes, of.labels, of.maps, of.pictures, same).tolist() == slow_nms(of, same)


def test_a_graph_suppresses_only_who_surely_is_a_double() -> None:
    """Who weighs afterwards, or asks strictly, takes away more."""
    assert (SAME, WEIGHED, STRICTLY_SAME) == ((0.5, 0.5), (0.3, 0.5), (0.5, 0.3))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_to_suppress_twice_changes_nothing(seed: int) -> None:
    of = crowd(seed, 12)
    for same in (SAME, WEIGHED, STRICTLY_SAME):
        kept = amodal_nms(of.boxes, of.labels, of.maps, of.pictures, same)
        again = amodal_nms(of.boxes[kept], of.labels[kept], of.maps[kept], of.pictures[kept], same)
        assert again.all()


@pytest.mark.parametrize(
    ("shared", "believed"), [(0, 1.0), (4, 1.0), (10, 0.633), (14, 0.3), (20, 0.3)], ids=lambda value: str(value)
)
def test_a_score_is_believed_by_what_is_shown_of_it_alone(shared: int, believed: float) -> None:
    """Two people in one box of 28 columns, of which both show `shared` and each some more alone."""
    maps = np.zeros((2, 3, POINTS, POINTS), np.float32)
    maps[:, 0] = 1
    own = (POINTS - shared) // 2
    maps[0, 1, :, POINTS - own :] = 1
    maps[1, 1, :, :own] = 1
    boxes = np.repeat(np.array([[0, 0, 40, 40]], np.float32), 2, axis=0)
    found = trust(visible_ious(boxes, np.ones(2, np.int64), maps))
    assert found.tolist() == pytest.approx([1, believed], abs=2e-3)
    assert trust(visible_ious(boxes, np.array([1, 2]), maps)).tolist() == [1, 1]


def test_only_who_could_be_a_double_is_believed_less() -> None:
    """Boxes of IoU 0.29 and 0.31 that show the same half of what they have in common."""
    maps = np.zeros((2, 3, POINTS, POINTS), np.float32)
    maps[:, 0] = 1
    for part, believed in ((0.55, False), (0.52, True)):
        boxes = np.array([[0, 0, 40, 40], [40 * part, 0, 40 + 40 * part, 40]], np.float32)
        assert (trust(visible_ious(boxes, np.ones(2, np.int64), maps))[1] < 1) == believed


def test_the_crowds_of_these_tests_hold_every_case() -> None:
    kept = [amodal_nms(of.boxes, of.labels, of.maps, of.pictures) for of in (crowd(seed, 12) for seed in range(20))]
    assert 0.2 < np.mean(np.concatenate(kept)) < 0.95


def test_who_is_suppressed_suppresses_nobody() -> None:
    """Three in a row: the second is a double of the first, the third of the second alone."""
    boxes = np.array([[0, 0, 40, 40], [10, 0, 50, 40], [20, 0, 60, 40]], np.float32)
    maps = np.zeros((3, 3, POINTS, POINTS), np.float32)
    maps[:, 0] = 1
    labels = np.ones(3, np.int64)
    assert amodal_nms(boxes, labels, maps).tolist() == [True, False, True]
    assert amodal_nms(boxes[1:], labels[1:], maps[1:]).tolist() == [True, False]


def test_pictures_of_a_batch_do_not_meet() -> None:
    boxes = np.repeat(np.array([[0, 0, 40, 40]], np.float32), 2, axis=0)
    maps = np.ones((2, 3, POINTS, POINTS), np.float32)
    maps[:, 1:] = 0
    one, two = np.zeros(2, np.int64), np.arange(2)
    assert amodal_nms(boxes, np.ones(2, np.int64), maps, one).tolist() == [True, False]
    assert amodal_nms(boxes, np.ones(2, np.int64), maps, two).tolist() == [True, True]
    assert occlusion_order(boxes, maps, two).sum() == 0


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_order_is_what_it_is_defined_to_be(seed: int) -> None:
    of = crowd(seed, 5)
    found = occlusion_order(of.boxes, of.maps, of.pictures)
    boxes = of.boxes.astype(float).tolist()
    for one, other in itertools.combinations(range(5), 2):
        common = corners(boxes[one], boxes[other], outer=False)
        if of.pictures[one] != of.pictures[other] or common[0] >= common[2] or common[1] >= common[3]:
            assert found[one, other] == found[other, one] == 0
            continue
        first, second = levels(of, one, common), levels(of, other, common)
        both = (first[0] >= 0.5) & (second[0] >= 0.5)
        lead = [b[1] - a[1] + a[2] - b[2] for a, b in zip(first[:, both].T, second[:, both].T, strict=True)]
        expected = 0.5 + np.mean(lead) / 4 if lead else 0.0
        assert found[one, other] == pytest.approx(expected, abs=1e-4)
        assert found[other, one] == pytest.approx(1 - expected if lead else 0.0, abs=1e-4)


def test_who_stands_before_whom() -> None:
    """The right half of the first lies under the second, and the maps say so."""
    boxes = np.array([[0, 0, 40, 40], [20, 0, 60, 40]], np.float32)
    maps = np.zeros((2, 3, POINTS, POINTS), np.float32)
    maps[:, 0] = 1
    maps[0, 1, :, POINTS // 2 :] = 1  # something before the first, on its right
    maps[1, 2, :, : POINTS // 2] = 1  # something behind the second, on its left
    assert occlusion_order(boxes, maps) == pytest.approx(np.array([[0, 0.01], [0.99, 0]]), abs=0.02)
    layers = occlusion_layers(maps)
    assert layers.fractions.tolist() == [0.5, 0]
    assert (layers.visible | layers.hidden).all()
    assert layers.uncertainties.tolist() == [0, 0]


def test_how_unsure_a_mask_is() -> None:
    maps = np.zeros((2, 3, 2, 2), np.float32)
    maps[0, 0] = [[0.9, 0.6], [0.2, 0.0]]  # wrong with 0.1, 0.4, 0.2 and 0, over two cells
    maps[1, 0] = 0.4  # no cell at all
    layers = occlusion_layers(maps)
    assert layers.uncertainties == pytest.approx([0.35, 1])
    assert layers.fractions.tolist() == [0, 0]
    maps[0, 1, 0, 0] = 0.5  # 0.9 * 0.5 that the first is hidden
    assert occlusion_layers(maps).uncertainties[0] == pytest.approx((0.55 + 0.4 + 0.2) / 2)


@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from([1, 4, 28]))
@settings(max_examples=30, deadline=None)
def test_a_sample_is_bilinear(seed: int, side: int) -> None:
    of = crowd(seed, 1, side=max(2, side))
    chance = np.random.default_rng(seed)
    x, y = (np.sort(chance.uniform(-10, 60, 9)).astype(np.float32) for _ in range(2))
    found = sample(of.boxes[0], of.maps[0], x, y)
    box = of.boxes[0].astype(float).tolist()
    slow = [[[level(box, cells, a, b) for a in x.tolist()] for b in y.tolist()] for cells in of.maps[0]]
    np.testing.assert_allclose(found, slow, atol=1e-4)


def test_nothing_gives_nothing() -> None:
    of = crowd(0, 0)
    assert amodal_nms(of.boxes, of.labels, of.maps).shape == (0,)
    assert occlusion_order(of.boxes, of.maps).shape == (0, 0)
    assert occlusion_layers(of.maps).fractions.shape == (0,)
