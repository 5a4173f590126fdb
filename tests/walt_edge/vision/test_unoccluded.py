from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.vision import unoccluded
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import describe
from walt_edge.vision.sightings import Reason

SETTINGS = WatchSettings()


def square(x: int, y: int, side: int = 40) -> PatchMask:
    return PatchMask(x, y, np.ones((side, side), bool))


@pytest.mark.parametrize(("gap", "clear"), [(0, False), (2, False), (6, True), (12, True)])
def test_any_neighbour_within_three_pixels_disqualifies(gap: int, clear: bool) -> None:
    speck = PatchMask(60 + gap, 30, np.ones((3, 3), bool))
    painted = unoccluded.label_map([square(20, 20), speck], 100, 120)
    part = unoccluded.neighbour_part(0, square(20, 20), painted, SETTINGS)
    assert (part >= SETTINGS.whole_confidence) is clear
    assert (part == 1) is (gap >= 3 * SETTINGS.clear_px)


@pytest.mark.parametrize(
    ("x", "y", "clear"),
    [(0, 30, False), (2, 30, False), (20, 0, False), (80, 30, False), (20, 59, False), (20, 30, True)],
)
def test_the_frames_edge_cuts(x: int, y: int, clear: bool) -> None:
    part = unoccluded.border_part(square(x, y), (120, 100), SETTINGS)
    assert (part >= SETTINGS.whole_confidence) is clear


@pytest.mark.parametrize(
    ("width", "height", "clear"), [(25, 28, False), (27, 29, False), (30, 30, True), (10, 200, False), (60, 60, True)]
)
def test_small_is_not_taken(width: int, height: int, clear: bool) -> None:
    part = unoccluded.small_part(PatchMask(0, 0, np.ones((height, width), bool)), SETTINGS)
    assert (part >= SETTINGS.whole_confidence) is clear


def test_unknown_plate_around_it_disqualifies() -> None:
    known = np.ones((100, 120), bool)
    assert unoccluded.known_part(square(20, 20), known) == 1
    known[20:40, 20:40] = False
    assert unoccluded.known_part(square(20, 20), known) < 0.5


def test_what_moves_above_its_crown_disqualifies() -> None:
    moving = square(20, 40).full(100, 120)
    assert unoccluded.crown_part(square(20, 40), moving, SETTINGS) == 1
    moving[20:40, 20:60] = True
    assert unoccluded.crown_part(square(20, 40), moving, SETTINGS) < 0.5


def test_a_cast_shadow_at_its_foot_does_not() -> None:
    moving = square(20, 40).full(100, 120)
    moving[72:82, 20:110] = True
    assert unoccluded.crown_part(square(20, 40), moving, SETTINGS) == 1


def test_an_outline_that_is_no_edge_disqualifies() -> None:
    frame = np.full((100, 120, 3), 90, np.uint8)
    frame[20:60, 20:60] = 180
    assert unoccluded.edge_part(square(20, 20), frame, SETTINGS) == 1
    assert unoccluded.edge_part(PatchMask(20, 20, np.ones((40, 90), bool)), frame, SETTINGS) < 0.5


def test_a_side_along_an_edge_of_the_plate_was_cut() -> None:
    gradient = np.zeros((100, 120), np.uint8)
    assert unoccluded.cut_part(square(20, 20), gradient, SETTINGS) == 1
    gradient[:, 60:63] = 90  # a post, where the square ends
    assert unoccluded.cut_part(square(20, 20), gradient, SETTINGS) < 0.5
    assert unoccluded.cut_part(square(40, 20), gradient, SETTINGS) == 1, "the post is behind its middle"


def test_motion_blur_is_seen() -> None:
    sharp = np.full((100, 120, 3), 90, np.uint8)
    sharp[20:60, 30:70] = 200
    soft = sharp.astype(float)
    for _ in range(9):
        soft = (np.roll(soft, 1, axis=1) + soft + np.roll(soft, -1, axis=1)) / 3
    crisp = unoccluded.sharpness(square(30, 20), sharp)
    blurred = unoccluded.sharpness(square(30, 20), np.roll(soft, 0).astype(np.uint8))
    assert crisp > blurred


@pytest.mark.parametrize(
    ("label", "ratio", "reason"),
    [
        (Label.PERSON, 1.0, None),
        (Label.PERSON, 0.6, Reason.FRAGMENT),
        (Label.PERSON, 1.5, Reason.MERGED),
        (Label.VEHICLE, 1.2, None),
        (Label.VEHICLE, 0.45, Reason.FRAGMENT),
        (Label.VEHICLE, 1.9, Reason.MERGED),
    ],
)
def test_size_off_the_line_is_a_reason(label: Label, ratio: float, reason: Reason | None) -> None:
    parts = unoccluded.size_parts(ratio, label, SETTINGS)
    low = [name for name, part in parts.items() if part < SETTINGS.whole_confidence]
    assert low == ([] if reason is None else [reason])


def test_a_wide_outline_is_no_person_and_a_high_one_no_vehicle() -> None:
    wide, high = (
        describe(PatchMask(0, 0, np.ones((30, 60), bool))),
        describe(PatchMask(0, 0, np.ones((60, 30), bool))),
    )
    assert unoccluded.proportion_part(Label.PERSON, wide) < 0.5
    assert unoccluded.proportion_part(Label.VEHICLE, high) < 0.5
    assert unoccluded.proportion_part(Label.VEHICLE, wide) == 1


def test_verdict_names_what_failed_and_multiplies() -> None:
    outcome = unoccluded.verdict({Reason.BORDER: 1.0, Reason.NEIGHBOUR: 0.2, Reason.SMALL: 0.5}, SETTINGS)
    assert outcome.reasons == (Reason.NEIGHBOUR,)
    assert outcome.confidence == pytest.approx(0.1)


def test_many_small_doubts_are_one() -> None:
    parts = {Reason.BORDER: 0.6, Reason.NEIGHBOUR: 0.55, Reason.SMALL: 0.6, Reason.BLURRED: 0.9}
    assert unoccluded.verdict(parts, SETTINGS).reasons == (Reason.NEIGHBOUR,)


@given(st.floats(-5, 5), st.floats(-2, 0), st.floats(0.1, 2), st.floats(0, 1), st.floats(0, 1))
def test_ramp_stays_within_its_ends(value: float, start: float, end: float, low: float, middle: float) -> None:
    result = unoccluded.ramp(value, start, end, low=low, middle=middle)
    assert min(low, middle) - 1e-9 <= result <= 1 + 1e-9
