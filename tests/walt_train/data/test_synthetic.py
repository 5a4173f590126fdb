from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.clipart import FRAME_WH, some_things, write_scene
from walt_edge.contract.clipart import ClipArtError
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_train.data.layers import sample_layers
from walt_train.data.pictures import DataError
from walt_train.data.sample import AmodalSample
from walt_train.data.synthetic import SyntheticSamples, SyntheticSettings

MANY = SyntheticSettings(pasted=(4, 9))


def opened(path: Path, seed: int = 1, settings: SyntheticSettings = MANY) -> SyntheticSamples:
    return SyntheticSamples(path, split="train", per_epoch=12, seed=seed, settings=settings)


def instances(folder: Path, count: int = 10) -> Path:
    """A car, a person and a dog in each picture; the person at the border in every second one."""
    folder.mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        name = f"{number:03d}.png"
        noise = np.random.default_rng(number).integers(0, 256, (120, 160 + number % 2, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / name), noise)
        images.append({"id": number, "file_name": name, "width": 160 + number % 2, "height": 120})
        x = 0 if number % 2 else 3
        for category, box in ((3, (60, 40, 120, 80)), (1, (x, 20, x + 25, 110)), (18, (130, 100, 150, 115))):
            x0, y0, x1, y1 = box
            polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": category, "iscrowd": 0}
            annotations.append(one | {"segmentation": [polygon], "bbox": [x0, y0, x1 - x0, y1 - y0]})
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def digest(samples: list[AmodalSample]) -> str:
    sha256 = hashlib.sha256()
    for sample in samples:
        sha256.update(sample.image_bgr.tobytes())
        for thing in sample.objects:
            sha256.update(repr((thing.label, thing.track_id, thing.amodal.box_xyxy)).encode())
            sha256.update(np.packbits(thing.amodal.mask).tobytes())
    return sha256.hexdigest()


@pytest.mark.parametrize("make", [lambda path: write_scene(path, some_things()), instances])
def test_a_sample_is_a_function_of_its_place(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "data")
    samples = opened(path)
    forth = [samples.sample(1, index) for index in range(12)]
    again = opened(path)
    back = [again.sample(1, index) for index in reversed(range(12))][::-1]
    assert digest(forth) == digest(back)
    assert digest(forth) != digest([samples.sample(0, index) for index in range(12)])
    assert opened(path, seed=2).sha256 != samples.sha256 == again.sha256
    assert samples.labels == tuple(Label)
    hidden = []
    for sample in forth:
        for layers in sample_layers(sample):
            assert layers.visible.area >= 16
            assert layers.occlusion_fraction <= 0.9
            hidden.append(layers.occlusion_fraction)
    assert max(hidden) > 0.3


def test_clip_art_is_pasted_anywhere_at_any_scale(tmp_path: Path) -> None:
    samples = opened(write_scene(tmp_path, some_things()))
    assert samples.frame_wh == FRAME_WH
    sample = samples.sample(0, 0)
    assert sample.image_bgr.shape[1::-1] == FRAME_WH
    tops = [thing.amodal.box_xyxy[3] for index in range(12) for thing in samples.sample(0, index).objects]
    assert min(tops) < 60, "in the sky as well, where nobody ever stood (the ground begins at row 90)"


def test_instances_lie_over_pictures_with_their_own_objects(tmp_path: Path) -> None:
    path = instances(tmp_path / "data")
    samples = opened(path)
    own = {thing.track_id % 3 for thing in samples.sample(0, 3).objects}
    assert own == {1, 2}, "cars and people, no dog"
    with pytest.raises(DataError, match="2 sizes"):
        _ = samples.frame_wh
    sample = samples.sample(0, 0)
    pasted = [thing for thing in sample.objects if thing.amodal.box_xyxy not in ((60, 40, 120, 80), (3, 20, 28, 110))]
    assert pasted
    assert sample.objects[: len(pasted)] == tuple(pasted), "what is pasted is nearer than what was there"
    judge = SyntheticSamples(path, split="validation", per_epoch=9, seed=1)
    shown = [{t.track_id for n in range(9) for t in part.sample(0, n).objects} for part in (samples, judge)]
    assert shown[0]
    assert shown[1]
    assert not shown[0] & shown[1]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["annotations"][1].update(id=1), "names annotation id 1 twice"),
        (lambda c: c["annotations"][1].update(image_id=77), "annotation 2: there is no image 77"),
        (lambda c: c["annotations"][1].update(segmentation=[]), "annotation 2: a mask without a polygon"),
        (lambda c: c["annotations"][1].update(segmentation={"size": [2, 2], "counts": [4]}), "a mask of 2x2 for a"),
        (lambda c: c["images"][1].update(id=0), "names an image id twice"),
        (lambda c: c["categories"].clear(), "has no whole person or vehicle of 1024 pixels"),
        (lambda c: [one.update(iscrowd=1) for one in c["annotations"]], "has 0 frames, too few"),
        (lambda c: c.pop("images"), "is no COCO instance file: .*images"),
    ],
)
def test_bad_instance_files_are_told_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    with pytest.raises(DataError, match=told) as caught:
        opened(edit(instances(tmp_path / "data"), change))
    assert "\n" not in str(caught.value)


def test_numbers_out_of_range_and_data_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 to 2 cut-outs"):
        SyntheticSettings(pasted=(3, 2))
    with pytest.raises(UsageError, match="scale 2 to 1"):
        SyntheticSettings(scale=(2, 1))
    with pytest.raises(ClipArtError, match=r"no clipart.json in"):
        opened(tmp_path)
    folder = write_scene(tmp_path, some_things())
    with pytest.raises(UsageError, match="0 samples an epoch"):
        SyntheticSamples(folder, split="all", per_epoch=0, seed=1)
    with pytest.raises(IndexError):
        opened(folder).sample(0, 12)
