from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.scenes import Thing, walk
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.shape import count_summits, describe, ground_contact, rigidity


def patch_of(kind: str, height: int, time_s: float = 0.2) -> PatchMask:
    return PatchMask.from_full(Thing(walk((160, 200), (0, 0)), kind, height).mask(time_s, (240, 320)))


def two_people() -> PatchMask:
    left = Thing(walk((140, 200), (0, 0))).mask(0.1, (240, 320))
    return PatchMask.from_full(left | Thing(walk((160, 200), (0, 0))).mask(0.3, (240, 320)))


@given(st.integers(3, 60), st.integers(3, 60))
def test_a_rectangle_is_convex_and_full(width: int, height: int) -> None:
    shape = describe(PatchMask(5, 7, np.ones((height, width), bool)))
    assert shape.aspect == pytest.approx(height / width)
    assert shape.fill == 1
    assert shape.solidity == pytest.approx(1)
    assert shape.notch == 0
    assert shape.heads == 1


@given(st.integers(1, 25), st.integers(1, 25))
def test_measures_are_fractions(rx: int, ry: int) -> None:
    canvas = np.zeros((60, 60), np.uint8)
    cv2.ellipse(canvas, (30, 30), (rx, ry), 0, 0, 360, 1, -1)
    shape = describe(PatchMask.from_full(canvas > 0))
    assert all(0 <= value <= 1 for value in (shape.fill, shape.solidity, shape.head))
    assert rigidity(shape, shape) == pytest.approx(1)


def test_a_person_has_one_head_and_two_have_two() -> None:
    assert describe(patch_of("person", 80)).heads == 1
    assert describe(two_people()).heads == 2
    assert count_summits(np.ones((40, 30), bool)) == 1


def test_two_things_side_by_side_leave_a_notch() -> None:
    mask = np.zeros((40, 90), bool)
    mask[10:, :40] = True
    mask[:30, 48:] = True
    mask[10:30] = True
    assert describe(PatchMask(0, 0, mask)).notch > describe(patch_of("car", 60)).notch
    assert describe(PatchMask(0, 0, mask)).notch > 0.15


def test_a_walker_changes_and_a_car_does_not() -> None:
    walker = rigidity(describe(patch_of("person", 90, 0.0)), describe(patch_of("person", 90, 0.28)))
    car = rigidity(describe(patch_of("car", 60, 0.0)), describe(patch_of("car", 60, 0.28)))
    assert walker < 0.85 < 0.98 < car


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40), st.integers(1, 40))
def test_ground_contact_is_the_middle_of_the_lowest_row(x: int, y: int, width: int, height: int) -> None:
    assert ground_contact(PatchMask(x, y, np.ones((height, width), bool))) == (x + width / 2, y + height)
