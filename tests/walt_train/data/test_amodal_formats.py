"""KINS and COCOA, on small files written here in their formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, encode_rle
from walt_train.data import open_samples
from walt_train.data.cocoa import CocoaRegion, CocoaSamples
from walt_train.data.kins import KinsSamples
from walt_train.data.layers import sample_layers
from walt_train.data.pictures import DataError
from walt_train.data.sample import AmodalSample

WH = (32, 20)
Json = dict[str, Any]


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def full(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros(WH[::-1], dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def rle(mask: Mask) -> Json:
    return encode_rle(mask).coco()


NEAR, FAR = (10, 8, 20, 18), (4, 4, 16, 14)
FAR_SEEN = full(*FAR) & ~full(*NEAR)


def kins_file(count: int = 5) -> Json:
    """A car before a pedestrian, and a pedestrian whom something unknown hides; sizes differ as KITTI's do."""
    sizes = [(WH[0] + number % 2, WH[1]) for number in range(count)]
    images = [
        {"id": number, "file_name": f"{number:06d}.png", "width": width, "height": height}
        for number, (width, height) in enumerate(sizes)
    ]
    annotations = []
    for number, (width, _) in enumerate(sizes):
        seen = np.pad(FAR_SEEN, ((0, 0), (0, width - WH[0])))
        one = {"image_id": number, "oco_id": 1, "iscrowd": 0}
        annotations += [
            one | {"category_id": 2, "ico_id": 1, "a_segm": [box(*FAR)], "i_segm": rle(seen), "a_area": 120},
            one | {"category_id": 4, "ico_id": 2, "a_segm": [box(*NEAR)], "i_segm": [box(*NEAR)], "a_area": 100},
            one | {"category_id": 1, "a_segm": [box(24, 2, 30, 12)], "i_segm": [box(24, 2, 30, 7)]},
        ]
    numbered = [
        annotation | {"id": place + 1, "a_bbox": [0, 0, 1, 1]} for place, annotation in enumerate(annotations)
    ]
    names = ["cyclist", "pedestrian", "person-sitting", "car", "tram", "truck", "van", "misc"]
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(names)]
    return {"images": images, "annotations": numbered, "categories": categories}


def cocoa_file(count: int = 5) -> Json:
    """A bush before a car before a man, a dog beside them, and grass behind all."""
    images = [{"id": 7 + n, "file_name": f"COCO_{n:03d}.png", "width": WH[0], "height": WH[1]} for n in range(count)]
    regions = [
        {"segmentation": box(18, 10, 24, 20), "name": "Green bush", "order": 1, "isStuff": 1},
        {"segmentation": box(*NEAR), "name": "parked cars", "order": 2, "occlude_rate": 0.1},
        {
            "segmentation": box(*FAR),
            "name": "old man",
            "order": 3,
            "isStuff": 0,
            "visible_mask": rle(FAR_SEEN),
            "invisible_mask": rle(full(*FAR) & ~FAR_SEEN),
        },
        {"segmentation": box(26, 2, 30, 6), "name": "dog", "order": 4, "isStuff": 0},
        {"segmentation": box(0, 0, 32, 20), "name": "grass", "order": 5, "isStuff": 1},
    ]
    annotations = [
        {"id": n, "image_id": 7 + n, "regions": regions, "depth_constraint": "1-2,2-3,3-5", "size": 5}
        for n in range(count)
    ]
    return {"images": images, "annotations": annotations, "info": {}}


def write(folder: Path, content: Json, name: str, pictures: str = "images") -> Path:
    (folder / pictures).mkdir(parents=True)
    for image in content["images"]:
        grey = np.full((max(1, image["height"]), image["width"], 3), image["id"] * 9, np.uint8)
        assert cv2.imwrite(str(folder / pictures / image["file_name"]), grey)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def check_layers(sample: AmodalSample) -> None:
    for layers in sample_layers(sample):
        hidden = layers.amodal.mask & layers.occluder.mask
        assert np.array_equal(layers.visible.mask | hidden, layers.amodal.mask)
        assert not (layers.visible.mask & hidden).any()


def test_kins_gives_order_and_layers(tmp_path: Path) -> None:
    write(tmp_path, kins_file(), "instances_train.json")
    samples = open_samples(tmp_path, split="all")
    assert isinstance(samples, KinsSamples)
    assert (len(samples), samples.labels) == (5, (Label.PERSON, Label.VEHICLE))
    sample = samples.sample(0, 0)
    assert [thing.label for thing in sample.objects] == [Label.VEHICLE, Label.PERSON, Label.PERSON]
    assert [thing.track_id for thing in sample.objects] == [2, 1, 3], "the car is seen where the pedestrian is hidden"
    car, walker, cyclist = sample_layers(sample)
    assert car.occlusion_fraction == 0
    assert np.array_equal(walker.visible.full(*WH[::-1]), FAR_SEEN)
    assert cyclist.occlusion_fraction == pytest.approx(0.5), "by something that nobody outlined"
    assert len(sample.static) == 1
    check_layers(sample)
    with pytest.raises(DataError, match=r"2 sizes \(32x20 and 33x20\)"):
        _ = samples.frame_wh
    assert samples.sample(0, 1).image_bgr.shape == (20, 33, 3)


