"""The eyes without weights, on scenes whose truth is exact: what moves is found, what is hidden is not guessed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes.scenes import FPS, Scene, Thing, walk
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_train.metrics.motion_baseline import PLATE_FRAMES, MotionBaseline, plate_indices

SECONDS = 6.0
WALKER = Thing(walk((20, 200), (45, 0)), height=90)
CAR = Thing(walk((300, 90), (-40, 0)), kind="car", height=50, colour=(160, 60, 30))


def watched(scene: Scene) -> list[AmodalInstances]:
    frames = list(scene.frames(SECONDS))
    eyes = MotionBaseline([frames[index].bgr for index in plate_indices(len(frames), scene.wh)])
    for frame in frames:
        eyes.see(frame.bgr, frame.captured.media_time_s)
    return eyes.instances()


def visible(scene: Scene, thing: int, frame: int) -> PatchMask:
    return PatchMask.from_full(scene.visible(thing, frame / FPS))


def test_two_that_pass_apart_are_found_with_their_class() -> None:
    scene = Scene(things=[WALKER, CAR])
    seen = watched(scene)
    assert len(seen) == SECONDS * FPS
    for frame in range(15, 45, 5):
        found = seen[frame]
        assert sorted(found.labels.tolist()) == [Label.PERSON, Label.VEHICLE]
        for index, label in enumerate(found.labels.tolist()):
            thing = 0 if label == Label.PERSON else 1
            assert found.amodal[index].iou(visible(scene, thing, frame)) > 0.8
            assert found.boxes_xyxy[index].tolist() == list(found.amodal[index].box_xyxy)


def test_it_takes_what_it_sees_for_all_there_is() -> None:
    pole = (150, 80, 172, 240)
    scene = Scene(things=[WALKER], poles=[pole])
    behind = 30  # half of the walker shows beside the pole
    seen = watched(scene)[behind]
    assert len(seen) >= 1
    assert not seen.occluder_masks.any()
    assert not seen.occluded_masks.any()
    assert np.array_equal(seen.amodal_masks, seen.visible_masks)
    hidden = scene.things[0].mask(behind / FPS, (240, 320)) & ~scene.visible(0, behind / FPS)
    assert hidden.sum() > 300
    assert (seen.amodal_masks.any(axis=0) & hidden).sum() < 0.25 * hidden.sum()


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param(Thing(walk((160, 200), (0, 0), 3.0, 3.25), height=90), id="there for three frames"),
        pytest.param(Thing(walk((160, 200), (0, 0)), kind="stander", height=90), id="never moves"),
    ],
)
def test_what_flickers_or_never_moves_is_no_object(thing: Thing) -> None:
    assert [len(found) for found in watched(Scene(things=[thing]))] == [0] * round(SECONDS * FPS)


@pytest.mark.parametrize(
    ("frames", "size_wh", "count"),
    [
        (300, (640, 360), PLATE_FRAMES),
        (7, (640, 360), 7),
        (1, (640, 360), 1),
        (300, (3840, 2160), 8),
        (5, (3840, 2160), 5),
    ],
)
def test_plate_frames_are_spread_within_memory(frames: int, size_wh: tuple[int, int], count: int) -> None:
    picked = plate_indices(frames, size_wh)
    assert len(picked) == len(set(picked)) == count
    assert picked[0] == 0
    assert picked[-1] == frames - 1
