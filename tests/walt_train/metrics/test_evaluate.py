"""The command, from a rendered street to a table: the eyes without weights, and models of the same interface."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.detectors import LABELS, PLACES, SIZE_WH, picture, write_colour_bundle
from tests.walt_train.metrics.boards import PERSON, found, rectangle, truth
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import coco_categories
from walt_edge.contract.masks import Rle, encode_rle, rle_area
from walt_train.cli import SCRIPT
from walt_train.commands.evaluate import detected
from walt_train.data import open_samples
from walt_train.data.sample import Samples
from walt_train.metrics.amodal_iou import MetricsError, evaluate_frames
from walt_train.metrics.evaluation import Evaluation, read_evaluation, table, write_evaluation
from walt_train.metrics.matching import Truth
from walt_train.rwalt.dataset import Output, write_dataset
from walt_train.rwalt.gl import RenderError
from walt_train.rwalt.street import StreetConfig

FRAMES = 64


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    config = StreetConfig(seed=4, frames=FRAMES, size_wh=(320, 180), preset="busy", light="day")
    try:
        assert max(write_dataset(config, Output(folder, "jpg"), workers=1)) == FRAMES
    except RenderError as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def motion(street: Path) -> Path:
    out = street / "motion.json"
    assert SCRIPT.main(["evaluate", "--model", "motion", "--data", str(street), "--out", str(out)]) == 0
    return out


class Oracle:
    """A model that knows the truth, as `Detector` gives it."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._index = 0

    def predict(self, image_bgr: NDArray[np.uint8]) -> AmodalInstances:
        sample = self._samples.sample(0, self._index)
        self._index += 1
        assert np.array_equal(sample.image_bgr, image_bgr)
        known = Truth.of(sample)
        height, width = image_bgr.shape[:2]
        return AmodalInstances(
            frame_wh=(width, height),
            boxes_xyxy=known.boxes_xyxy.astype(np.float32),
            labels=known.labels,
            scores=np.ones(len(known), np.float32),
            amodal=known.amodal,
            occluder=known.amodal,
            occluded=known.amodal,
        )


def test_eyes_without_weights_find_what_moves_and_is_whole(motion: Path) -> None:
    outcome = read_evaluation(motion)
    result = outcome.result
    assert result.frames == FRAMES
    assert (outcome.model, outcome.every, outcome.threshold) == ("motion", 1, 0.0)
    whole, *_, hidden = result.by_occlusion
    assert whole.hits >= 20
    assert (whole.matched_box_iou or 0) > 55
    # What is more than half hidden has hardly an outline of its own: that is what a model is trained for.
    assert hidden.cases >= 20
    assert (hidden.mask_iou or 0) < 0.7 * (whole.mask_iou or 0)


def test_json_is_for_any_reader(motion: Path, street: Path) -> None:
    found = json.loads(motion.read_text())
    info = json.loads((street / "annotations.json").read_text())["info"]
    assert len(found["data_sha256"]) == len(info["content_sha256"])
    assert found["result"]["at_gamma"]["0.5"]["cases"] == found["result"]["by_occlusion"][-1]["cases"]
    assert len(found["result"]["cases"]) == found["result"]["total"]["cases"]


def test_cases_are_those_of_the_annotations(motion: Path, street: Path) -> None:
    """The layers that follow from the order are those that were rendered, poles and signs included."""
    labels = json.loads((street / "annotations.json").read_text())
    names = {image["id"]: Path(image["file_name"]).name for image in labels["images"]}
    expected = set()
    for record in labels["annotations"]:
        visible = rle_area(
            Rle(size=tuple(record["visible_segmentation"]["size"]), counts=record["visible_segmentation"]["counts"])
        )
        if visible >= 64 and record["area"] >= 1024 and visible >= 0.1 * record["area"]:
            expected.add((names[record["image_id"]], record["depth_order"], record["area"], visible))
    cases = read_evaluation(motion).result.cases
    assert {(Path(c.image).name, c.place, c.amodal_area, c.visible_area) for c in cases} == expected
    assert len(expected) >= 100


def test_the_truth_scores_100_and_is_better_than_motion(motion: Path, street: Path) -> None:
    samples = open_samples(street, split="all")
    result = evaluate_frames(detected(samples, 1, Oracle(samples)))
    assert result.total.recall == 1
    assert result.total.mask_iou == pytest.approx(100)
    assert result.false_boxes == 0
    before = read_evaluation(motion)
    after = Evaluation(
        model="oracle",
        model_sha256="",
        data=str(street),
        data_sha256=before.data_sha256,
        every=1,
        threshold=0.5,
        result=result,
    ).minus(before)
    in_all = after.differences[0]
    assert in_all.mask_points == pytest.approx(100 - (before.result.total.mask_iou or 0))
    assert in_all.mask_interval is not None
    assert 0 < in_all.mask_interval[0] <= (in_all.mask_points or 0) <= in_all.mask_interval[1]
    assert "oracle - motion" in table(after)


