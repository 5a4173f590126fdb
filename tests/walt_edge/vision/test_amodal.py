from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances, InstancesError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.amodal import amodal_paste, assemble, choose, paste
from walt_edge.vision.amodal_ops import WEIGHED, amodal_nms, trust, visible_ious

WH = (48, 36)
SIDE = 28
Candidates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]


def crowd(seed: int, count: int) -> Candidates:
    """Candidates that overlap each other in every way, some of them outside the frame."""
    random = np.random.default_rng(seed)
    places = random.uniform(-8, 36, (3, 2))[random.integers(0, 3, count)]
    low = places + random.normal(0, 2.5, (count, 2))
    boxes = np.concatenate([low, low + random.uniform(-1, 22, (count, 2))], axis=1).astype(np.float32)
    maps = random.uniform(0, 1, (count, 3, 4, 4)).astype(np.float32) ** random.choice([0.3, 1, 3])
    return boxes, random.uniform(0, 1, count).astype(np.float32), random.integers(1, 3, count), maps


def slow_paste(box: NDArray[np.float64], cells: NDArray[np.float32]) -> Mask:
    """Bilinear at every pixel of the frame, one by one."""
    rows, columns = cells.shape
    out = np.zeros((WH[1], WH[0]), bool)
    for y, x in np.ndindex(out.shape):
        if not (box[0] <= x + 0.5 < box[2] and box[1] <= y + 0.5 < box[3]):
            continue
        v = min(max((y + 0.5 - box[1]) / (box[3] - box[1]) * rows - 0.5, 0), rows - 1)
        u = min(max((x + 0.5 - box[0]) / (box[2] - box[0]) * columns - 0.5, 0), columns - 1)
        top, left = int(v), int(u)
        bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
        upper = cells[top, left] * (1 - (u - left)) + cells[top, right] * (u - left)
        lower = cells[bottom, left] * (1 - (u - left)) + cells[bottom, right] * (u - left)
        out[y, x] = upper * (1 - (v - top)) + lower * (v - top) >= 0.5
    return out


def believed(candidates: Candidates, threshold: float) -> list[tuple[float, int]]:
    """Scores and indices of what stays, best first; suppression and trust have tests of their own."""
    boxes, scores, labels, maps = candidates
    clipped = np.clip(boxes, 0, np.array(WH * 2))
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1) & (scores >= threshold)
    order = np.array([index for index in np.argsort(-scores).tolist() if inside[index]], np.int64)
    kept = order[amodal_nms(boxes[order], labels[order], maps[order], same=WEIGHED)]
    trusted = (scores[kept] * trust(visible_ious(boxes[kept], labels[kept], maps[kept]))).tolist()
    pairs = [(score, index) for score, index in zip(trusted, kept.tolist(), strict=True) if score >= threshold]
    return sorted(pairs, key=lambda pair: -pair[0])


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_what_stays_is_pasted_as_it_is_defined_to_be(seed: int) -> None:
    boxes, scores, labels, maps = crowd(seed, 5)
    candidates = boxes, scores, labels, maps
    found = assemble(*candidates, scale=1, frame_wh=WH, score_threshold=0.2)
    expected = believed(candidates, 0.2)
    assert found.scores.tolist() == [score for score, _ in expected]
    for layer, masks in enumerate((found.amodal_masks, found.occluder_masks, found.occluded_masks)):
        slow = [slow_paste(boxes[i].astype(np.float64), maps[i, layer]) for _, i in expected]
        assert (masks == np.array(slow).reshape(masks.shape)).all()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_all_masks_at_once_are_those_of_each_box(seed: int) -> None:
    boxes, _, _, maps = crowd(seed, 4)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    found = amodal_paste(boxes, maps, WH)
    assert found.shape == (4, 3, WH[1], WH[0])
    slow = [
        [slow_paste(box.astype(np.float64), cells) for cells in one] for box, one in zip(boxes, maps, strict=True)
    ]
    assert (found == np.array(slow)).all()


@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(12)))
@settings(max_examples=40, deadline=None)
def test_the_order_of_candidates_does_not_matter(seed: int, order: list[int]) -> None:
    boxes, scores, labels, maps = crowd(seed, 12)
    scores = (np.round(scores * 3) / 3).astype(np.float32)  # ties
    one = assemble(boxes, scores, labels, maps, scale=0.8, frame_wh=WH, score_threshold=0.3)
    shuffled = boxes[order], scores[order], labels[order], maps[order]
    other = assemble(*shuffled, scale=0.8, frame_wh=WH, score_threshold=0.3)
    assert_same(one, other)