def test_the_older_edition_of_kins_reads_the_same(tmp_path: Path) -> None:
    content = kins_file()
    new = KinsSamples(write(tmp_path / "new", content, "new.json"))
    for annotation in content["annotations"]:
        annotation["segmentation"], annotation["inmodal_seg"] = annotation.pop("a_segm"), annotation.pop("i_segm")
    old = open_samples(write(tmp_path / "old", content, "annotations/old.json", "training"), split="all")
    for one, other in zip(new.sample(0, 3).objects, old.sample(0, 3).objects, strict=True):
        assert np.array_equal(one.amodal.full(*WH[::-1]), other.amodal.full(*WH[::-1]))


def test_masks_that_contradict_one_another_in_a_ring_still_give_an_order(tmp_path: Path) -> None:
    content = kins_file(1)
    first, second, third = (7, 7), (11, 7), (9, 10)
    boxes = [full(x, y, x + 6, y + 6) for x, y in (first, second, third)]
    for place, corner in enumerate((first, second, third)):
        behind = boxes[place] & boxes[place - 1]  # each is hidden by the one before it, round the ring
        content["annotations"][place] |= {
            "a_segm": [box(*corner, corner[0] + 6, corner[1] + 6)],
            "i_segm": rle(boxes[place] & ~behind),
        }
    sample = KinsSamples(write(tmp_path, content, "ring.json")).sample(0, 0)
    assert len(sample.objects) == 3
    check_layers(sample)


def test_cocoa_gives_order_and_layers(tmp_path: Path) -> None:
    write(tmp_path, cocoa_file(), "annotations/COCO_amodal_train2014.json", "train2014")
    samples = open_samples(tmp_path, split="all")
    assert isinstance(samples, CocoaSamples)
    assert (samples.labels, samples.frame_wh) == ((Label.PERSON, Label.VEHICLE), WH)
    sample = samples.sample(0, 2)
    assert [(thing.label, thing.track_id) for thing in sample.objects] == [
        (Label.VEHICLE, 90_002),
        (Label.PERSON, 90_003),
    ]
    car, man = sample_layers(sample)
    assert np.array_equal(man.visible.full(*WH[::-1]), FAR_SEEN)
    assert np.array_equal(car.occluder.full(*WH[::-1]), full(*NEAR) & full(18, 10, 24, 20)), "the bush"
    assert [before for before, _ in sample.static] == [0], "grass and dog hide nothing"
    check_layers(sample)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Person", Label.PERSON),
        ("two women", Label.PERSON),
        ("tennis players", Label.PERSON),
        ("city bus", Label.VEHICLE),
        ("car wheel", None),
        ("bicycle", None),
        ("", None),
    ],
)
def test_cocoa_names(name: str, label: Label | None) -> None:
    assert CocoaRegion(segmentation=[], name=name).label is label
    assert CocoaRegion(segmentation=[], name=name, is_stuff=1).label is None


def test_splits_are_by_file_name_and_share_no_picture(tmp_path: Path) -> None:
    path = write(tmp_path, cocoa_file(10), "c.json")
    train, judge = (open_samples(path, split=split, per_epoch=None) for split in ("train", "validation"))
    names = [[part.sample(0, index).name for index in range(len(part))] for part in (train, judge)]
    assert names == [[f"COCO_{n:03d}.png" for n in range(8)], ["COCO_008.png", "COCO_009.png"]]
    assert train.sha256 != judge.sha256


def change(*path: str | int, **values: Any) -> Callable[[Json], None]:
    def apply(content: Json) -> None:
        place: Any = content
        for step in path:
            place = place[step]
        place.update(values)

    return apply