def test_every_kth_frame_of_what_was_watched_whole(
    motion: Path, street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--model", "motion", "--data", str(street), "--every", "8"]
    assert SCRIPT.main([*words, "--out", str(tmp_path / "a.json")]) == 0
    assert "γ = 0.5" in capsys.readouterr().out
    cases = read_evaluation(tmp_path / "a.json").result.cases
    images = {case.image for case in cases}
    assert cases == tuple(case for case in read_evaluation(motion).result.cases if case.image in images)
    # The same frames can be compared, others cannot.
    assert SCRIPT.main([*words, "--out", str(tmp_path / "b.json"), "--against", str(tmp_path / "a.json")]) == 0
    assert "motion - motion" in capsys.readouterr().out
    assert SCRIPT.main([*words, "--out", str(tmp_path / "c.json"), "--against", str(motion)]) == 1
    assert "--every" in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--every", "0"], 2, "--every 0"),
        (["--data", "nowhere"], 2, "nowhere"),
        (["--model", "none.walt"], 1, "none.walt"),
        (["--against", "none.json"], 1, "none.json"),
    ],
)
def test_bad_input_is_one_line(
    street: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    message: str,
) -> None:
    out = tmp_path / "out.json"
    assert SCRIPT.main(["evaluate", "--model", "motion", "--data", str(street), "--out", str(out), *words]) == status
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_real_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three frames of places that the model sees red: it finds those, and nothing where there is only truth."""
    bundle = write_colour_bundle(tmp_path / "colours.walt")
    shown = ((0, 3), (0, 1, 3), ())
    folder = write_places(tmp_path / "places", shown, true=((0, 3), (0, 3), (2,)))
    out = tmp_path / "out.json"
    assert SCRIPT.main(["evaluate", "--model", str(bundle), "--data", str(folder), "--out", str(out)]) == 0
    outcome = read_evaluation(out)
    assert (outcome.model, outcome.threshold) == ("demo-1", 0.5)
    assert len(outcome.model_sha256) == 64
    total = outcome.result.total
    assert (total.cases, total.objects, total.hits, total.false_boxes) == (5, 3, 4, 1)
    assert total.matched_box_iou == pytest.approx(100, abs=1)
    assert total.box_iou == pytest.approx(80, abs=1)
    assert "demo-1: 3 frames" in capsys.readouterr().out


def write_places(folder: Path, shown: Sequence[Sequence[int]], true: Sequence[Sequence[int]]) -> Path:
    """A folder of COCO annotations: pictures that show some places, and objects at others."""
    (folder / "images").mkdir(parents=True)
    width, height = SIZE_WH
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    nothing = encode_rle(np.zeros((height, width), bool)).coco()
    for index, (red, objects) in enumerate(zip(shown, true, strict=True)):
        name = f"images/{index}.png"
        cv2.imwrite(str(folder / name), picture(*red))
        time = f"2026-05-01T10:00:0{index}.000000Z"
        images.append(
            {"id": index + 1, "file_name": name, "width": width, "height": height}
            | {"time": time, "camera": "colours", "frame": index}
        )
        for order, place in enumerate(objects):
            box = PLACES[place]
            mask = encode_rle(rectangle(box).full(height, width)).coco()
            area = (box[2] - box[0]) * (box[3] - box[1])
            annotations.append(
                {"id": 1000 * (index + 1) + order, "image_id": index + 1, "category_id": int(LABELS[place])}
                | {"track_id": place, "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]], "area": area}
                | {"iscrowd": 0, "segmentation": mask, "visible_segmentation": mask}
                | {"occluder_segmentation": nothing, "occluded_segmentation": nothing}
                | {"occlusion_fraction": 0.0, "depth_order": order, "truncated": False}
            )
    data: dict[str, object] = {"images": images, "annotations": annotations, "categories": coco_categories()}
    data |= {"static_segmentation": nothing, "info": {"content_sha256": "c" * 64}}
    (folder / "annotations.json").write_bytes(msgspec.json.encode(data))
    return folder


def evaluation() -> Evaluation:
    result = evaluate_frames([(found(), truth((PERSON, (0, 0, 40, 40))))])
    return Evaluation(
        model="m", model_sha256="", data="d", data_sha256="a" * 64, every=1, threshold=0.5, result=result
    )


def test_an_evaluation_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "m.json"
    write_evaluation(evaluation(), path)
    assert read_evaluation(path) == evaluation()
    path.write_text(path.read_text()[:-30])
    with pytest.raises(MetricsError, match="no evaluation"):
        read_evaluation(path)
    path.unlink()
    shutil.copy(__file__, tmp_path / "file")
    with pytest.raises(MetricsError, match="cannot write"):
        write_evaluation(evaluation(), tmp_path / "file" / "m.json")


def test_a_table_without_cases_has_dashes() -> None:
    lines = table(evaluation()).splitlines()
    assert lines[2].split() == ["all", "1", "1", "0.000", "-", "0.0", "0.0", "-,", "-"]
    assert lines[4].split() == ["γ", "=", "0.5", "0", "0", "-", "-", "-", "-", "-,", "-"]


def test_other_data_is_no_comparison() -> None:
    other = msgspec.structs.replace(evaluation(), data_sha256="b" * 64)
    with pytest.raises(MetricsError, match="other data"):
        evaluation().minus(other)
