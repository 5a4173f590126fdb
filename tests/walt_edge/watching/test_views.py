from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.envelopes import sealed
from tests.fakes.scenes import frame_of
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.messages import CropHeader
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import describe
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.watching.tracking import Observation
from walt_edge.watching.views import View, ViewKeeper, context, worth, worth_of_header

SETTINGS = WatchSettings()
PATCH = PatchMask(0, 0, np.ones((40, 20), bool))


def view(time_s: float, x: float, confidence: float, sharpness: float = 0.8) -> View:
    frame = frame_of(np.zeros((50, 50, 3), np.uint8), 0, time_s)
    sighting = Sighting(PATCH, Label.PERSON, 1.0, (10.0, 40.0), 1, unoccluded_confidence=confidence)
    image = Anonymiser()(frame.bgr, [], np.zeros((50, 50), bool))
    seen = Observation(time_s, (x, 0.0, x + 20, 40.0), 800, True)
    return View(sighting, seen, describe(PATCH), image, (0, 0), frame.captured, sharpness)


def keep(keeper: ViewKeeper, one: View) -> bool:
    wanted = keeper.wants(one.observation, one.worth)
    if wanted:
        keeper.keep(one)
    return wanted


def test_the_better_of_two_near_views_stays() -> None:
    keeper = ViewKeeper(SETTINGS)
    assert keep(keeper, view(0.0, 0, 0.5))
    assert not keep(keeper, view(0.2, 2, 0.4))
    assert keep(keeper, view(0.4, 4, 0.9))
    assert [one.sighting.unoccluded_confidence for one in keeper.views] == [0.9]


def test_views_apart_in_time_and_place_are_both_kept() -> None:
    keeper = ViewKeeper(SETTINGS)
    assert keep(keeper, view(0.0, 0, 0.9))
    assert keep(keeper, view(2.0, 40, 0.4))
    assert not keep(keeper, view(5.0, 42, 0.3)), "a standing object counts once"


def test_the_quota_is_for_the_whole_track() -> None:
    keeper = ViewKeeper(SETTINGS)
    for index in range(12):
        keep(keeper, view(2.0 * index, 40.0 * index, 0.5 + 0.01 * index))
    assert len(keeper.views) <= 2 * SETTINGS.views_per_track
    sent = keeper.take(keeper.views)
    assert len(sent) == SETTINGS.views_per_track
    assert [one.worth for one in sent] == sorted((one.worth for one in sent), reverse=True)
    assert not keep(keeper, view(99.0, 4000, 1.0))


def test_nothing_near_a_sent_view_is_wanted_again() -> None:
    keeper = ViewKeeper(SETTINGS)
    keep(keeper, view(0.0, 0, 0.5))
    keeper.take(keeper.views)
    assert not keep(keeper, view(30.0, 1, 1.0))
    assert keep(keeper, view(30.0, 50, 0.4))


@pytest.mark.parametrize(("better", "worse"), [((0.9, 0.5), (0.5, 0.5)), ((0.5, 0.9), (0.5, 0.4))])
def test_worth_rises_with_confidence_and_sharpness(better: tuple[float, float], worse: tuple[float, float]) -> None:
    one, other = view(0, 0, better[0], better[1]), view(0, 0, worse[0], worse[1])
    assert worth(one.sighting, one.sharpness) > worth(other.sighting, other.sharpness)


@pytest.mark.parametrize(
    ("box_xyxy", "expected"),
    [((50, 50, 70, 90), 1.0), ((0, 50, 20, 90), 0.0), ((4, 50, 24, 90), 0.5), ((300, 50, 316, 90), 0.5)],
    ids=["clear", "touches", "half a margin left", "half a margin right"],
)
def test_context_is_what_the_frame_leaves_of_the_margin(
    box_xyxy: tuple[float, float, float, float], expected: float
) -> None:
    assert context(box_xyxy, (320, 240), 8) == expected


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1))
def test_truncation_and_filling_only_ever_cost(sharp: float, around: float, filled: float, confidence: float) -> None:
    sighting = Sighting(PATCH, Label.PERSON, 1.0, (10.0, 40.0), 1, unoccluded_confidence=confidence)
    best = worth(sighting, sharp)
    assert 0 <= worth(sighting, sharp, around, filled) <= best
    assert worth(sighting, sharp, 0.0) == pytest.approx(best / 2)


def test_of_two_near_views_the_one_clear_of_the_border_stays() -> None:
    keeper = ViewKeeper(SETTINGS)
    assert keep(keeper, dataclasses.replace(view(0.0, 0, 0.9), context=0.1))
    assert keep(keeper, view(0.2, 2, 0.8))


def test_a_sealed_crop_is_worth_less_at_the_border() -> None:
    header = sealed(1, side_px=32).envelope.header
    assert isinstance(header, CropHeader)
    inside = msgspec.structs.replace(header, box_xyxy=(100.0, 100.0, 132.0, 132.0))
    blurred = msgspec.structs.replace(inside, confidence_parts={Reason.BLURRED.value: 0.3})
    assert worth_of_header(header) == pytest.approx(worth_of_header(inside) / 2)
    assert worth_of_header(blurred) < worth_of_header(inside)
