from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crops import crop, moment_at
from walt_edge.contract.masks import Mask
from walt_edge.contract.messages import Clock, CropHeader
from walt_edge.selecting.novelty import UNKNOWN_HOUR, Likeness, Novelty, pose

DAY_S = 86_400.0


def ellipse(height: int, width: int) -> Mask:
    y, x = np.mgrid[:height, :width]
    inside: Mask = ((y + 0.5) / height * 2 - 1) ** 2 + ((x + 0.5) / width * 2 - 1) ** 2 <= 1
    return inside


def leaning(side: int, *, right: bool) -> Mask:
    """A flank whose upper half sits at one end."""
    mask = np.ones((side, 2 * side), bool)
    mask[: side // 2, :side] = False
    return mask if right else np.ascontiguousarray(mask[:, ::-1])


def likeness(at_s: float = 0.0, clock: Clock = Clock.SYNCHRONISED, **more: object) -> Likeness:
    header = crop(1, moment_at(at_s, clock=clock), **more).envelope.header  # type: ignore[arg-type]
    assert isinstance(header, CropHeader)
    return Likeness.of(header)


@settings(deadline=None, max_examples=50)
@given(st.integers(20, 60), st.integers(20, 60), st.integers(0, 30), st.integers(0, 30), st.integers(2, 3))
def test_a_pose_is_the_same_wherever_it_lies_and_however_large(
    height: int, width: int, down: int, right: int, scale: int
) -> None:
    mask = ellipse(height, width)
    moved = np.pad(mask, ((down, 3), (right, 5)))
    larger = np.kron(mask, np.ones((scale, scale), bool)).astype(bool)
    assert pose(moved) == pose(mask)
    if height % 2 == 0:  # the halves are the same then
        assert pose(larger) == pose(mask)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.randoms())
def test_every_mask_has_a_pose_in_range(height: int, width: int, chance: object) -> None:
    mask = np.array([[chance.random() < 0.5 for _ in range(width)] for _ in range(height)])  # type: ignore[attr-defined]
    assert 0 <= pose(mask) < 45


def test_poses_that_differ_are_told_apart() -> None:
    masks = [
        ellipse(40, 40),
        ellipse(90, 30),
        ellipse(30, 70),
        leaning(30, right=True),
        leaning(30, right=False),
        np.tri(40, 40, dtype=bool),
    ]
    assert len({pose(mask) for mask in masks}) == len(masks)


def test_cells_tell_place_and_hour_apart() -> None:
    noon, unsure = likeness(0.0), likeness(0.0, Clock.UNSYNCHRONISED)
    assert likeness(6 * 3600.0).hour != noon.hour
    assert unsure.hour == UNKNOWN_HOUR != noon.hour
    assert likeness(corner_xy=(500, 300)).place != noon.place
    assert likeness(corner_xy=(104, 104)).place == noon.place


def test_more_of_the_same_is_worth_less_and_recovers() -> None:
    novelty = Novelty(half_life_s=2 * DAY_S, alike=8.0)
    found = []
    for _ in range(30):
        found.append(novelty(likeness(), 0.0))
        novelty.add(likeness(), 0.0)
    assert found[0] == 1.0
    assert found == sorted(found, reverse=True)
    assert found[8] == pytest.approx(0.5), "so many alike halve it"
    assert novelty(likeness(), 2 * DAY_S) > novelty(likeness(), 0.0)
    assert novelty(likeness(), 100 * DAY_S) == pytest.approx(1.0, abs=1e-3)


def test_what_differs_in_one_respect_is_new_in_part() -> None:
    novelty = Novelty(half_life_s=2 * DAY_S, alike=8.0)
    for _ in range(200):
        novelty.add(likeness(), 0.0)
    same, elsewhere = likeness(), likeness(corner_xy=(500, 300))
    assert novelty(same, 0.0) < 0.05 < 0.5 < novelty(elsewhere, 0.0) < 1.0


def test_what_is_kept_over_a_restart_counts_as_before() -> None:
    novelty = Novelty(half_life_s=DAY_S, alike=8.0)
    for number in range(20):
        novelty.add(likeness(corner_xy=(number * 20, 100)), 0.0)
    again = Novelty(DAY_S, 8.0, novelty.kept(3600.0))
    assert again(likeness(), DAY_S) == pytest.approx(novelty(likeness(), DAY_S), rel=1e-2)
    assert novelty.kept(60 * DAY_S) == {}, "what has faded is not written"


def test_memory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("walt_edge.selecting.novelty._CELLS_MAX", 100)
    novelty = Novelty(half_life_s=DAY_S, alike=8.0)
    for number in range(2000):
        novelty.add(Likeness(f"cam-{number}/1", 0, 0, 0), float(number))
    assert len(novelty.kept(2000.0)) <= 100
