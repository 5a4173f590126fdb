from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_edge.contract.masks import PatchMask
from walt_edge.tracking.hiding import Cover, not_seen

PERSON = np.array([300.0, 150.0, 20.0, 50.0])


def wall(x0: int, x1: int, bottom: float = 200, owner: int | None = 7) -> Cover:
    return Cover(PatchMask(x0, 60, np.ones((140, x1 - x0), bool)), bottom, owner)


def test_in_the_open_it_counts_fully_and_moves_nothing() -> None:
    unseen = not_seen(PERSON, np.array([100.0, 25.0]), [], 0.4)
    assert unseen.likelihood == pytest.approx(0.6)
    assert unseen.place == pytest.approx(PERSON[:2])
    assert unseen.variance == pytest.approx([100, 25])
    assert (unseen.hidden_share, unseen.owner) == (0, None)


def test_behind_something_nearer_it_says_nothing() -> None:
    unseen = not_seen(PERSON, np.array([100.0, 25.0]), [wall(200, 400)], 0.4)
    assert unseen.likelihood == pytest.approx(1)
    assert unseen.hidden_share == pytest.approx(1)
    assert unseen.owner == 7


@pytest.mark.parametrize("cover", [wall(200, 400, bottom=120), wall(500, 600), wall(200, 205)])
def test_what_is_farther_elsewhere_or_narrow_hides_nobody(cover: Cover) -> None:
    assert not_seen(PERSON, np.array([4.0, 1.0]), [cover], 0.4).likelihood == pytest.approx(0.6, abs=0.01)


def test_who_should_have_come_out_is_still_behind() -> None:
    unseen = not_seen(PERSON, np.array([900.0, 25.0]), [wall(200, 300)], 0.5)
    assert unseen.place[0] < 295
    assert 0.5 < unseen.likelihood < 1


def test_who_covers_most_is_named() -> None:
    covers = [wall(288, 296, owner=3), wall(290, 330, owner=None), wall(200, 292, owner=5)]
    assert not_seen(PERSON, np.array([4.0, 1.0]), covers, 0.4).owner is None


def test_a_cover_moves_with_its_object() -> None:
    moved = wall(200, 400).moved(250, -10)
    assert (moved.mask.x, moved.mask.y, moved.bottom) == (450, 50, 190)


@given(
    st.lists(st.tuples(st.integers(-50, 650), st.integers(1, 300), st.floats(0, 360)), max_size=4),
    st.floats(0.01, 1e5),
    st.floats(0, 0.99),
)
def test_the_answer_is_a_sound_belief(walls: list[tuple[int, int, float]], variance: float, found: float) -> None:
    covers = [wall(x, x + width, bottom, number) for number, (x, width, bottom) in enumerate(walls)]
    unseen = not_seen(PERSON, np.array([variance, variance / 4]), covers, found)
    assert 1 - found - 1e-9 <= unseen.likelihood <= 1 + 1e-9
    assert -1e-9 <= unseen.hidden_share <= 1 + 1e-9
    assert np.isfinite(unseen.place).all()
    assert (unseen.variance >= 0).all()
