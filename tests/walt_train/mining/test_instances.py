from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.walt_train.mining.colours import colour_teacher
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.mining.instances import Seen, evidence

RED, BLUE = (40, 40, 220), (220, 60, 40)
THINGS = {RED: Label.PERSON, BLUE: Label.VEHICLE}
WH = (320, 240)


def picture(*boxes: tuple[tuple[int, int, int], tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    """Coloured boxes xyxy over grey, later ones nearer."""
    out = np.full((WH[1], WH[0], 3), 120, np.uint8)
    for colour, (x0, y0, x1, y1) in boxes:
        out[y0:y1, x0:x1] = colour
    return out


def changed(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey levels from the empty scene."""
    return np.asarray(np.abs(frame.astype(int) - 120).max(axis=2), np.uint8)


def test_a_second_look_at_the_mirrored_picture_finds_the_same_thing() -> None:
    (one,) = colour_teacher(THINGS).look(picture((RED, (100, 60, 140, 160))))
    assert one.label is Label.PERSON
    assert one.box_xyxy == pytest.approx((100, 60, 140, 160), abs=1.5)
    assert one.second is not None
    assert one.second.box_xyxy == pytest.approx(one.box_xyxy, abs=2)
    assert one.amodal.iou(one.second.amodal) > 0.95


def test_who_is_whole_and_alone_has_nothing_against_it() -> None:
    frame = picture((RED, (100, 60, 140, 160)), (BLUE, (200, 100, 300, 160)))
    seen = colour_teacher(THINGS).look(frame)
    for one in seen:
        parts = evidence(one, seen, changed(frame), WH)
        assert min(parts.values()) >= 0.9, parts


def test_who_is_behind_another_is_told_by_the_occluder_and_by_who_stands_nearer() -> None:
    frame = picture((RED, (100, 60, 140, 160)), (BLUE, (85, 130, 155, 175)))
    seen = {one.label: one for one in colour_teacher(THINGS).look(frame)}
    parts = evidence(seen[Label.PERSON], list(seen.values()), changed(frame), WH)
    front = evidence(seen[Label.VEHICLE], list(seen.values()), changed(frame), WH)
    # The colours' network takes the box of what it sees: nothing hides a cell of that.
    assert seen[Label.PERSON].box_xyxy[3] == pytest.approx(130, abs=2)
    assert front["behind nobody"] == 1.0
    assert front["occluder"] >= 0.9
    amodal = PatchMask(100, 60, np.ones((100, 40), bool))
    whole = Seen(Label.PERSON, 0.9, (100.0, 60.0, 140.0, 160.0), amodal, amodal, 0.8)
    parts = evidence(whole, [whole, seen[Label.VEHICLE]], changed(frame), WH)
    assert parts["behind nobody"] == pytest.approx(1 - 2 * 0.3, abs=0.05)
    assert parts["occluder"] == pytest.approx(0.2)
    assert parts["second look"] == parts["agreement"] == 0.0


def test_a_post_of_the_empty_scene_inside_is_seen_by_what_did_not_change() -> None:
    frame = picture((RED, (100, 60, 140, 160)))
    frame[60:160, 115:124] = 120
    amodal = PatchMask(100, 60, np.ones((100, 40), bool))
    one = Seen(Label.PERSON, 0.9, (100.0, 60.0, 140.0, 160.0), amodal, amodal, 0.0)
    parts = evidence(one, [one], changed(frame), WH)
    assert parts["changed"] == pytest.approx(1 - 9 / 36, abs=0.03)
    assert parts["unbroken"] == pytest.approx(1 - 2 * 9 / 36, abs=0.06)


@pytest.mark.parametrize(("left", "expected"), [(1, 0.0), (5, 0.5), (60, 1.0)])
def test_the_border_takes_its_share(left: int, expected: float) -> None:
    amodal = PatchMask(left, 60, np.ones((80, 30), bool))
    one = Seen(Label.PERSON, 0.9, (float(left), 60.0, left + 30.0, 140.0), amodal, amodal, 0.0)
    assert evidence(one, [one], np.full((240, 320), 99, np.uint8), WH)["border"] == pytest.approx(expected)


def test_nobody_is_seen_in_an_empty_picture() -> None:
    teacher = colour_teacher(THINGS)
    assert teacher.look(picture()) == []
    assert len(teacher(picture()).scores) == 0
