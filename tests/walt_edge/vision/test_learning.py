"""What the eyes learn from the objects themselves: sizes, classes, occluders, and whether the camera stands still."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.scenes import Scene, Thing, walk
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.vision.classify import ClassEvidence
from walt_edge.vision.drift import DriftWatch, shift_px, spread_px
from walt_edge.vision.ground import SizeLine, Sizes
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import describe
from walt_edge.vision.standing import grown, is_ghost
from walt_edge.vision.static_occluders import Footprint, PackedFootprint, StaticOccluders

SETTINGS = WatchSettings()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 0.6), st.floats(-20, 40), st.integers(0, 2**16))
def test_the_height_line_stands_a_fifth_of_outliers(slope: float, offset: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    line = SizeLine()
    for index in range(150):
        y = random.uniform(150, 400)
        size = slope * y + offset + random.normal(0, 0.5)
        line.add(y, size * (2.0 if index % 5 == 0 else 1.0), index)
    for y in (180.0, 300.0, 390.0):
        truth = slope * y + offset
        if truth > 8:
            assert line.expected(y) == pytest.approx(truth, rel=0.12, abs=3)


def test_the_line_is_silent_until_it_has_seen_enough_objects() -> None:
    line = SizeLine(objects_min=4)
    for step in range(60):
        line.add(100.0 + step, 50.0, track_id=1)
    assert line.expected(120) is None


def test_two_people_are_bulkier_than_one() -> None:
    sizes = Sizes()
    for track in range(40):
        sizes.add(Label.PERSON, 200 + track, 80, 0.18 * 80**2, track)
    assert sizes.bulk_ratio(80, 0.18 * 80**2) == pytest.approx(1)
    assert sizes.bulk_ratio(80, 0.32 * 80**2) > 1.5


@pytest.mark.parametrize(
    ("kind", "height", "label"),
    [
        ("person", 60, Label.PERSON),
        ("person", 120, Label.PERSON),
        ("car", 40, Label.VEHICLE),
        ("car", 90, Label.VEHICLE),
    ],
)
def test_classes_need_neither_weights_nor_each_other(kind: str, height: int, label: Label) -> None:
    evidence = ClassEvidence()
    thing = Thing(walk((40, 220), (30, 0)), kind, height)
    for step in range(8):
        evidence.add(describe(PatchMask.from_full(thing.mask(step / 10, (240, 320)))), stride=3)
    found, score = evidence.classify()
    assert found is label
    assert score > 0.9


def test_what_is_neither_stays_unclassified() -> None:
    evidence = ClassEvidence()
    disc = np.zeros((60, 60), np.uint8)
    cv2.ellipse(disc, (30, 30), (16, 27), 0, 0, 360, 1, -1)
    for _ in range(8):
        evidence.add(describe(PatchMask.from_full(disc > 0)), stride=3)
    assert evidence.classify()[0] is None


def test_a_teachers_votes_decide_what_shape_leaves_open() -> None:
    evidence = ClassEvidence()
    disc = np.zeros((60, 60), np.uint8)
    cv2.ellipse(disc, (30, 30), (16, 27), 0, 0, 360, 1, -1)
    for _ in range(8):
        evidence.add(describe(PatchMask.from_full(disc > 0)), stride=3)
    evidence.votes[Label.PERSON] = 4
    assert evidence.classify()[0] is Label.PERSON


def footprints(pole: tuple[int, int, int, int], y: int, speed: float) -> list[Footprint]:
    """A walker behind a pole, as silhouettes would show them."""
    scene = Scene(things=[Thing(walk((80, y), (speed, 0)))], poles=[pole])
    steps = []
    for index in range(32):
        seen = scene.visible(0, index / 8)
        if seen.any():
            steps.append(Footprint(index / 8, PatchMask(0, 0, seen), np.zeros_like(seen), usable=True))
    return steps


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**16))
def test_a_footprint_comes_out_as_it_was_packed(height: int, width: int, seed: int) -> None:
    own, changed = np.random.default_rng(seed).random((2, height, width)) > 0.5
    packed = PackedFootprint.of(Footprint(2.5, PatchMask(3, -4, own), changed, usable=seed % 2 == 0))
    step = packed.unpacked()
    assert (step.time_s, step.own.x, step.own.y, step.usable) == (packed.time_s, 3, -4, seed % 2 == 0)
    assert np.array_equal(step.own.mask, own)
    assert np.array_equal(step.changed, changed)


def test_a_pole_is_learned_from_those_who_pass_behind_it() -> None:
    pole = (160, 60, 167, 240)
    occluders = StaticOccluders((320, 240), SETTINGS)
    for track in range(9):
        occluders.learn(footprints(pole, 190 + 3 * track, 40 + track))
    found = np.argwhere(occluders.mask)
    assert len(found) > 150
    inside = (found[:, 1] >= pole[0] - 2) & (found[:, 1] < pole[2] + 2)
    assert inside.mean() > 0.9
    assert occluders.contact(PatchMask(140, 150, np.ones((70, 19), bool))) > 0.3
    assert occluders.contact(PatchMask(60, 150, np.ones((70, 19), bool))) == 0


def test_without_a_pole_nothing_is_learned() -> None:
    occluders = StaticOccluders((320, 240), SETTINGS)
    for track in range(9):
        occluders.learn(footprints((0, 0, 0, 0), 190 + 3 * track, 40 + track))
    assert occluders.mask.mean() < 0.002


@pytest.mark.parametrize("shift", [(0, 0), (5, 0), (0, -7), (9, 6)])
def test_the_cameras_shift_is_measured(shift: tuple[int, int]) -> None:
    still = Scene()
    moved = Scene(shift=lambda _: shift)
    dx, dy, response = shift_px(still.picture(0), moved.picture(1))
    assert (dx, dy) == pytest.approx(shift, abs=0.8)
    assert response > 0.1


def test_drift_needs_several_votes_and_no_traffic() -> None:
    watch = DriftWatch(SETTINGS)
    still = np.zeros((240, 320), bool)
    plate = Scene().picture(0)
    assert [watch.check(plate, Scene().picture(t), still, float(t)) for t in range(5)] == [None] * 5
    moved = Scene(shift=lambda _: (8, 0))
    found = [watch.check(plate, moved.picture(10 + t), still, 10.0 + t) for t in range(SETTINGS.drift_votes)]
    assert found[:-1] == [None] * (SETTINGS.drift_votes - 1)
    assert found[-1] == pytest.approx(8, abs=1)


def test_spread_of_a_fixed_and_a_swaying_camera() -> None:
    fixed = [Scene().picture(t) for t in range(9)]
    swaying = [Scene(shift=lambda t: (round(12 * np.sin(t)), 0)).picture(t) for t in range(9)]
    assert spread_px(fixed) < 0.5
    assert spread_px(swaying) > 3


def test_one_who_walks_by_does_not_move_the_camera() -> None:
    scene = Scene(things=[Thing(walk((20, 220), (40, 0)), height=150)])
    frames = [scene.picture(t) for t in range(8)]
    assert spread_px(frames) < 0.5


def test_a_ghost_is_told_from_an_object() -> None:
    empty, full = Scene().picture(0), Scene(things=[Thing(walk((160, 200), (0, 0)), "box", 60)]).picture(0)
    patch = PatchMask.from_full(Scene(things=[Thing(walk((160, 200), (0, 0)), "box", 60)]).visible(0, 0))
    assert is_ghost(patch, frame=empty, plate=full)
    assert not is_ghost(patch, frame=full, plate=empty)


@given(st.integers(0, 50), st.integers(0, 30), st.integers(1, 6))
def test_grown_stays_in_the_frame_and_keeps_the_patch(x: int, y: int, radius: int) -> None:
    patch = PatchMask(x, y, np.ones((9, 9), bool))
    out = grown(patch, radius, (60, 40))
    x0, y0, x1, y1 = out.box_xyxy
    assert x0 >= 0
    assert y0 >= 0
    assert x1 <= 60
    assert y1 <= 40
    assert out.full(40, 60)[patch.full(40, 60)].all()