ANN = ("annotations", 1)
REG = ("annotations", 2, "regions", 2)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (change(*ANN, image_id=99), "annotation 2: there is no image 99"),
        (change(*ANN, id=1), "names annotation id 1 twice"),
        (change("images", 1, id=0), "names an image id twice"),
        (change("images", 1, height=0), "image 1 is 33x0: correct its size"),
        (change("images", 1, file_name="../1.png"), r"\.\./1.png lies outside the pictures' folder"),
        (change("images", 1, file_name="/1.png"), "/1.png lies outside the pictures' folder"),
        (change(*ANN, category_id=40), "annotation 2: there is no category 40"),
        (change(*ANN, i_segm=None), "annotation 2 has no i_segm: take KINS' own"),
        (change(*ANN, a_segm=[]), "annotation 2, a_segm: a mask without a polygon"),
        (change(*ANN, a_segm=[[1, 2, 3, 4]]), "a polygon of 4 numbers"),
        (change(*ANN, a_segm=[[1, 2, 3, 4, 5, 6, 7]]), "a polygon of 7 numbers"),
        (change(*ANN, a_segm=[[1e300, 2, 3, 4, 5, 6]]), "no place in a picture"),
        (change(*ANN, a_segm=[[float("nan"), 2, 3, 4, 5, 6]]), "is no KINS file: JSON is malformed"),
        (change(*ANN, a_segm=[[1, 2, 3, 4, 5, 6], 7]), "mixes polygons and numbers"),
        (change(*ANN, i_segm={"size": [20, 30], "counts": [600]}), "i_segm: a mask of 30x20 for a picture of 32x20"),
        (change("categories", 3, id="car"), "is no KINS file: Expected `int`"),
        (lambda content: content.pop("categories"), "is no KINS file: .*categories"),
        (lambda content: content.update(annotations=[]), "no annotation of a person or a vehicle"),
    ],
)
def test_bad_kins_files_are_told_in_one_line(tmp_path: Path, spoil: Callable[[Json], object], told: str) -> None:
    content = kins_file()
    spoil(content)
    with pytest.raises(DataError, match=told) as caught:
        KinsSamples(write(tmp_path, content, "kins.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            change("annotations", 2, depth_constraint="1-2,2-3,3-1,3-5"),
            "COCO_002.png: regions 1, 2, 3 lie before one",
        ),
        (change("annotations", 2, depth_constraint="1-2,2"), "COCO_002.png: constraint '2' is not NEAR-FAR"),
        (change("annotations", 2, depth_constraint="1-6"), "constraint '1-6' is not NEAR-FAR of regions 1 to 5"),
        (change("annotations", 2, depth_constraint="2-2"), "COCO_002.png: regions 2 lie before one another"),
        (change("annotations", 2, image_id=99), "there is no image 99"),
        (change("annotations", 2, image_id=8), "COCO_001.png is annotated twice"),
        (change(*REG, segmentation=[]), "COCO_002.png, region 3: a mask without a polygon"),
        (
            change(*REG, visible_mask={"size": [4, 4], "counts": "0"}),
            "region 3: a mask of 4x4 for",
        ),
        (change("annotations", 2, regions="none"), "is no COCOA file: Expected `array`"),
        (lambda content: content.update(annotations=[]), "has 0 frames, too few"),
    ],
)
def test_bad_cocoa_files_are_told_in_one_line(tmp_path: Path, spoil: Callable[[Json], object], told: str) -> None:
    content = json.loads(json.dumps(cocoa_file()))
    spoil(content)
    with pytest.raises(DataError, match=told) as caught:
        CocoaSamples(write(tmp_path, content, "cocoa.json"))
    assert "\n" not in str(caught.value)


def test_a_file_without_a_class_teaches_nothing(tmp_path: Path) -> None:
    content = json.loads(json.dumps(cocoa_file()))
    for annotation in content["annotations"]:
        for region in annotation["regions"]:
            region["name"] = "tree"
    with pytest.raises(DataError, match="names no person and no vehicle"):
        CocoaSamples(write(tmp_path, content, "cocoa.json"))


def test_what_is_bad_inside_is_told_when_it_is_read(tmp_path: Path) -> None:
    content = kins_file()
    content["annotations"][0]["i_segm"]["counts"] = "zz"
    content["annotations"][4]["i_segm"] = {"size": [20, 33], "counts": [600, -1, 61]}
    samples = KinsSamples(write(tmp_path, content, "kins.json"))
    (tmp_path / "images/000002.png").write_bytes(b"no picture")
    for index, told in enumerate(
        ("image 0: annotation 1: mask runs", "annotation 5: a mask run is neg", "no readable")
    ):
        with pytest.raises(DataError, match=told):
            samples.sample(0, index)


def test_pictures_and_files_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, kins_file(), "kins.json")
    (tmp_path / "images/000003.png").unlink()
    with pytest.raises(DataError, match=r"lacks 000003.png"):
        KinsSamples(path)
    (tmp_path / "images/000000.png").unlink()
    with pytest.raises(DataError, match=r"no folder in or beside .* holds 000000.png: put the pictures there"):
        KinsSamples(path)
    with pytest.raises(DataError, match=r"cannot read .*none\.json"):
        KinsSamples(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"annotations": [{"segmentation": []}]}')
    with pytest.raises(DataError, match=r"has 2 annotation files \(kins.json, other.json\): give the path of one"):
        open_samples(tmp_path, split="all")
    with pytest.raises(DataError, match=r"no amodal annotations that are known here"):
        open_samples(tmp_path / "other.json", split="all")
