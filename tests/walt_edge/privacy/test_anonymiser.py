"""The anonymiser: what may show a head is filled, nothing else is touched, and nothing passes when it fails."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.material import shared_data
from walt_edge.camera import open_camera
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_edge.privacy.anonymiser import (
    FILL_BGR,
    AnonymisedImage,
    Anonymiser,
    FaceDetector,
    PrivacyError,
    SealedEnvelope,
)
from walt_edge.vision.sightings import Reason, Sighting

HEADS = json.loads((Path(__file__).parent / "data" / "plaza_heads.json").read_text())["heads"]
WIDTH, HEIGHT = 320, 240


def _canvas() -> Mask:
    return np.zeros((HEIGHT, WIDTH), dtype=bool)


def _disc(centre_xy: tuple[float, float], radius: float, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Mask:
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside: Mask = (x + 0.5 - centre_xy[0]) ** 2 + (y + 0.5 - centre_xy[1]) ** 2 <= radius**2
    return inside


def _person(x: float, top: float, height: float) -> tuple[Mask, Mask]:
    """A standing figure and its head, by anatomy: the head an eighth, the shoulders a quarter of the height."""
    head = _disc((x, top + height / 15), height / 15)
    body = _canvas()
    y = np.linspace(0.12, 0.5, 20) * height + top
    half = np.interp(np.linspace(0, 1, 20), [0, 0.15, 1], [0.04, 0.125, 0.1]) * height
    outline = np.r_[np.c_[x - half, y], np.c_[x + half, y][::-1]]
    legs = [[x - 0.1 * height, top + 0.5 * height], [x + 0.1 * height, top + 0.5 * height]]
    feet = [[x + 0.09 * height, top + height], [x - 0.09 * height, top + height]]
    painted = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    cv2.fillPoly(painted, [outline.round().astype(np.int32), np.array(legs + feet).round().astype(np.int32)], 1)
    return body | head | painted.astype(bool), head


def _car(left: int, bottom: int, length: int) -> Mask:
    body = _canvas()
    body[bottom - length // 4 : bottom, left : left + length] = True
    body[bottom - length * 2 // 5 : bottom - length // 4, left + length // 5 : left + length * 4 // 5] = True
    return body


def _sighting(mask: Mask, label: Label | None = Label.PERSON, score: float = 0.9, *reasons: Reason) -> Sighting:
    return Sighting(PatchMask.from_full(mask), label, score, (0.0, 0.0), reasons=tuple(reasons))


def _noise(seed: int = 0) -> NDArray[np.uint8]:
    """A picture in which no pixel has the fill colour."""
    return np.random.default_rng(seed).integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def _filled(sightings: list[Sighting], moving: Mask | None = None, faces: FaceDetector | None = None) -> Mask:
    if moving is None:
        moving = _canvas()
        for sighting in sightings:
            moving |= sighting.silhouette.full(HEIGHT, WIDTH)
    image = Anonymiser(faces, number_plates=False)(_noise(), sightings, moving)
    assert (image.bgr[~image.filled] == _noise()[~image.filled]).all(), "what is not filled is untouched"
    return image.filled


# -- what is filled --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [24, 40, 80, 150])
@pytest.mark.parametrize("label", [Label.PERSON, None])
def test_a_head_is_filled_and_the_legs_are_not(height: int, label: Label | None) -> None:
    body, head = _person(160, 50, height)
    filled = _filled([_sighting(body, label)])
    assert filled[head].all()
    rows = np.flatnonzero(body.any(axis=1))
    assert not filled[rows[0] + round(0.55 * height) :].any()


@pytest.mark.parametrize("height", [6, 12, 19])
def test_a_silhouette_too_small_to_tell_is_filled_whole(height: int) -> None:
    body = _canvas()
    body[100 : 100 + height, 100 : 100 + height // 2] = True
    assert _filled([_sighting(body)])[body].all()


def test_a_person_behind_a_car_shows_too_little_to_measure_and_loses_the_head_all_the_same() -> None:
    body, head = _person(160, 50, 150)
    body[50 + 60 :] = False  # from the waist down something else stands before it
    assert _filled([_sighting(body)])[head].all()


@pytest.mark.parametrize(("x", "top"), [(160, -40), (2, 50), (WIDTH - 3, 50), (160, HEIGHT - 60)])
def test_who_is_cut_off_by_the_border_is_filled_whole(x: float, top: float) -> None:
    body, _ = _person(x, top, 150)
    assert _filled([_sighting(body)])[body].all()


@pytest.mark.parametrize("reason", [Reason.MERGED, Reason.FRAGMENT])
def test_what_the_eyes_are_unsure_about_is_filled_whole(reason: Reason) -> None:
    body, _ = _person(160, 50, 120)
    assert _filled([_sighting(body, Label.PERSON, 0.9, reason)])[body].all()


@pytest.mark.parametrize("aside", [-45, -30, 30, 45])
@pytest.mark.parametrize("lower", [0, 20, 40, 60])
def test_every_head_of_a_merged_group_is_filled(aside: int, lower: int) -> None:
    tall, head = _person(160, 40, 150)
    short, other_head = _person(160 + aside, 40 + lower, 150 - lower)
    filled = _filled([_sighting(tall | short)])
    assert filled[head].all()
    assert filled[other_head].all()


def test_people_who_touch_are_filled_whole_since_the_line_between_them_may_be_wrong() -> None:
    back, _ = _person(150, 40, 120)
    front, _ = _person(172, 80, 120)
    assert _filled([_sighting(back & ~front), _sighting(front)])[back | front].all()


def test_a_raised_arm_does_not_save_the_head() -> None:
    body, head = _person(160, 60, 140)
    body[20:90, 173:177] = True
    assert _filled([_sighting(body)])[head].all()


def test_a_head_that_looks_like_the_background_is_filled_above_the_shoulders() -> None:
    body, head = _person(160, 50, 140)
    body[: 50 + 18] = False
    assert _filled([_sighting(body)])[head].mean() > 0.95


def test_a_sure_vehicle_keeps_its_pixels_and_an_unsure_one_loses_its_top() -> None:
    car = _car(60, 200, 140)
    assert not _filled([_sighting(car, Label.VEHICLE, 0.9)]).any()
    assert _filled([_sighting(car, Label.VEHICLE, 0.4)])[car].all()


@pytest.mark.parametrize("x", [60, 110, 190])
def test_a_person_merged_with_a_car_is_filled(x: float) -> None:
    person, head = _person(x, 70, 130)
    filled = _filled([_sighting(_car(60, 200, 140) | person, Label.VEHICLE, 0.95)])
    assert filled[head].all()
    assert not filled[190:, 140:180].any(), "the car's own pixels stay"


def test_a_rider_is_no_vehicle() -> None:
    rider, head = _person(160, 60, 100)
    wheels = _disc((140, 175), 25) | _disc((180, 175), 25)
    assert _filled([_sighting(rider | wheels, Label.VEHICLE, 0.95)])[head].all()


def test_what_a_touching_vehicle_took_of_a_person_is_filled() -> None:
    person, head = _person(120, 60, 140)
    car = _car(100, 200, 160)
    torso_up = person.copy()
    torso_up[:130] = False  # the head was counted to the car
    assert _filled([_sighting(car | (person & ~torso_up), Label.VEHICLE, 0.95), _sighting(torso_up & ~car)])[
        head
    ].all()


def test_motion_that_belongs_to_nothing_is_filled() -> None:
    body, _ = _person(160, 50, 120)
    stray = _disc((60, 60), 6)
    filled = _filled([_sighting(body)], moving=body | stray)
    assert filled[stray].all()


def test_stray_motion_at_a_vehicles_edge_does_not_eat_into_it() -> None:
    car = _car(60, 200, 140)
    rim = cv2.dilate(car.astype(np.uint8), np.ones((3, 3))).astype(bool) & ~car
    filled = _filled([_sighting(car, Label.VEHICLE, 0.9)], moving=car | rim)
    assert filled[rim].all()
    assert not filled[car].any()


_BLOBS = st.lists(
    st.tuples(st.integers(-20, WIDTH), st.integers(-20, HEIGHT), st.integers(1, 90), st.integers(1, 140)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(_BLOBS, st.sampled_from([Label.PERSON, None]))
def test_the_top_of_any_silhouette_is_always_filled(
    blobs: list[tuple[int, int, int, int]], label: Label | None
) -> None:
    mask = _canvas()
    for x, y, width, height in blobs:
        mask[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)] = True
    filled = _filled([_sighting(mask, label)])
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size:
        top = mask.copy()
        top[rows[0] + max(1, (rows[-1] + 1 - rows[0]) // 8) :] = False
        assert filled[top].all()
        near = cv2.dilate(np.pad(mask, 60).astype(np.uint8), np.ones((121, 121)))[60:-60, 60:-60]
        assert not filled[near == 0].any(), "nothing far from it is filled"


# -- faces -----------------------------------------------------------------------------------------------------


class _Faces:
    name = "test"

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def __call__(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        bgr[:] = 0  # what a detector does to its input is its own affair
        if isinstance(self._answer, Exception):
            raise self._answer
        return np.asarray(self._answer, dtype=np.float32)


def test_found_faces_are_filled_with_a_margin() -> None:
    filled = _filled([], faces=_Faces([[100, 100, 110, 112], [-5, -5, 4, 4], [400, 400, 410, 410]]))
    assert filled[97:115, 97:113].all()
    assert filled[:4, :4].all()
    assert filled.sum() < 1000
    assert Anonymiser(_Faces([])).version == "2 faces=test+head"
    assert Anonymiser().version == "2 faces=head-only"


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError("out of memory"),
        ValueError("bad"),
        cv2.error("no kernel"),
        [[0, 0, float("nan"), 5]],
        [[0, 0, float("inf"), 5]],
        [1, 2, 3],
        [[1, 2, 3]],
    ],
)
def test_a_face_detector_that_fails_lets_nothing_pass(answer: object) -> None:
    with pytest.raises(PrivacyError) as caught:
        Anonymiser(_Faces(answer))(_noise(), [], _canvas())
    assert "\n" not in str(caught.value)


# -- fail-closed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bgr", "sightings", "moving"),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), [], _canvas()),
        (np.zeros((HEIGHT, WIDTH, 3), np.float32), [], _canvas()),
        (np.zeros((0, 0, 3), np.uint8), [], np.zeros((0, 0), bool)),
        (_noise(), [], np.zeros((HEIGHT, WIDTH), np.uint8)),
        (_noise(), [], np.zeros((WIDTH, HEIGHT), bool)),
        (_noise(), [Sighting(PatchMask(0, 0, np.ones((5, 5), np.uint8)), None, 0, (0, 0))], _canvas()),
        (_noise(), [Sighting(PatchMask(0, 0, np.ones(5, bool)), None, 0, (0, 0))], _canvas()),
        (_noise(), [None], _canvas()),
        (None, [], _canvas()),
    ],
)
def test_whatever_is_wrong_nothing_passes(bgr: object, sightings: object, moving: object) -> None:
    with pytest.raises(PrivacyError):
        Anonymiser()(bgr, sightings, moving)  # type: ignore[arg-type]


def _passed() -> AnonymisedImage:
    return Anonymiser()(_noise(), [], _canvas())


def test_only_the_anonymiser_makes_an_image() -> None:
    image = _passed()
    raw = _noise(1)
    with pytest.raises(PrivacyError):
        AnonymisedImage(raw, _canvas(), _canvas(), "2 faces=head-only")
    with pytest.raises(PrivacyError):
        dataclasses.replace(image, bgr=raw)
    with pytest.raises(dataclasses.FrozenInstanceError):
        image.bgr = raw  # type: ignore[misc]
    with pytest.raises(PrivacyError):
        pickle.dumps(image)
    assert copy.copy(image) is copy.deepcopy(image) is image
    with pytest.raises(PrivacyError):
        SealedEnvelope("id", None, None, b"")  # type: ignore[arg-type]


def test_its_pixels_cannot_be_changed_afterwards() -> None:
    frame, moving = _noise(), _canvas()
    image = Anonymiser()(frame, [], moving)
    before = image.bgr.copy()
    frame[:] = 0
    moving[:] = True
    assert (image.bgr == before).all()
    assert not image.moving.any()
    for array in (image.bgr, image.moving):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.flags.writeable = True


# -- crops -----------------------------------------------------------------------------------------------------


def test_a_crop_keeps_its_object_and_fills_what_else_moves() -> None:
    car = _car(60, 200, 100)
    other = _car(175, 200, 100)
    image = Anonymiser()(_noise(), [_sighting(car, Label.VEHICLE), _sighting(other, Label.VEHICLE)], car | other)
    crop = image.crop((50, 150, 200, 210), PatchMask.from_full(car))
    own, foreign = car[150:210, 50:200], other[150:210, 50:200]
    assert (crop.bgr[own] == _noise()[150:210, 50:200][own]).all()
    assert (crop.bgr[foreign] == FILL_BGR).all()
    assert crop.anonymiser == image.anonymiser
    still = ~(cv2.dilate((own | foreign).astype(np.uint8), np.ones((11, 11))) > 0)
    assert (crop.bgr[still] == _noise()[150:210, 50:200][still]).all()


@pytest.mark.parametrize("box", [(0, 0, 0, 10), (10, 10, 5, 20), (-1, 0, 10, 10), (0, 0, WIDTH + 1, 10)])
def test_a_crop_stays_in_its_frame(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(PrivacyError, match="empty or leaves the frame"):
        _passed().crop(box, PatchMask.from_full(_canvas()))


def test_how_much_of_an_object_is_left_can_be_asked() -> None:
    body, _ = _person(160, 50, 120)
    image = Anonymiser()(_noise(), [_sighting(body)], body)
    assert 0.15 < image.filled_fraction(PatchMask.from_full(body)) < 0.5
    assert image.filled_fraction(PatchMask.from_full(_canvas())) == 1.0


# -- the real camera -------------------------------------------------------------------------------------------


def _plaza() -> list[NDArray[np.uint8]]:
    with open_camera(str(shared_data("cameras/plaza/vtest.avi"))) as camera:
        frames = []
        while (frame := camera.read(timeout_s=1)) is not None:
            frames.append(frame.bgr)
    return frames


def _by_difference(bgr: NDArray[np.uint8], plate: NDArray[np.uint8]) -> tuple[list[Sighting], Mask]:
    """The simplest eyes there are: connected differences from a median plate, none of them classified."""
    moving = cv2.absdiff(bgr, plate).max(axis=2) > 28
    closed = cv2.morphologyEx(moving.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 5), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(closed)
    sightings = [
        Sighting(PatchMask(x, y, labels[y : y + height, x : x + width] == number), None, 0.0, (0.0, 0.0))
        for number, (x, y, width, height, area) in enumerate(stats.tolist())
        if number > 0 and area >= 60
    ]
    return sightings, np.asarray(moving, dtype=bool)


def test_every_marked_head_on_the_real_camera_is_filled() -> None:
    frames = _plaza()
    plate = np.median(np.stack(frames[::10]), axis=0).astype(np.uint8)
    count = 0
    for number, heads in HEADS.items():
        bgr = frames[int(number)]
        image = Anonymiser()(bgr, *_by_difference(bgr, plate))
        for x, y, diameter in heads:
            head = _disc((x, y), diameter / 2, (bgr.shape[0], bgr.shape[1]))
            assert image.filled[head].all(), f"frame {number}, head at {x}, {y}"
            count += 1
        assert image.filled.mean() < 0.12, "most of the picture is still there"
    assert count == 31
