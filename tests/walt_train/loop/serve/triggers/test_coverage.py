from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_train.loop.serve.triggers.coverage import FULL, Gain, Sighting, cells_of, count_of, coverage_of, gain_of

PERSON, VEHICLE = 1, 2
WALKER = (100.0, 200.0, 140.0, 300.0)


def cell(box: tuple[float, ...], label: int = PERSON) -> int:
    return cells_of([label], np.array([box]))[0]


def moved(box: tuple[float, ...], x: float, y: float) -> tuple[float, ...]:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def seen(*cells: int, first_track: int = 0) -> list[Sighting]:
    return [Sighting(one, first_track + place, 1000 + place) for place, one in enumerate(cells)]


@pytest.mark.parametrize(
    ("other", "label", "is_same"),
    [
        (moved(WALKER, 3, 2), PERSON, True),
        (moved(WALKER, 300, 0), PERSON, False),
        (moved(WALKER, 0, 300), PERSON, False),
        (WALKER, VEHICLE, False),
        ((100.0, 268.0, 113.0, 300.0), PERSON, False),  # as wide by its height, a third as large
        ((70.0, 250.0, 170.0, 300.0), PERSON, False),  # lies down
    ],
)
def test_a_cell_is_a_label_a_size_a_place_and_an_outline(other: tuple[float, ...], label: int, is_same: bool) -> None:
    assert (cell(other, label) == cell(WALKER)) is is_same


@given(st.lists(st.floats(), min_size=4, max_size=4))
def test_whatever_a_device_says_is_in_some_cell(box: list[float]) -> None:
    assert 0 <= cell(tuple(box)) < 2**62


@given(st.floats(0.25, 4.0), st.floats(0, 1000), st.floats(300, 1000))
def test_a_street_seen_larger_has_as_many_places(scale: float, x: float, y: float) -> None:
    near, far = moved(WALKER, x, y), moved(WALKER, x + 400, y)
    large = [tuple(scale * side for side in box) for box in (near, far)]
    assert (cell(near) == cell(far)) == (cell(large[0]) == cell(large[1])) is False


def test_a_parked_lane_is_learned_once() -> None:
    lane = [cell(moved(WALKER, 200 * place, 0)) for place in range(5)]
    first = seen(*lane * FULL)
    covered = coverage_of(first)
    assert gain_of(first, {}) == Gain(5 * FULL, 5 * FULL)
    again = first + seen(*lane * 200, first_track=1000)
    assert count_of(again).crops == 5 * FULL + 1000
    assert gain_of(again, covered) == Gain(0, 0)


def test_the_same_object_at_the_same_place_counts_once() -> None:
    here = cell(WALKER)
    assert gain_of([Sighting(here, 7, when) for when in range(50)], {}) == Gain(1, 1)


def test_what_fills_a_cell_is_new_and_what_overflows_is_not() -> None:
    here, there = cell(WALKER), cell(moved(WALKER, 500, 0))
    before = seen(here)
    after = before + seen(here, here, here, here, there, first_track=10)
    assert gain_of(after, coverage_of(before)) == Gain(FULL - 1 + 1, FULL - 1 + 1)


def test_what_has_expired_was_learned_all_the_same() -> None:
    lane = [cell(moved(WALKER, 200 * place, 0)) for place in range(4)]
    covered = coverage_of(seen(*lane * FULL))
    assert gain_of(seen(*lane, first_track=50), covered) == Gain(0, 0)


def test_what_came_since() -> None:
    assert count_of(seen(1, 2, 3), since_us=1000) == Gain(2, 2)
    assert count_of([]) == Gain()


def test_no_box_at_all() -> None:
    assert cells_of([], np.empty((0, 4))) == []
