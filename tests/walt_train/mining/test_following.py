from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_train.mining.following import Follower

PERSON, VEHICLE = Label.PERSON, Label.VEHICLE


def boxes(*centres: tuple[float, float], side: float = 40.0) -> NDArray[np.float64]:
    """Squares around centres."""
    return np.array([(x - side / 2, y - side / 2, x + side / 2, y + side / 2) for x, y in centres], float).reshape(
        -1, 4
    )


def test_two_who_cross_keep_their_numbers() -> None:
    follower = Follower()
    seen = []
    for step in range(11):
        x = 26.0 * step
        seen.append(follower.update(boxes((x, 100), (273 - x, 112)), [PERSON, PERSON], 0.4 * step))
    assert seen == [[1, 2]] * 11


def test_a_small_box_inside_a_large_one_is_an_object_of_its_own() -> None:
    follower = Follower()
    large, small = boxes((100, 100), side=120), boxes((100, 100), side=50)
    assert follower.update(large, [VEHICLE], 0.0) == [1]
    assert follower.update(np.concatenate([large, small]), [VEHICLE, VEHICLE], 0.4) == [1, 2]


def test_another_class_is_another_object() -> None:
    follower = Follower()
    assert follower.update(boxes((100, 100)), [PERSON], 0.0) == [1]
    assert follower.update(boxes((100, 100)), [VEHICLE], 0.4) == [2]


def test_who_was_away_too_long_is_new_and_who_was_away_shortly_is_not() -> None:
    follower = Follower()
    assert follower.update(boxes((100, 100)), [PERSON], 0.0) == [1]
    assert follower.update(boxes(), [], 0.4) == []
    assert follower.update(boxes((104, 100)), [PERSON], 1.6) == [1]
    assert follower.update(boxes((104, 100)), [PERSON], 4.0) == [2]


def test_an_expectation_follows_the_speed() -> None:
    follower = Follower()
    for step in range(4):
        follower.update(boxes((25.0 * step, 100)), [PERSON], 0.4 * step)
    # Two looks later it is where a box that stood still would no longer overlap with it.
    assert follower.update(boxes((25.0 * 5, 100)), [PERSON], 0.4 * 5) == [1]
