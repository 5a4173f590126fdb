from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools.coco import COCO

from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask
from walt_train.data import open_samples
from walt_train.data.coco import AnnotationRecord, CocoSamples, DataError, ImageRecord, layers_of
from walt_train.data.layers import sample_layers
from walt_train.data.sample import AmodalObject, AmodalSample
from walt_train.data.write import OutputError, annotation_records, write_samples

WH = (24, 16)
MASKS = arrays(bool, WH[::-1])


@dataclass
class Held:
    """Samples in memory."""

    samples: list[AmodalSample]
    sha256: str = "0" * 64
    frame_wh: tuple[int, int] = WH
    labels: Sequence[Label] = field(default_factory=lambda: tuple(Label))

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, epoch: int, index: int) -> AmodalSample:
        return self.samples[index]


def picture(number: int, fulls: list[Mask], tracks: list[int], static: Mask | None = None) -> AmodalSample:
    objects = tuple(
        AmodalObject(Label(1 + place % 2), PatchMask.from_full(full), track)
        for place, (full, track) in enumerate(zip(fulls, tracks, strict=True))
        if full.any()
    )
    post = () if static is None or not static.any() else ((len(objects) // 2, PatchMask.from_full(static)),)
    image = np.random.default_rng(number).integers(0, 256, (*WH[::-1], 3), dtype=np.uint8)
    return AmodalSample(image, objects, post, frame=number, time=f"2026-01-01T00:00:{number:02d}Z", camera="cam-1")


def square(x: int, y: int, side: int = 6) -> Mask:
    full = np.zeros(WH[::-1], dtype=bool)
    full[y : y + side, x : x + side] = True
    return full


def write(folder: Path, count: int = 10) -> Held:
    held = Held([picture(n, [square(2, 2), square(5, 4), square(n, 8)], [1, 2, 3 + n]) for n in range(count)])
    assert list(write_samples(folder, held, {"seed": 1})) == list(range(1, count + 1))
    return held


@given(st.lists(MASKS, max_size=5), MASKS)
def test_layers_survive_the_format(fulls: list[Mask], static: Mask) -> None:
    sample = picture(0, fulls, list(range(len(fulls))), static)
    data = msgspec.json.encode(annotation_records(sample, 1))
    records = msgspec.json.decode(data, type=list[AnnotationRecord])
    objects, posts = layers_of(records, ImageRecord(id=1, file_name="", width=WH[0], height=WH[1]))
    again = AmodalSample(sample.image_bgr, objects, posts)
    for before, after in zip(sample_layers(sample), sample_layers(again), strict=True):
        for layer in ("amodal", "visible", "occluder", "occluded"):
            assert np.array_equal(getattr(before, layer).full(*WH[::-1]), getattr(after, layer).full(*WH[::-1]))
        hidden = after.amodal.mask & after.occluder.mask
        assert np.array_equal(after.visible.mask | hidden, after.amodal.mask)
        assert not (after.visible.mask & hidden).any()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    held = write(tmp_path)
    samples = open_samples(tmp_path, split="all")
    assert (len(samples), samples.frame_wh, samples.labels) == (10, WH, (Label.PERSON, Label.VEHICLE))
    for index, before in enumerate(held.samples):
        after = samples.sample(0, index)
        assert np.array_equal(after.image_bgr, before.image_bgr), "PNG is lossless"
        assert (after.frame, after.time, after.camera) == (before.frame, before.time, "cam-1")
        pairs = zip(after.objects, before.objects, strict=True)
        assert all(
            (one.label, one.track_id, one.amodal.box_xyxy) == (two.label, two.track_id, two.amodal.box_xyxy)
            for one, two in pairs
        )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
def test_coco_tools_read_it(tmp_path: Path) -> None:
    held = write(tmp_path)
    coco = COCO(str(tmp_path / "annotations.json"))
    assert len(coco.imgs) == 10
    for image_id, sample in enumerate(held.samples, start=1):
        records = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
        for record, thing in zip(records, sample.objects, strict=True):
            assert np.array_equal(coco.annToMask(record), thing.amodal.full(*WH[::-1]))
            x, y, w, h = record["bbox"]
            assert (x, y, x + w, y + h) == thing.amodal.box_xyxy
    assert {category["name"] for category in coco.loadCats(coco.getCatIds())} == {"person", "vehicle"}


def test_the_split_is_by_time_and_prefers_new_objects(tmp_path: Path) -> None:
    frames = [picture(n, [square(2, 2)], [n // 2]) for n in range(21)]
    list(write_samples(tmp_path, Held(frames), {}))
    train, judge = (CocoSamples(tmp_path, split=split) for split in ("train", "validation"))
    assert [train.sample(0, n).frame for n in range(len(train))] == list(range(16))
    assert [judge.sample(0, n).frame for n in range(len(judge))] == list(range(16, 21))
    frames = [picture(n, [square(2, 2)], [min(n // 3, 5)]) for n in range(25)]
    list(write_samples(tmp_path, Held(frames), {}))
    assert len(CocoSamples(tmp_path, split="validation")) == 5


def test_one_object_that_crosses_the_bound_costs_only_its_frames(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [picture(n, [square(2, 2)], [n if n < 15 or n > 17 else 15]) for n in range(20)]
    list(write_samples(tmp_path, Held(frames), {}))
    with caplog.at_level(logging.WARNING):
        judge = CocoSamples(tmp_path, split="validation")
    assert [judge.sample(0, n).frame for n in range(len(judge))] == [18, 19]
    assert not caplog.records
    write(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert len(CocoSamples(tmp_path, split="validation")) == 2
    assert "of the 4 objects that judge, 2 (50%) train as well, and they judge too" in caplog.text
    assert "\n" not in caplog.records[-1].getMessage()


def test_epochs_show_every_frame_before_one_again(tmp_path: Path) -> None:
    write(tmp_path)
    samples = CocoSamples(tmp_path, per_epoch=4, seed=3)
    frames = [samples.sample(place // 4, place % 4).frame for place in range(40)]
    assert all(sorted(frames[lap : lap + 10]) == list(range(10)) for lap in range(0, 40, 10))
    assert frames[:10] != frames[10:20]
    assert samples.sample(2, 1).frame == frames[9]
    other = CocoSamples(tmp_path, per_epoch=4, seed=4)
    assert [other.sample(0, n).frame for n in range(4)] != frames[:4]
    assert other.sha256 != samples.sha256


def test_the_same_again_has_the_same_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name)
    contents = [json.loads((tmp_path / name / "annotations.json").read_text()) for name in ("a", "b")]
    assert contents[0] == contents[1]
    assert len(contents[0]["info"]["content_sha256"]) == 64
    assert contents[0]["info"]["seed"] == 1


def test_keypoints_and_cuboids_are_read(tmp_path: Path) -> None:
    write(tmp_path)
    content = json.loads((tmp_path / "annotations.json").read_text())
    cuboid = [[float(n), 2 * n - 3.5] for n in range(8)]
    content["annotations"][1] |= {"keypoints": [1, 2.5, 2, -4, 30, 1, 0, 0, 0], "num_keypoints": 2, "cuboid": cuboid}
    content["annotations"][2] |= {"keypoints": [], "num_keypoints": 0}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    bare, full, none = CocoSamples(tmp_path).sample(0, 0).objects
    assert bare.keypoints is None
    assert bare.cuboid is None
    assert np.array_equal(np.asarray(full.keypoints), np.array([[1, 2.5, 2], [-4, 30, 1], [0, 0, 0]]))
    assert np.array_equal(np.asarray(full.cuboid), np.array(cuboid))
    assert none.keypoints is None


def spoil_json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "annotations.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "annotations.json").unlink(), "cannot read .*walt-train rwalt"),
        (lambda folder: (folder / "annotations.json").write_bytes(b"\xff{"), "is no amodal COCO file"),
        (lambda folder: (folder / "annotations.json").write_text("[]"), "is no amodal COCO file"),
        (spoil_json(lambda c: c["annotations"][3].pop("depth_order")), "missing required field `depth_order`"),
        (spoil_json(lambda c: c["annotations"][3].update(category_id=7)), r"[Ii]nvalid.*category_id"),
        (spoil_json(lambda c: c["annotations"][3].update(image_id=99)), "image 99 of no size"),
        (spoil_json(lambda c: c["images"][0].update(width=7)), r"a mask of \(16, 24\) for image 1"),
        (spoil_json(lambda c: c["images"][1].update(id=1)), "names an image id twice"),
        (
            spoil_json(lambda c: c["images"][1].update(width=10**6, height=10**6)),
            "image 2 is 1000000x1000000: correct",
        ),
        (
            spoil_json(lambda c: c["annotations"][3]["occluder_segmentation"].update(size=[4, 4])),
            r"a mask of \(4, 4\) for image 2 of \(16, 24\)",
        ),
        (
            spoil_json(lambda c: c["annotations"][3].update(keypoints=[1, 2])),
            "in image 2: keypoints of 2 num",
        ),
        (spoil_json(lambda c: c["annotations"][3].update(keypoints=[1, 2, 3])), "not x, y, visibility 0, 1 or 2"),
        (spoil_json(lambda c: c["annotations"][3].update(keypoints=["a", 2, 3])), "Expected `float`, got `str`"),
        (
            spoil_json(lambda c: c["annotations"][3].update(keypoints=[1, 2, 1], num_keypoints=2)),
            "num_keypoints is 2, but 1 are labelled",
        ),
        (spoil_json(lambda c: c["annotations"][3].update(cuboid=[[1, 2]] * 7)), "of length >= 8"),
        (spoil_json(lambda c: c["annotations"][3].update(cuboid=[[1, 2, 3]] * 8)), "of length <= 2"),
        (spoil_json(lambda c: c["annotations"][3].update(cuboid=[[1, float("nan")]] * 8)), "JSON is malformed"),
        (spoil_json(lambda c: c["images"][2].update(time="noon")), "time 'noon' of image 3 is not ISO 8601: correct"),
        (spoil_json(lambda c: c.update(images=[], annotations=[])), "has 0 frames, too few for split 'all'"),
        (lambda folder: (folder / "images/000004.png").unlink(), "lacks images/000004.png: write"),
    ],
)
def test_bad_folders_are_told_in_one_line(tmp_path: Path, spoil: Callable[[Path], object], told: str) -> None:
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=told) as caught:
        CocoSamples(tmp_path)
    assert "\n" not in str(caught.value)


def test_frames_of_several_sizes_are_no_fixed_camera(tmp_path: Path) -> None:
    frames = [picture(n, [square(2, 2)], [n]) for n in range(3)]
    frames[1] = replace(frames[1], image_bgr=np.zeros((16, 22, 3), np.uint8))
    list(write_samples(tmp_path, Held(frames), {}))
    samples = CocoSamples(tmp_path)
    assert samples.sample(0, 1).image_bgr.shape == (16, 22, 3)
    with pytest.raises(DataError, match=r"2 sizes \(22x16 and 24x16\).*compose without --crop-chance"):
        _ = samples.frame_wh
    assert CocoSamples(tmp_path, split="validation").frame_wh == (24, 16)


def test_what_is_bad_inside_is_told_when_it_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images/000001.png").write_bytes(b"no picture")
    spoil_json(lambda c: c["annotations"][-1]["segmentation"].update(counts="zz"))(tmp_path)
    samples = CocoSamples(tmp_path)
    with pytest.raises(DataError, match=r"000001.png is no readable image, expected 24x16"):
        samples.sample(0, 0)
    with pytest.raises(DataError, match="image 10: mask runs"):
        samples.sample(0, 9)
    with pytest.raises(IndexError):
        samples.sample(0, 10)


def test_numbers_out_of_range_and_folders_of_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(UsageError, match="0 samples an epoch"):
        CocoSamples(tmp_path, per_epoch=0)
    with pytest.raises(UsageError, match="split 'test'"):
        CocoSamples(tmp_path, split="test")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"neither clipart.json nor annotations.json"):
        open_samples(tmp_path / "images", split="all")


def test_a_failed_writing_leaves_no_labels(tmp_path: Path) -> None:
    held = write(tmp_path)
    (tmp_path / "images/000003.png").unlink()
    (tmp_path / "images/000003.png").mkdir()
    with pytest.raises(OutputError, match="Is a directory; free space or choose another --out"):
        list(write_samples(tmp_path, held, {}))
    assert {path.name for path in tmp_path.iterdir()} == {"images"}
