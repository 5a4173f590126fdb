from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_edge.tracking.motion import LEAST_SIDE_PX, Motion, boxes_of, states_of

MEMORY_S = np.array([6.0, 6.0, 1.0, 1.0])
NOISE = np.full((1, 4), 100.0)
ROW = np.array([0])


def one() -> Motion:
    motion = Motion()
    motion.add(np.array([[100.0, 200.0, 20.0, 50.0]]), np.full((1, 4), 2.0), np.full((1, 4), 30.0))
    return motion


def test_what_moves_evenly_is_foreseen() -> None:
    motion = one()
    for step in range(1, 30):
        motion.predict(0.2, NOISE, MEMORY_S)
        motion.correct(ROW, np.array([[100 + 6.0 * step, 200, 20, 50]]), np.full((1, 4), 4.0))
    assert motion.mean[0, 0, 1] == pytest.approx(30, rel=0.1)
    motion.predict(0.2, NOISE, MEMORY_S)
    assert motion.mean[0, 0, 0] == pytest.approx(280, abs=2)


def test_one_long_step_is_as_many_short_ones_but_for_the_noise() -> None:
    long, short = one(), one()
    for motion in (long, short):
        motion.mean[:, :, 1] = (20, -4, 1, 2)
    quiet = np.zeros((1, 4))
    long.predict(1.0, quiet, MEMORY_S)
    for _ in range(10):
        short.predict(0.1, quiet, MEMORY_S)
    assert np.allclose(long.mean, short.mean)
    assert np.allclose(long.cov, short.cov)


def test_a_number_that_is_not_told_changes_nothing() -> None:
    motion = one()
    motion.predict(0.2, NOISE, MEMORY_S)
    mean, cov = motion.mean.copy(), motion.cov.copy()
    motion.correct(ROW, np.array([[500.0, 200, 20, 50]]), np.array([[np.inf, 4, 4, 4]]))
    assert np.allclose(motion.mean[0, 0], mean[0, 0])
    assert np.allclose(motion.cov[0, 0], cov[0, 0])


def test_a_place_that_is_learned_otherwise_takes_the_speed_along() -> None:
    motion = one()
    motion.predict(1.0, NOISE, MEMORY_S)
    before = motion.cov.copy()
    motion.restrict(0, motion.mean[0, :2, 0] - (15, 0), motion.cov[0, :2, 0] / 2)
    assert motion.mean[0, 0, 1] < -5
    assert motion.mean[0, 1, 1] == pytest.approx(0)
    assert (motion.cov[0, :2, 2] < before[0, :2, 2]).all()
    assert (motion.cov[0, :2, 0] * motion.cov[0, :2, 2] >= motion.cov[0, :2, 1] ** 2).all()


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(-50, 700), st.floats(2, 300)), min_size=1, max_size=12))
def test_beliefs_stay_sound(steps: list[tuple[float, float, float]]) -> None:
    motion = one()
    for elapsed_s, x, side in steps:
        motion.predict(elapsed_s, NOISE, MEMORY_S)
        motion.correct(ROW, np.array([[x, 200, side, side]]), np.full((1, 4), 4.0))
    assert np.isfinite(motion.mean).all()
    assert (motion.cov[:, :, 0] > 0).all()
    assert (motion.cov[:, :, 0] * motion.cov[:, :, 2] >= motion.cov[:, :, 1] ** 2 * (1 - 1e-9)).all()
    assert (motion.mean[:, 2:, 0] >= LEAST_SIDE_PX).all()


@given(st.floats(-100, 700), st.floats(-100, 700), st.floats(2, 400), st.floats(2, 400))
def test_boxes_and_states_are_the_same(x0: float, y0: float, width: float, height: float) -> None:
    box = np.array([x0, y0, x0 + width, y0 + height])
    assert np.allclose(boxes_of(states_of(box)), box)
