from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.clipart import FRAME_WH, Thing, some_things, write_scene
from walt_edge.contract.clipart import Cuboid, StaticThing, read_clipart, write_clipart
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, encode_rle
from walt_train.clipart.arrange import stand
from walt_train.clipart.compose import compose
from walt_train.clipart.material import Material, load_material
from walt_train.clipart.pieces import Cutout
from walt_train.clipart.settings import TRAINING, ComposeSettings
from walt_train.clipart.stack import Sticker, described, shown, stack
from walt_train.data.coco import CocoSamples
from walt_train.data.composites import CompositeSamples
from walt_train.data.layers import sample_layers
from walt_train.data.write import annotation_records, write_samples

PLAIN = ComposeSettings(placement="original", shadow=0.0, light_jitter=0.0, clip_jitter=0.0)
FRAME = (0, 0, *FRAME_WH)
GROUND_Y = 130


def pole(x: int = 120, width: int = 12) -> Mask:
    mask = np.zeros(FRAME_WH[::-1], bool)
    mask[:GROUND_Y, x : x + width] = True
    return mask


def add(folder: Path, **changes: Any) -> Path:
    write_clipart(folder, msgspec.structs.replace(read_clipart(folder), **changes))
    return folder


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Three poles whose foot is in the middle of the ground."""
    static = [StaticThing(mask=encode_rle(pole(x)), ground_y=GROUND_Y) for x in (60, 140, 220)]
    return add(write_scene(tmp_path / "street", some_things(14, 14)), static=static)


def test_by_depth_a_pole_is_before_what_stands_behind_its_foot(street: Path) -> None:
    material = load_material(street)
    before = behind = 0
    for index in range(30):
        sample = compose(material, PLAIN, 1, 0, index)
        for nearer, mask in sample.static:
            for order, thing in enumerate(sample.objects):
                assert (thing.amodal.box_xyxy[3] > GROUND_Y) == (order < nearer)
                met = mask.intersection(thing.amodal) > 0
                before, behind = before + (met and order >= nearer), behind + (met and order < nearer)
    assert before > 5
    assert behind > 5


def test_in_random_order_poles_are_before_everything(street: Path) -> None:
    for index in range(10):
        sample = compose(load_material(street), replace(PLAIN, order="random"), 1, 0, index)
        assert [nearer for nearer, _ in sample.static] == [0, 0, 0]


def test_what_shows_of_a_pole_are_the_plates_own_pixels(street: Path) -> None:
    material = load_material(street)
    plate = material.backdrops[0].image_bgr
    for index in range(10):
        sample = compose(material, PLAIN, 1, 0, index)
        for nearer, mask in sample.static:
            inner = mask.full(*FRAME_WH[::-1])
            for thing in sample.objects[:nearer]:
                x0, y0, x1, y1 = thing.amodal.box_xyxy
                inner[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
            inner[GROUND_Y - 1 :] = False
            inner &= np.roll(inner, 1, axis=1) & np.roll(inner, -1, axis=1)
            assert np.array_equal(sample.image_bgr[inner], plate[inner])


def test_a_pole_hides_and_what_it_hides_wholly_is_left_out(tmp_path: Path) -> None:
    thing = Thing(Label.PERSON, 120, 120, 1)
    wall = StaticThing(mask=encode_rle(pole(80, 80)), ground_y=FRAME_WH[1])
    folder = add(write_scene(tmp_path, [thing]), static=[wall])
    sample = compose(load_material(folder), PLAIN, 1, 0, 0)
    assert sample.objects == ()
    assert len(sample.static) == 1


def test_static_things_and_points_survive_the_disk(street: Path, tmp_path: Path) -> None:
    samples = CompositeSamples(street, split="all", per_epoch=8, seed=3, settings=TRAINING)
    list(write_samples(tmp_path / "out", samples, {}))
    read = CocoSamples(tmp_path / "out")
    hidden_by_poles = 0
    for index in range(8):
        made, back = samples.sample(0, index), read.sample(0, index)
        assert np.array_equal(made.image_bgr, back.image_bgr)
        for ours, theirs in zip(sample_layers(made), sample_layers(back), strict=True):
            for layer in ("amodal", "visible", "occluder", "occluded"):
                one, other = getattr(ours, layer), getattr(theirs, layer)
                assert one.box_xyxy == other.box_xyxy
                assert np.array_equal(one.mask, other.mask)
        hidden_by_poles += len(back.static)
    assert hidden_by_poles > 2


def with_points(folder: Path, thing: Thing) -> Path:
    """A keypoint at the head and one at the feet, a hidden and an unlabelled one; and a 3D box."""
    clipart = read_clipart(folder)
    keypoints = [(thing.x, thing.row - 20.25, 2), (thing.x, thing.row - 1.0, 2), (thing.x, 90.0, 1), (0.0, 0.0, 0)]
    corners = [(thing.x + dx, thing.row - dy) for dy in (0.0, 30.0) for dx in (-9.0, 9.0, 12.0, -6.0)]
    cuboid = Cuboid(corners_xy=corners, size_m=(1, 1, 1))
    clips = [msgspec.structs.replace(clipart.clips[0], keypoints=keypoints, cuboid=cuboid), *clipart.clips[1:]]
    return add(folder, clips=clips)


HERE = Thing(Label.PERSON, 100, 120, 1)


@pytest.fixture
def pointed(tmp_path: Path) -> Cutout:
    folder = with_points(write_scene(tmp_path / "pointed", [HERE]), HERE)
    return load_material(folder).cutouts[0]


def test_points_stay_with_their_object(pointed: Cutout) -> None:
    """Where it was seen they are what mining said; moved by (40, 12) and cut by a window they move along."""
    for shift_xy, window in (((0, 0), FRAME), ((40, 12), FRAME), ((-7, 3), (31, 17, 200, 150))):
        x0, y0, x1, y1 = pointed.box_xyxy
        box = (x0 + shift_xy[0], y0 + shift_xy[1], x1 + shift_xy[0], y1 + shift_xy[1])
        (thing,), _ = described(shown(stack([stand(pointed, box)], (), "depth", window), window), window)
        assert thing.keypoints is not None
        assert thing.cuboid is not None
        offset = np.array(shift_xy) - window[:2]
        assert (thing.keypoints[:2, :2] - offset).tolist() == [[100, 99.75], [100, 119]]
        assert thing.keypoints[:, 2].tolist() == [2, 2, 1, 0]
        assert (thing.cuboid[6] - offset).tolist() == [112, 90]


@pytest.mark.parametrize("scale", [1 << 15, 90_000, 100_000])
def test_points_grow_with_their_object(pointed: Cutout, scale: int) -> None:
    x0, y0, x1, y1 = pointed.box_xyxy
    size = ((x1 - x0) * scale >> 16, (y1 - y0) * scale >> 16)
    spot = stand(pointed, (50, 100 - size[1], 50 + size[0], 100), scale)
    (thing,), _ = described(shown(stack([spot], (), "depth", FRAME), FRAME), FRAME)
    assert thing.keypoints is not None
    left, top, right, bottom = thing.amodal.box_xyxy
    for place, (x, y) in enumerate([(100, 99.75), (100, 119)]):
        share = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        expected = left + share[0] * (right - left), top + share[1] * (bottom - top)
        assert np.abs(thing.keypoints[place, :2] - expected).max() <= 1.5


def test_a_keypoint_that_something_hides_is_marked(pointed: Cutout) -> None:
    x0, y0, x1, y1 = pointed.box_xyxy
    nearer = stand(pointed, (x0 + 2, y0 + 25, x1 + 2, y1 + 25))
    layers = shown(stack([nearer, stand(pointed, pointed.box_xyxy)], (), "depth", FRAME), FRAME)
    objects, _ = described(layers, FRAME)
    assert [thing.keypoints[:2, 2].tolist() for thing in objects if thing.keypoints is not None] == [[2, 2], [2, 1]]
    assert all(isinstance(layer, Sticker) for layer in layers)


def test_points_are_written_as_coco_has_them(tmp_path: Path) -> None:
    material: Material = load_material(with_points(write_scene(tmp_path, [HERE]), HERE))
    sample = compose(material, PLAIN, 1, 0, 0)
    record = annotation_records(sample, 1)[0]
    assert record["keypoints"] == [100, 99.75, 2, 100, 119, 2, 100, 90, 1, 0, 0, 0]
    assert record["num_keypoints"] == 3
    assert record["cuboid"][0] == [91, 120]
    assert record["cuboid"][6] == [112, 90]
    thing = sample.objects[0]
    assert thing.keypoints is not None
    away = replace(sample, objects=(replace(thing, keypoints=thing.keypoints + np.array([1000, 0, 0])),))
    assert annotation_records(away, 1)[0]["keypoints"] == [0] * 12, "outside the picture"
    assert annotation_records(away, 1)[0]["num_keypoints"] == 0
