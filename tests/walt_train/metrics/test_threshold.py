"""One threshold: nearly the best F1, the lowest such, and an answer where the data says nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.walt_train.metrics.boards import PERSON, VEHICLE, Box, found, truth
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_train.data.sample import AmodalSample
from walt_train.metrics import threshold
from walt_train.metrics.threshold import FALLBACK, FEW, choose_threshold

A: Box = (0, 0, 40, 40)
B: Box = (100, 0, 140, 40)
FAR: Box = (200, 100, 240, 140)
SMALL: Box = (0, 100, 31, 133)  # 1,023 px
TWO = truth((PERSON, A), (PERSON, B))


@pytest.mark.parametrize(
    ("things", "scores", "expected"),
    [
        pytest.param([(PERSON, A), (PERSON, B), (PERSON, FAR)], [0.75, 0.5, 0.25], 0.375, id="false one below"),
        pytest.param([(PERSON, FAR), (PERSON, A), (PERSON, B)], [0.75, 0.5, 0.25], 0.25, id="false one above"),
        # 2/3 with one of one (2 of 1 + 2), 2/3 again with two of four: the one that finds more.
        pytest.param(
            [(PERSON, A), (PERSON, FAR), (PERSON, FAR), (PERSON, B)],
            [0.75, 0.5, 0.5, 0.25],
            0.25,
            id="ties go to the lower",
        ),
        pytest.param([(VEHICLE, A), (PERSON, B)], [0.75, 0.5], 0.5, id="another class is no hit"),
        pytest.param([(PERSON, A), (PERSON, A), (PERSON, B)], [0.75, 0.5, 0.5], 0.5, id="a second box is no hit"),
        pytest.param([(PERSON, (0, 0, 40, 19))], [0.75], FALLBACK, id="IoU below one half is no hit"),
        pytest.param([(PERSON, (0, 0, 40, 20))], [0.75], 0.75, id="IoU of one half is one"),
        pytest.param([(PERSON, FAR)], [0.9], FALLBACK, id="no hit at all"),
        pytest.param([], [], FALLBACK, id="no predictions"),
    ],
)
def test_best_f1(things: Sequence[tuple[Label, Box]], scores: Sequence[float], expected: float) -> None:
    assert choose_threshold([(found(*things, scores=scores), TWO)]) == pytest.approx(expected)


def test_without_truth_the_data_says_nothing() -> None:
    assert choose_threshold([]) == FALLBACK
    assert choose_threshold([(found((PERSON, A), scores=[0.9]), truth())]) == FALLBACK


def test_who_finds_what_does_not_count_is_neither_rewarded_nor_punished() -> None:
    frame = truth((PERSON, A), (PERSON, SMALL))
    alone = choose_threshold([(found((PERSON, A), (PERSON, FAR), scores=[0.5, 0.25]), frame)])
    both = found((PERSON, A), (PERSON, SMALL), (PERSON, FAR), scores=[0.5, 0.75, 0.25])
    assert choose_threshold([(both, frame)]) == alone == pytest.approx(0.375)


def test_equal_scores_are_kept_or_dropped_together() -> None:
    frames = [(found((PERSON, A), scores=[0.5]), TWO), (found((PERSON, FAR), (PERSON, B), scores=[0.5, 0.1]), TWO)]
    assert choose_threshold(frames) == choose_threshold(frames[::-1])


boxes = st.tuples(st.integers(0, 200), st.integers(0, 120), st.integers(20, 80), st.integers(20, 70)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
things = st.tuples(st.sampled_from(list(Label)), boxes)


@given(
    st.lists(things, max_size=4),
    st.lists(st.tuples(things, st.integers(1, 20)), max_size=6),
    st.randoms(use_true_random=False),
)
def test_the_order_of_predictions_does_not_matter(
    objects: list[tuple[Label, Box]], guesses: list[tuple[tuple[Label, Box], int]], rng: random.Random
) -> None:
    frame = truth(*objects)
    shuffled = list(guesses)
    rng.shuffle(shuffled)
    one, other = (
        choose_threshold([(found(*(g for g, _ in some), scores=[s / 20 for _, s in some]), frame)])
        for some in (guesses, shuffled)
    )
    assert one == other
    assert 0 < one <= 1


@pytest.mark.parametrize(("false_ones", "lowest"), [(1, 0.2), (4, 0.7)])
def test_a_little_precision_is_given_for_whom_a_higher_threshold_would_miss(false_ones: int, lowest: float) -> None:
    """Forty are found at 0.9; false boxes come at 0.5, one more object behind them at 0.2."""
    places: list[Box] = [(35 * x, 35 * y, 35 * x + 33, 35 * y + 33) for y in range(5) for x in range(9)]
    boxes, away = places[:41], places[41 : 41 + false_ones]
    things = [(PERSON, box) for box in (*boxes[:40], *away, boxes[40])]
    seen = found(*things, scores=[0.9] * 40 + [0.5] * false_ones + [0.2])
    everyone = truth(*((PERSON, box) for box in boxes))
    assert choose_threshold([(seen, everyone)]) == pytest.approx(lowest)


Frames = list[tuple[AmodalInstances, AmodalSample]]


def unsure_detector(objects: int, rng: np.random.Generator) -> Frames:
    """One object a frame, found eight times of ten with low scores, and four false boxes with lower ones."""
    frames = []
    for _ in range(objects):
        hit = [float(rng.beta(2, 5))] if rng.random() < 0.8 else []
        false = rng.beta(1, 14, rng.poisson(4)).tolist()
        things = [(PERSON, A)] * len(hit) + [(PERSON, FAR)] * len(false)
        frames.append((found(*things, scores=[*hit, *false]), truth((PERSON, A))))
    return frames


def f1_at(frames: Frames, levels: Sequence[float]) -> NDArray[np.float64]:
    """(L,) F1 at each threshold."""
    scores = np.concatenate([seen.scores for seen, _ in frames])
    hits = np.concatenate([seen.boxes_xyxy[:, 0] == A[0] for seen, _ in frames])
    kept = scores[None] >= np.array(levels)[:, None]
    return np.asarray(2 * (kept & hits).sum(axis=1) / (kept.sum(axis=1) + len(frames)))


def test_with_few_objects_the_threshold_is_less_of_an_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    many, few = unsure_detector(1000, rng), [unsure_detector(8, rng) for _ in range(40)]
    drawn = f1_at(many, [choose_threshold(frames) for frames in few])
    monkeypatch.setattr(threshold, "FEW", 0)
    plain = f1_at(many, [choose_threshold(frames) for frames in few])
    assert drawn.mean() >= plain.mean() + 0.008
    assert np.quantile(drawn, 0.1) >= np.quantile(plain, 0.1) + 0.01
    assert f1_at(many, [FALLBACK])[0] < 0.3, "a fixed threshold is no answer"


def test_from_enough_objects_on_the_rule_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    enough = unsure_detector(FEW, rng)
    chosen, fewer = choose_threshold(enough), choose_threshold(enough[1:])
    monkeypatch.setattr(threshold, "FEW", 0)
    assert choose_threshold(enough) == chosen
    assert choose_threshold(enough[1:]) != fewer
