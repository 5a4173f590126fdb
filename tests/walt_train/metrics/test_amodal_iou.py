"""The metric on frames computed by hand, and what must hold for any frames."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.walt_train.metrics.boards import PERSON, VEHICLE, Box, found, truth
from walt_edge.contract.labels import Label
from walt_train.metrics.amodal_iou import AmodalIou, MetricsError, Row, compare, evaluate_frames

A: Box = (0, 0, 40, 40)
A_LEFT: Box = (0, 0, 20, 40)
NEAR: Box = (0, 0, 28, 40)  # hides 7/10 of A
FAR: Box = (200, 100, 240, 140)


def figures(row: Row) -> tuple[int, int, float | None, float | None]:
    return row.cases, row.hits, row.box_iou, row.mask_iou


@pytest.mark.parametrize(
    ("objects", "guesses", "expected", "false_boxes"),
    [
        pytest.param([(PERSON, A)], [(PERSON, A)], (1, 1, 100, 100), 0, id="exact"),
        pytest.param([(PERSON, A)], [(PERSON, A_LEFT)], (1, 1, 50, 50), 0, id="half of it"),
        pytest.param([(PERSON, A)], [(VEHICLE, A)], (1, 0, 0, 0), 1, id="a swapped class is a miss and a false box"),
        pytest.param([(PERSON, A)], [], (1, 0, 0, 0), 0, id="missed"),
        pytest.param([(PERSON, A)], [(PERSON, FAR)], (1, 0, 0, 0), 1, id="elsewhere"),
        pytest.param([(PERSON, A)], [(PERSON, A_LEFT), (PERSON, A)], (1, 1, 100, 100), 1, id="two for one"),
        pytest.param([(PERSON, A)], [(PERSON, (0, 0, 40, 4))], (1, 1, 10, 10), 0, id="a tenth is enough"),
        pytest.param([(PERSON, A)], [(PERSON, (0, 0, 39, 4))], (1, 0, 0, 0), 1, id="less is not"),
        pytest.param(
            [(PERSON, (0, 0, 100, 40)), (PERSON, (100, 0, 200, 40))],
            [(PERSON, (20, 0, 100, 40)), (PERSON, (0, 0, 100, 40))],
            (2, 1, 50, 50),
            1,
            id="neighbours that only touch are not traded",
        ),
    ],
)
def test_by_hand(
    objects: Sequence[tuple[Label, Box]],
    guesses: Sequence[tuple[Label, Box]],
    expected: tuple[int, int, float, float],
    false_boxes: int,
) -> None:
    outcome = evaluate_frames([(found(*guesses), truth(*objects))])
    assert figures(outcome.total) == pytest.approx(expected)
    assert outcome.false_boxes == false_boxes


def test_the_sum_of_ious_is_maximised_not_the_best_pair() -> None:
    objects = [(PERSON, (0, 0, 100, 40)), (PERSON, (50, 0, 150, 40))]
    # The first prediction suits the first object best (0.9), but the second prediction suits no other object.
    guesses = [(PERSON, (5, 0, 105, 40)), (PERSON, (0, 0, 70, 40))]
    total = evaluate_frames([(found(*guesses), truth(*objects))]).total
    # 0.70 for the first and 55 / 145 for the second: more than 95 / 105 and 20 / 150.
    assert total.box_iou == pytest.approx(50 * (0.7 + 55 / 145))


@pytest.mark.parametrize(
    ("hidden_columns", "at_gamma", "by_bin"),
    [
        (0, (0, 0), (1, 0, 0, 0)),
        (1, (1, 0), (0, 1, 0, 0)),  # exactly 0.01
        (9, (1, 0), (0, 1, 0, 0)),
        (10, (1, 0), (0, 0, 1, 0)),
        (49, (1, 0), (0, 0, 1, 0)),
        (50, (1, 1), (0, 0, 0, 1)),
        (90, (1, 1), (0, 0, 0, 1)),  # exactly 0.9 still counts
        (91, (0, 0), (0, 0, 0, 0)),
    ],
)
def test_bands(hidden_columns: int, at_gamma: tuple[int, int], by_bin: tuple[int, ...]) -> None:
    before = [(0, (0, 0, hidden_columns, 40))] if hidden_columns else []
    outcome = evaluate_frames([(found(), truth((VEHICLE, (0, 0, 100, 40)), static=before))])
    assert tuple(row.cases for row in outcome.at_gamma.values()) == at_gamma
    assert tuple(row.cases for row in outcome.by_occlusion) == by_bin
    assert outcome.total.cases == sum(by_bin)


@pytest.mark.parametrize(
    ("box", "hidden", "cases"),
    [
        ((0, 0, 31, 33), None, 0),  # 1,023 px
        ((0, 0, 32, 32), None, 1),  # 1,024 px
        ((0, 0, 16, 64), (0, 0, 16, 60), 0),  # 64 px are seen, but 0.94 are hidden
        ((0, 0, 40, 40), (0, 0, 36, 40), 1),  # 160 px, 0.9
    ],
)
def test_what_is_small_or_hardly_seen_is_no_case(box: Box, hidden: Box | None, cases: int) -> None:
    frame = truth((VEHICLE, box), static=[(0, hidden)] if hidden else [])
    outcome = evaluate_frames([(found((VEHICLE, box)), frame)])
    assert outcome.total.cases == cases
    assert outcome.uncounted == 1 - cases
    assert outcome.false_boxes == 0  # who finds it is not wrong


def test_a_hidden_object_is_not_found_by_its_neighbours_box() -> None:
    frame = truth((PERSON, NEAR), (PERSON, A))
    seen = evaluate_frames([(found((PERSON, NEAR)), frame)])
    assert seen.at_gamma[0.5].cases == 1
    assert figures(seen.at_gamma[0.5]) == (1, 0, 0, 0)  # the only box belongs to who is before it
    assert figures(seen.by_occlusion[0]) == pytest.approx((1, 1, 100, 100))
    both = evaluate_frames([(found((PERSON, NEAR), (PERSON, NEAR)), frame)])
    assert figures(both.at_gamma[0.5]) == pytest.approx((1, 1, 70, 70))


def test_static_things_hide_only_what_is_farther() -> None:
    frame = truth((PERSON, (0, 0, 40, 40)), (PERSON, (100, 0, 140, 40)), static=[(1, (0, 0, 120, 40))])
    outcome = evaluate_frames([(found(), frame)])
    assert [case.occlusion for case in outcome.cases] == [0.0, 0.5]


def test_scores_below_the_threshold_are_left_out() -> None:
    pairs = [(found((PERSON, A), (PERSON, FAR), scores=[0.5, 0.25]), truth((PERSON, A)))]
    assert evaluate_frames(pairs).total.precision == 0.5
    assert evaluate_frames(pairs, score_threshold=0.5).total.precision == 1.0
    assert evaluate_frames(pairs, score_threshold=0.6).total.precision is None


def frames_of(iou_tenths: Sequence[int], frames: int = 5) -> AmodalIou:
    """Object k is always found with an IoU of iou_tenths[k] / 10."""
    objects = [(PERSON, (0, 0, 40, 40)), (VEHICLE, (100, 0, 140, 40)), (PERSON, (200, 0, 240, 40))]
    guesses = [
        (label, (x0, y0, x0 + 4 * tenths, y1))
        for (label, (x0, y0, _, y1)), tenths in zip(objects, iou_tenths, strict=True)
    ]
    return evaluate_frames((found(*guesses), truth(*objects, name=str(frame))) for frame in range(frames))


def test_intervals_are_those_of_objects_not_of_frames() -> None:
    few, many = frames_of([2, 4, 9], frames=1).total, frames_of([2, 4, 9], frames=50).total
    assert many.cases == 150
    assert many.objects == 3
    assert many.box_interval is not None
    assert few.box_interval == pytest.approx(many.box_interval)
    # 27 draws of three objects: all three the first or all three the last happens in 1 of 27 each, above 2.5 %.
    assert many.box_interval == pytest.approx((20, 90))
    alike = evaluate_frames([(found((PERSON, A)), truth((PERSON, A)))]).total
    assert alike.box_interval is None  # one object says nothing about others


def test_compare_is_paired() -> None:
    better, worse = frames_of([4, 6, 9]).cases, frames_of([3, 5, 8]).cases
    difference = compare(better, worse)[0]
    assert difference.box_points == pytest.approx(10)
    assert difference.box_interval == pytest.approx((10, 10))  # the same for every object: no doubt
    assert compare(better, worse) == compare(better, worse[::-1])
    assert compare(worse, better)[0].mask_points == pytest.approx(-10)
    with pytest.raises(MetricsError, match="same cases"):
        compare(better, worse[:-1])


def test_cases_travel_by_json() -> None:
    outcome = frames_of([3, 5, 8])
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=AmodalIou) == outcome


boxes = st.tuples(st.integers(0, 200), st.integers(0, 120), st.integers(20, 80), st.integers(20, 70)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
things = st.tuples(st.sampled_from(list(Label)), boxes)
frames = st.tuples(st.lists(things, max_size=5), st.lists(things, max_size=6))


@given(frames, st.integers(0, 2**32))
def test_the_order_of_predictions_does_not_matter(
    frame: tuple[list[tuple[Label, Box]], list[tuple[Label, Box]]], seed: int
) -> None:
    objects, guesses = frame
    shuffled = random.Random(seed).sample(guesses, len(guesses))
    assert evaluate_frames([(found(*guesses), truth(*objects))]) == evaluate_frames(
        [(found(*shuffled), truth(*objects))]
    )


TWINS = [(Label.PERSON, (0, 0, 20, 20)), (Label.VEHICLE, (0, 0, 25, 41))] * 2


@given(frames)
@example((TWINS, [(Label.PERSON, (0, 0, 20, 20)), (Label.VEHICLE, (0, 0, 20, 20))]))
def test_a_false_box_never_helps(frame: tuple[list[tuple[Label, Box]], list[tuple[Label, Box]]]) -> None:
    objects, guesses = frame
    aside: Box = (300, 195, 320, 200)  # beyond every object
    before = evaluate_frames([(found(*guesses), truth(*objects))])
    after = evaluate_frames([(found(*guesses, (PERSON, aside)), truth(*objects))])
    assert after.false_boxes == before.false_boxes + 1
    assert after.cases == before.cases
    for one, other in zip((before.total, *before.by_occlusion), (after.total, *after.by_occlusion), strict=True):
        assert other.precision is not None
        assert one.precision is None or other.precision <= one.precision


@given(st.lists(frames, max_size=3))
def test_bins_add_up(many: list[tuple[list[tuple[Label, Box]], list[tuple[Label, Box]]]]) -> None:
    outcome = evaluate_frames(
        (found(*guesses), truth(*objects, name=str(i))) for i, (objects, guesses) in enumerate(many)
    )
    for name in ("cases", "hits"):
        assert sum(getattr(row, name) for row in outcome.by_occlusion) == getattr(outcome.total, name)
    assert outcome.total.hits + outcome.uncounted + outcome.false_boxes == outcome.predictions
    assert outcome.at_gamma[0.01].cases == sum(row.cases for row in outcome.by_occlusion[1:])
    assert outcome.at_gamma[0.5].cases == outcome.by_occlusion[-1].cases
