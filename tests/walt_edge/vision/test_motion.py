from __future__ import annotations

import numpy as np
import pytest

from tests.fakes.scenes import Scene, Thing, walk
from walt_edge.contract.masks import Mask
from walt_edge.vision.motion import Motion, find_motion, light_gain
from walt_edge.vision.plate import Plate
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.silhouettes import fill_holes, find_silhouettes, is_upright

SETTINGS = WatchSettings()


def plate_of(scene: Scene) -> Plate:
    height, width = scene.background().shape[:2]
    return Plate(scene.background(), np.ones((height, width), np.uint8), np.ones((height, width), bool), SETTINGS)


def seen(scene: Scene, time_s: float) -> Motion:
    return find_motion(scene.picture(time_s), plate_of(scene), SETTINGS)


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_an_empty_place_is_still() -> None:
    motion = seen(Scene(), 1.0)
    assert motion.moving.mean() < 0.001
    assert find_silhouettes(motion, SETTINGS) == []


@pytest.mark.parametrize("gain", [0.75, 0.9, 1.15, 1.3])
def test_light_on_everything_is_no_motion(gain: float) -> None:
    scene = Scene(light=lambda _: gain, things=[Thing(walk((160, 200), (0, 0)))])
    motion = seen(scene, 1.0)
    assert motion.gain_bgr == pytest.approx((gain,) * 3, rel=0.03)
    (outline,) = find_silhouettes(motion, SETTINGS)
    assert iou(outline.patch.full(240, 320), scene.visible(0, 1.0)) > 0.8


def test_light_gain_of_a_dark_picture_is_one() -> None:
    dark = np.full((64, 64, 3), 3, np.uint8)
    assert light_gain(dark, dark) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("kind", "height"), [("person", 70), ("person", 110), ("car", 40), ("car", 80), ("box", 50)])
@pytest.mark.parametrize("shadow", [1.0, 0.8, 0.6])
def test_outlines_fit_and_leave_the_shadow_out(kind: str, height: int, shadow: float) -> None:
    scene = Scene(things=[Thing(walk((150, 200), (0, 0)), kind, height, shadow=shadow)])
    outlines = find_silhouettes(seen(scene, 0.3), SETTINGS)
    full = outlines[0].patch.full(240, 320)
    assert iou(full, scene.visible(0, 0.3)) > (0.80 if kind == "person" else 0.90)


def test_a_shadow_alone_is_no_silhouette() -> None:
    scene = Scene()
    frame = scene.picture(0)
    frame[100:140, 100:180] = (frame[100:140, 100:180] * 0.7).astype(np.uint8)
    motion = find_motion(frame, plate_of(scene), SETTINGS)
    assert motion.moving[105:135, 105:175].mean() > 0.9
    assert motion.solid[105:135, 105:175].mean() < 0.02


def test_a_panel_in_the_colour_of_the_road_belongs_to_the_vehicle() -> None:
    scene = Scene(things=[Thing(walk((150, 200), (0, 0)), "car", 80)], noise=1.0)
    frame = scene.picture(0)
    frame[165:190, 110:190] = scene.background()[165:190, 110:190]
    (outline,) = find_silhouettes(find_motion(frame, plate_of(scene), SETTINGS), SETTINGS)
    assert iou(outline.patch.full(240, 320), scene.visible(0, 0)) > 0.9


def test_outlines_do_not_overlap() -> None:
    things = [Thing(walk((60 + 60 * index, 200), (0, 0)), colour=(20, 20, 200)) for index in range(4)]
    outlines = find_silhouettes(seen(Scene(things=things), 0.4), SETTINGS)
    assert len(outlines) == 4
    for index, one in enumerate(outlines):
        assert all(one.patch.intersection(other.patch) == 0 for other in outlines[index + 1 :])


def test_holes_are_filled_up_to_a_size() -> None:
    mask = np.ones((20, 20), bool)
    mask[5:7, 5:7] = False
    mask[10:18, 10:18] = False
    filled = fill_holes(mask, 0.1)
    assert filled[5:7, 5:7].all()
    assert not filled[10:18, 10:18].any()
    assert fill_holes(mask, 0.5).all()


def test_a_bay_is_no_hole() -> None:
    mask = np.ones((20, 20), bool)
    mask[:6, 8:10] = False
    assert (fill_holes(mask, 0.5) == mask).all()


def test_upright() -> None:
    assert is_upright(np.ones((30, 10), bool))
    assert not is_upright(np.ones((10, 30), bool))