def assert_same(one: AmodalInstances, other: AmodalInstances) -> None:
    for name in ("boxes_xyxy", "scores", "labels", "amodal_masks", "occluder_masks", "occluded_masks"):
        assert (getattr(one, name) == getattr(other, name)).all(), name


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_what_is_given_lies_in_the_frame_and_adds_up(seed: int) -> None:
    found = assemble(*crowd(seed, 12), scale=1.3, frame_wh=WH, score_threshold=0.0)
    whole, seen = found.amodal_masks, found.visible_masks
    assert ((seen | (whole & found.occluder_masks)) == whole).all()
    assert (np.diff(found.scores) <= 0).all()
    for box, mask in zip(found.boxes_xyxy, whole | found.occluder_masks | found.occluded_masks, strict=True):
        rows, columns = np.nonzero(mask)
        assert not rows.size or (rows.min() + 0.5 >= box[1] and rows.max() + 0.5 < box[3])
        assert not columns.size or (columns.min() + 0.5 >= box[0] and columns.max() + 0.5 < box[2])


def test_who_may_be_a_double_scores_less_and_goes_where_everything_is_asked_strictly() -> None:
    """Of 16 columns the second shows 13, five of them alone: 8 of 21 are shown by both."""
    boxes = np.array([[10, 5, 26, 35], [15, 5, 31, 35], [40, 5, 44, 35]], np.float32)
    maps = full_maps(3)
    maps[1, 1, :, : round(3 / 16 * SIDE)] = 1
    scores = np.array([0.9, 0.8, 0.5], np.float32)
    given_ = boxes, scores, np.ones(3, np.int64), maps
    found = assemble(*given_, scale=1, frame_wh=WH, score_threshold=0.1)
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.45], abs=0.03)
    assert found.boxes_xyxy[:, 0].tolist() == [10, 40, 15]
    assert len(assemble(*given_, scale=1, frame_wh=WH, score_threshold=0.49)) == 2
    surely, chosen = choose(*given_, scale=1, frame_wh=WH, score_threshold=0.1, strictly=True)
    assert surely.scores.tolist() == pytest.approx([0.9, 0.5])
    assert chosen.tolist() == [0, 2]


def full_maps(count: int) -> NDArray[np.float32]:
    maps = np.zeros((count, 3, SIDE, SIDE), np.float32)
    maps[:, 0] = 1
    return maps


def test_two_people_of_whom_one_hides_the_other_survive() -> None:
    boxes = np.array([[10, 5, 26, 35], [14, 5, 30, 35]], np.float32)
    maps = full_maps(2)
    maps[1, 1, :, :21] = 1  # the second is seen at its right edge only
    people = np.array([1, 1])
    scores = np.array([0.9, 0.8], np.float32)
    found = assemble(boxes, scores, people, maps, scale=1, frame_wh=WH, score_threshold=0.5)
    assert len(found) == 2
    assert found.occlusion_fractions == pytest.approx([0, 0.75])


def test_duplicates_go_and_classes_do_not_suppress_each_other() -> None:
    boxes = np.array([[10, 5, 26, 35], [11, 5, 27, 35], [10, 6, 26, 35]], np.float32)
    labels = np.array([Label.PERSON, Label.PERSON, Label.VEHICLE], np.int64)
    scores = np.array([0.7, 0.9, 0.6], np.float32)
    found = assemble(boxes, scores, labels, full_maps(3), scale=1, frame_wh=WH, score_threshold=0.5)
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.labels.tolist() == [Label.PERSON, Label.VEHICLE]


def test_a_neighbour_of_which_next_to_nothing_shows_is_a_duplicate() -> None:
    boxes = np.array([[10, 5, 26, 35], [12, 5, 28, 35]], np.float32)
    maps = full_maps(2)
    maps[1, 1] = 1
    maps[1, 1, :4, -6:] = 0
    scores = np.array([0.9, 0.8], np.float32)
    found = assemble(boxes, scores, np.array([1, 1]), maps, scale=1, frame_wh=WH, score_threshold=0.5)
    assert len(found) == 1


def car(canvas: Mask, box: NDArray[np.float64]) -> Mask:
    """A body with a cabin and two wheels in a box, drawn 8 times as fine as pixels."""
    outline = np.array([[0, 0.85], [0, 0.5], [0.2, 0.42], [0.35, 0], [0.7, 0], [0.85, 0.42], [1, 0.5], [1, 0.85]])
    return shape(canvas, box, [outline], [(0.2, 0.85, 0.1, 0.15), (0.8, 0.85, 0.1, 0.15)])


def person(canvas: Mask, box: NDArray[np.float64]) -> Mask:
    """Head, trunk with arms, and two legs."""
    trunk = np.array([[0.25, 0.17], [0.75, 0.17], [1, 0.5], [0.85, 0.53], [0.72, 0.35], [0.72, 0.55], [0.28, 0.55]])
    arm = np.array([[0.25, 0.17], [0, 0.5], [0.15, 0.53], [0.3, 0.33]])
    legs = [np.array([[0.28 + s, 0.5], [0.52 + s, 0.5], [0.45 + 2 * s, 1], [0.2 + 2 * s, 1]]) for s in (-0.05, 0.18)]
    return shape(canvas, box, [trunk, arm, *legs], [(0.5, 0.085, 0.17, 0.085)])


