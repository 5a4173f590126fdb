"""What is learned about a head covers the moments around, where the head was then."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.privacy.head_memory import HeadMemory
from walt_edge.vision.sightings import Reason, Sighting

WH = (400, 300)
STEP_S = 0.1


def upright(
    x: float, top: float, label: Label | None = Label.PERSON, score: float = 0.9, *reasons: Reason, track_id: int = 7
) -> Sighting:
    """Somebody 30 px wide and 80 px high, by the middle of their upper edge."""
    patch = PatchMask(round(x) - 15, round(top), np.ones((80, 30), bool))
    return Sighting(patch, label, score, (x, top + 80), track_id=track_id, reasons=tuple(reasons))


def car(x: float, label: Label | None = Label.VEHICLE, score: float = 0.9, *reasons: Reason) -> Sighting:
    """A vehicle 100 px wide."""
    patch = PatchMask(round(x), 150, np.ones((50, 100), bool))
    return Sighting(patch, label, score, (x, 200), track_id=7, reasons=tuple(reasons))


def head(x: float, top: float) -> Mask:
    """The pixels of that person's head."""
    rows, columns = np.mgrid[: WH[1], : WH[0]]
    inside: Mask = (columns + 0.5 - x) ** 2 + (rows + 0.5 - top - 8) ** 2 <= 7**2
    return inside


def covered(memory: HeadMemory, time_s: float) -> Mask:
    out = np.zeros((WH[1], WH[0]), bool)
    for patch in memory.heads_at(time_s):
        out |= patch.full(*out.shape)
    return out


def walked(seen_s: list[float], speed_x: float = 50.0, speed_y: float = 0.0) -> HeadMemory:
    """Who is seen at these times on a straight walk."""
    memory = HeadMemory(WH)
    for time_s in seen_s:
        memory.note(time_s, [upright(150 + speed_x * time_s, 100 + speed_y * time_s)], [])
    return memory


@pytest.mark.parametrize("at_s", [0.1, 0.4, 0.7, 1.3, 1.6, 1.9, 2.5, 2.9])
def test_a_head_is_carried_to_where_its_outline_is_missing(at_s: float) -> None:
    """Before the first outline, between two, and after the last."""
    memory = walked([1.0, 1.1, 1.2, 2.0, 2.1])
    x = 150 + 50 * at_s
    assert covered(memory, at_s)[head(x, 100)].all()
    assert covered(memory, at_s).mean() < 0.05, "and little else"


@pytest.mark.parametrize("at_s", [-0.2, 1.0, 1.1, 2.0, 3.2])
def test_nothing_is_carried_to_where_it_has_an_outline_or_is_long_gone(at_s: float) -> None:
    assert not covered(walked([1.0, 1.1, 1.2, 2.0, 2.1]), at_s).any()


@settings(max_examples=40, deadline=None)
@given(st.floats(-80, 80), st.floats(-30, 30), st.integers(2, 9), st.booleans())
def test_any_straight_walk_is_followed(speed_x: float, speed_y: float, gap: int, before: bool) -> None:
    seen = [1.0 + STEP_S * n for n in range(6)]
    at_s = seen[0] - STEP_S * gap if before else seen[-1] + STEP_S * gap
    memory = walked(seen, speed_x, speed_y)
    assert covered(memory, at_s)[head(150 + speed_x * at_s, 100 + speed_y * at_s)].all()


def test_a_flicker_is_not_carried() -> None:
    memory = HeadMemory(WH)
    for time_s in (1.0, 1.1):
        memory.note(time_s, [upright(150, 100, None, 0.0)], [])
    assert not covered(memory, 1.4).any()
    memory.note(1.2, [upright(150, 100, None, 0.0)], [])
    assert covered(memory, 1.4)[head(150, 100)].all()


@pytest.mark.parametrize(
    ("moment", "is_person"),
    [
        pytest.param(car(100, Label.PERSON, 0.4), True, id="a person once"),
        pytest.param(car(100, Label.VEHICLE, 0.3), True, id="no longer sure"),
        pytest.param(car(100, None, 0.0), True, id="no longer classified"),
        pytest.param(car(100, None, 0.0, Reason.MERGED), False, id="its outline alone is doubted"),
        pytest.param(car(100), False, id="sure all along"),
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_who_is_a_person_once_is_one_in_all_frames_around(moment: Sighting, is_person: bool, earlier: bool) -> None:
    memory = HeadMemory(WH)
    memory.note(0.0, [car(80)], [])
    memory.note(1.0, [moment if earlier else car(100)], [])
    memory.note(1.5, [car(110)], [])
    memory.note(2.0, [car(120) if earlier else moment], [])
    memory.forget(1.5)
    (judged,) = memory.judged([car(110)])
    assert (judged.label is None) == is_person


def test_that_nothing_is_known_of_it_yet_says_nothing_about_a_vehicle_later() -> None:
    memory = HeadMemory(WH)
    memory.note(0.5, [car(90, None, 0.0)], [])
    memory.note(1.0, [car(100)], [])
    assert [one.label for one in memory.judged([car(100)])] == [Label.VEHICLE]
    assert not covered(memory, 1.4).any(), "a vehicle that was lost has no head"


@pytest.mark.parametrize("label", [None, Label.PERSON])
def test_a_stranger_that_was_lost_leaves_sure_vehicles_alone_and_a_person_does_not(label: Label | None) -> None:
    memory = HeadMemory(WH)
    for time_s in (1.0, 1.1, 1.2):
        memory.note(time_s, [upright(150, 100, label, 0.9)], [])
    van = Sighting(PatchMask(100, 90, np.ones((100, 160), bool)), Label.VEHICLE, 0.9, (180, 190), track_id=9)
    doubted = Sighting(van.silhouette, None, 0.0, (180, 190), track_id=9, reasons=(Reason.MERGED,))
    for there, is_left in ((van, label is None), (doubted, False)):
        out = np.zeros((WH[1], WH[0]), bool)
        for patch in memory.heads_at(1.5, [there]):
            out |= patch.full(*out.shape)
        assert out[head(150, 100)].any() != is_left


def test_a_face_moves_with_whom_it_belongs_to_and_else_stays() -> None:
    memory = HeadMemory(WH)
    face = PatchMask(143, 100, np.ones((14, 14), bool))
    alone = PatchMask(300, 40, np.ones((14, 14), bool))
    for time_s in (0.0, 0.5, 1.0, 1.5):
        seen = [upright(150 + 40 * time_s, 100)]
        memory.note(time_s, seen, [face, alone] if time_s == 0 else [])
    for time_s in (0.0, 0.5, 1.0):
        found = covered(memory, time_s)
        assert found[100:114, 143 + round(40 * time_s) : 157 + round(40 * time_s)].all()
        assert found[40:54, 300:314].all()
    assert found[100:114, 143:150].mean() < 0.3
    assert not covered(memory, 1.5).any()


def test_what_is_out_of_reach_is_forgotten() -> None:
    memory = walked([0.0, 0.1, 0.2])
    memory.note(0.3, [], [PatchMask(10, 10, np.ones((5, 5), bool))])
    memory.forget(1.1)
    assert covered(memory, 1.15).any()
    memory.forget(1.4)
    assert memory.heads_at(1.15) == []
