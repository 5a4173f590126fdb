"""Outlines: what a browser fills from them is the mask they came from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.envelopes import image, moment
from tests.fakes.agent_view import FakeAgentView
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.vision.sightings import Reason, Sighting
from walt_edge.web.outlines import Polygon, overlay_of, polygons
from walt_edge.web.status import Carried, LiveFrame

SHAPE = (90, 120)


def filled(outline: list[Polygon]) -> Mask:
    """As a browser fills by the even-odd rule, its line included."""
    canvas = np.zeros(SHAPE, np.uint8)
    corners = [np.array(polygon, np.int32) for polygon in outline]
    if corners:
        cv2.fillPoly(canvas, corners, 1)
    return canvas > 0


@given(
    st.lists(
        st.tuples(st.integers(12, 108), st.integers(12, 78), st.integers(5, 30), st.booleans()),
        min_size=1,
        max_size=4,
    )
)
def test_filling_an_outline_gives_the_mask_again(discs: list[tuple[int, int, int, bool]]) -> None:
    canvas = np.zeros(SHAPE, np.uint8)
    cv2.circle(canvas, (60, 45), 30, 1, -1)
    for x, y, radius, is_hole in discs:
        cv2.circle(canvas, (x, y), radius, 0 if is_hole else 1, -1)
    mask = PatchMask.from_full(canvas > 0)
    if mask.area < 400:
        return
    drawn = PatchMask.from_full(filled(polygons(mask)))
    assert drawn.iou(mask) > 0.85


def test_a_hole_stays_a_hole() -> None:
    ring = np.zeros(SHAPE, np.uint8)
    cv2.circle(ring, (60, 45), 30, 1, 8)
    outline = polygons(PatchMask.from_full(ring > 0))
    assert len(outline) == 2
    assert not filled(outline)[45, 60]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 5)])
def test_an_empty_mask_has_no_outline(shape: tuple[int, int]) -> None:
    assert polygons(PatchMask(3, 4, np.zeros(shape, bool))) == []


def test_an_overlay_tells_whole_and_hidden_parts_in_frame_pixels() -> None:
    whole = PatchMask(10, 20, np.ones((40, 20), bool))
    front = PatchMask(10, 40, np.ones((20, 20), bool))
    instances = AmodalInstances(
        (120, 90),
        np.array([[10, 20, 30, 60]], np.float32),
        np.array([int(Label.VEHICLE)], np.int64),
        np.array([0.876], np.float32),
        (whole,),
        (front,),
        (front,),
    )
    frame = LiveFrame(
        "gate",
        image(np.zeros((90, 120, 3), np.uint8)),
        moment(5_000_000_000),
        sightings=(Sighting(whole, None, 0.5, (0, 0), track_id=4, reasons=(Reason.BORDER,)),),
        instances=instances,
        track_ids=(7,),
        carried=(Carried(9, Label.PERSON, (1.04, 2.0, 3.0, 4.0), 2.5),),
    )
    overlay = overlay_of(frame, now_ns=5_250_000_000)
    assert overlay.age_s == pytest.approx(0.25)
    assert (overlay.frame_wh, overlay.number) == ((120, 90), 5_000_000)
    assert overlay.amodal is not None
    (object_,) = overlay.amodal
    assert (object_.id, object_.label, object_.score, object_.hidden) == (7, "vehicle", 0.88, 0.5)
    assert sorted(map(tuple, object_.whole[0])) == [(10, 20), (10, 59), (29, 20), (29, 59)]
    assert sorted(map(tuple, object_.behind[0])) == [(10, 40), (10, 59), (29, 40), (29, 59)]
    assert overlay.seen[0].reasons == ["border"]
    assert overlay.seen[0].label == ""
    assert overlay.carried[0].box == [1.0, 2.0, 3.0, 4.0]


def test_no_model_is_not_the_same_as_nothing_seen() -> None:
    picture = image(np.zeros((90, 120, 3), np.uint8))
    assert overlay_of(LiveFrame("gate", picture, moment()), 0).amodal is None
    nothing = LiveFrame("gate", picture, moment(), instances=AmodalInstances.empty((120, 90)))
    assert overlay_of(nothing, 0).amodal == []


def test_untracked_and_unknown_objects_are_drawn_too_and_never_more_than_a_screen_can_hold() -> None:
    masks = [PatchMask(n % 100, n % 70, np.ones((4, 4), bool)) for n in range(200)]
    instances = AmodalInstances.of_masks((120, 90), [77] * 200, [0.5] * 200, masks)
    picture = image(np.zeros((90, 120, 3), np.uint8))
    overlay = overlay_of(LiveFrame("gate", picture, moment(), instances=instances, track_ids=(3,)), 0)
    assert overlay.amodal is not None
    assert 10 < len(overlay.amodal) < 200
    assert [one.id for one in overlay.amodal[:3]] == [3, -1, -1]
    assert overlay.amodal[0].label == ""


def test_the_fake_street_shows_what_the_page_is_for() -> None:
    view = FakeAgentView()
    frames = [view.film("gate", time_s) for time_s in (2.0, 4.0, 6.0)]
    overlays = [overlay_of(one, 0) for one in frames]
    assert any(one.hidden > 0.1 and one.behind for overlay in overlays for one in overlay.amodal or [])