def shape(
    canvas: Mask,
    box: NDArray[np.float64],
    outlines: list[NDArray[np.float64]],
    ellipses: list[tuple[float, float, float, float]],
) -> Mask:
    side, picture = box[2:] - box[:2], canvas.astype(np.uint8)
    for outline in outlines:
        cv2.fillPoly(picture, [np.round((box[:2] + outline * side) * 8).astype(np.int32)], 1)
    for x, y, a, b in ellipses:
        centre, axes = (box[:2] + (x, y) * side) * 8, np.array([a, b]) * side * 8
        cv2.ellipse(picture, [round(v) for v in centre], [round(v) for v in axes], 0, 0, 360, 1, -1)
    return picture.astype(bool)


def cell_averages(fine: Mask, box: NDArray[np.float64]) -> NDArray[np.float32]:
    """The share of each of 28x28 cells that a mask covers: a perfect map."""
    total = np.pad(fine.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    x, y = (np.linspace(box[axis], box[axis + 2], SIDE + 1) * 8 for axis in (0, 1))

    def between(table: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
        floor = np.clip(np.floor(at).astype(int), 0, len(table) - 2)
        return np.asarray(table[floor] + (at - floor)[:, None] * (table[floor + 1] - table[floor]))

    corners = between(between(total, y).T, x).T
    cell_px = (box[2] - box[0]) * (box[3] - box[1]) * 64 / SIDE**2
    return np.asarray(np.diff(np.diff(corners, axis=0), axis=1) / cell_px, np.float32)


@pytest.mark.parametrize(
    ("draw", "side_wh", "least"),
    [
        (car, (60, 32), 0.98),
        (car, (90, 47), 0.98),
        (car, (200, 105), 0.98),
        (person, (17, 46), 0.96),
        (person, (30, 80), 0.96),
        (person, (45, 120), 0.96),
    ],
)
def test_a_perfect_map_gives_nearly_the_perfect_mask(
    draw: Callable[[Mask, NDArray[np.float64]], Mask], side_wh: tuple[float, float], least: float
) -> None:
    random = np.random.default_rng(1)
    found = []
    for low in random.uniform(3, 5, (6, 2)):
        box = np.concatenate([low, low + np.array(side_wh) * random.uniform(0.95, 1.05)])
        fine = draw(np.zeros((144 * 8, 224 * 8), bool), box)
        truth = fine.reshape(144, 8, 224, 8).mean(axis=(1, 3)) >= 0.5
        (mask,) = paste(box, cell_averages(fine, box)[None], (224, 144))
        found.append(mask.iou(PatchMask.from_full(truth)))
    assert np.mean(found) >= least


def test_nothing_gives_nothing() -> None:
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    found = assemble(*none, np.zeros((0, 3, SIDE, SIDE), np.float32), scale=0.5, frame_wh=WH, score_threshold=0)
    assert len(found) == 0
    assert found.amodal_masks.shape == (0, WH[1], WH[0])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (0, np.zeros((2, 3), np.float32), r"boxes \(2, 3\)"),
        (0, np.full((2, 4), np.nan, np.float32), "not finite"),
        (1, np.array([0.5, np.inf], np.float32), "not finite"),
        (2, np.zeros(3, np.int64), r"labels \(3,\)"),
        (3, np.zeros((2, 2, SIDE, SIDE), np.float32), r"maps \(2, 2, 28, 28\)"),
        (3, np.zeros((2, 3, SIDE), np.float32), r"maps \(2, 3, 28\)"),
    ],
)
def test_what_contradicts_itself_is_refused(field: int, value: NDArray[np.float32], words: str) -> None:
    boxes = np.array([[1, 1, 9, 9], [2, 2, 8, 8]], np.float32)
    values = [boxes, np.full(2, 0.9, np.float32), np.ones(2, np.int64), full_maps(2)]
    values[field] = value
    with pytest.raises(InstancesError, match=words):
        assemble(*values, scale=1, frame_wh=WH, score_threshold=0)  # type: ignore[arg-type]


def test_thirty_instances_take_little_time() -> None:
    random = np.random.default_rng(0)
    low = random.uniform(0, (560, 260), (30, 2))
    boxes = np.concatenate([low, low + random.uniform(15, (110, 130), (30, 2))], axis=1).astype(np.float32)
    maps = random.uniform(0, 1, (30, 3, SIDE, SIDE)).astype(np.float32)
    candidates = boxes, np.full(30, 0.9, np.float32), random.integers(1, 3, 30), maps
    took = []
    for _ in range(20):
        began = time.thread_time()
        assemble(*candidates, scale=1, frame_wh=(640, 360), score_threshold=0.3)
        took.append(time.thread_time() - began)
    assert min(took) < 0.003
