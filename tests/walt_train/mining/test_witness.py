"""What a witness is shown of an object, and whether the packaged one can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.candidates import is_whole
from benchmarks.streets import true_mask
from benchmarks.witness_lessons import learned_plate
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.packaged import general_model
from walt_edge.vision.motion import light_gain, scaled
from walt_train.mining.instances import InstanceTeacher, Seen
from walt_train.mining.witness import CHANNELS, CONTEXT, SIDE, Witness, show
from walt_train.rwalt.dataset import render
from walt_train.rwalt.street import Street, StreetConfig

GROUND, COAT = 100, 220
WH = (320, 240)
BOX = (100, 60, 140, 160)


def patch(x0: int, y0: int, x1: int, y1: int) -> PatchMask:
    return PatchMask(x0, y0, np.ones((y1 - y0, x1 - x0), bool))


def seen(box: tuple[int, int, int, int] = BOX, hidden_map: NDArray[np.float32] | None = None) -> Seen:
    x0, y0, x1, y1 = map(float, box)
    one = Seen(Label.PERSON, 0.9, (x0, y0, x1, y1), patch(*box), patch(*box), 0.0)
    return one if hidden_map is None else replace(one, hidden_map=hidden_map)


def empty() -> NDArray[np.uint8]:
    return np.full((WH[1], WH[0], 3), GROUND, np.uint8)


def with_coat(box: tuple[int, int, int, int] = BOX) -> NDArray[np.uint8]:
    out = empty()
    out[box[1] : box[3], box[0] : box[2]] = COAT
    return out


def inner(channel: NDArray[np.uint8], part: float = 0.9) -> NDArray[np.uint8]:
    """Where the object's box lies in what is shown, without a rim."""
    half = SIDE / CONTEXT / 2 * part
    side = slice(round(SIDE / 2 - half), round(SIDE / 2 + half))
    return channel[side, side]


def test_an_object_fills_the_picture_with_its_surroundings() -> None:
    shown = show(seen(), [seen()], with_coat(), empty())
    assert shown.shape == (CHANNELS, SIDE, SIDE)
    assert (inner(shown[0]) == COAT).all()
    assert shown[0, 0, 0] == GROUND
    # Half of the change, around 128: nothing has changed beside the object.
    assert (inner(shown[3]) == 128 + (COAT - GROUND) // 2).all()
    assert shown[3, 0, 0] == 128
    for mask in (6, 7):
        assert inner(shown[mask]).min() == 255
        assert shown[mask, :, :3].max() == 0
        assert shown[mask].mean() / 255 == pytest.approx(1 / CONTEXT**2, rel=0.08)


def test_who_stands_nearer_and_who_behind_are_kept_apart() -> None:
    one, before, behind = seen(), seen((130, 100, 170, 190)), seen((90, 50, 115, 130))
    shown = show(one, [one, before, behind], with_coat(), empty())
    # The one lies to the right, the other to the left.
    assert shown[10, SIDE // 2, -8] == 255
    assert shown[10, SIDE // 2, 8] == 0
    assert shown[11, SIDE // 4, SIDE // 4] == 255
    assert shown[11, SIDE // 2, -8] == 0


def test_a_cell_that_is_likely_hidden_lies_where_it_is() -> None:
    cells = np.zeros((28, 28), np.float32)
    cells[:14, 14:] = 1.0  # the upper right quarter
    shown = show(seen(hidden_map=cells), [], with_coat(), empty())[9]
    middle = SIDE // 2
    assert inner(shown, 0.8)[: middle // 3, -middle // 3 :].min() == 255
    assert shown[middle + 3 :].max() == 0
    assert shown[:, : middle - 3].max() == 0
    assert shown.mean() / 255 == pytest.approx(1 / CONTEXT**2 / 4, rel=0.1)


def test_the_second_look_is_shown_where_there_is_one() -> None:
    assert show(seen(), [], with_coat(), empty())[8].max() == 0
    twice = replace(seen(), second=seen((100, 60, 140, 110)))
    assert show(twice, [], with_coat(), empty())[8].mean() / 255 == pytest.approx(0.5 / CONTEXT**2, rel=0.1)


@pytest.mark.parametrize("box", [(0, 0, 40, 100), (280, 140, 320, 240), (0, 100, 320, 240), (50, 50, 53, 54)])
def test_beyond_the_frame_its_border_goes_on(box: tuple[int, int, int, int]) -> None:
    shown = show(seen(box), [seen(box)], with_coat(box), empty())
    assert set(np.unique(shown[0])) <= set(range(GROUND, COAT + 1))
    assert shown[0, SIDE // 2, SIDE // 2] == COAT


@pytest.fixture(scope="module")
def witness() -> Witness:
    return Witness.packaged()


def test_a_view_and_its_mirror_image_are_one(witness: Witness) -> None:
    views = np.random.default_rng(3).integers(0, 255, (5, CHANNELS, SIDE, SIDE)).astype(np.uint8)
    told = witness(views)
    assert witness(np.ascontiguousarray(views[..., ::-1])) == pytest.approx(told, abs=1e-5)
    assert witness(views[2:3]) == pytest.approx(told[2:3], abs=1e-5)
    assert witness(views[:0]) == []
    assert all(0 <= each <= 1 for each in told)


def test_it_tells_who_is_whole_on_a_street_that_it_never_saw(witness: Witness) -> None:
    teacher = InstanceTeacher(Bundle.read(general_model()), witness=witness)
    frames = list(render(Street(StreetConfig(seed=7, preset="street", frames=16, fps=0.5, shapes="tuning"))))
    plate = learned_plate([frame.bgr for frame in frames])
    told: dict[bool, list[float]] = {True: [], False: []}
    for frame in frames:
        found = teacher.look(frame.bgr)
        said = teacher.testify(found, frame.bgr, scaled(plate, light_gain(frame.bgr, plate)))
        for annotation in frame.annotations:
            mask = true_mask(annotation)
            ious = [one.amodal.iou(mask) for one in found]
            if mask.area >= 1024 and max(ious, default=0.0) >= 0.5:
                told[is_whole(annotation)].append(said[int(np.argmax(ious))])
    assert min(map(len, told.values())) >= 10
    assert np.mean(told[True]) > 0.7
    assert np.mean(told[False]) < 0.3


def test_nobody_testifies_where_no_witness_is() -> None:
    teacher = InstanceTeacher(Bundle.read(general_model()))
    assert teacher.testify([seen(), seen()], with_coat(), empty()) == [1.0, 1.0]
    assert teacher.testify([], with_coat(), empty()) == []
