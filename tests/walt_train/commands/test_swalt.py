"""`walt-train swalt` with eyes of its own: a bundle, or what moves; from pictures to truth, and who may be judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.detectors import PLACES, SIZE_WH, picture, write_colour_bundle
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.predictions import Predictions, frame_prediction, write_predictions
from walt_edge.privacy.anonymiser import FILL_BGR
from walt_edge.vision.plate import Image
from walt_train.cli import SCRIPT
from walt_train.data import open_samples
from walt_train.data.layers import sample_layers
from walt_train.metrics.origin import read_origin

WIDTH, HEIGHT, FPS = 320, 180, 4
STOP_X, ROAD_Y = 110, 70
CAR_WH = 110, 56
CARS = ((40, 40, 200), (190, 90, 30))
STANDS, DRIVES, AWAY = 14 * FPS, 24, 6 * FPS


def walker(size_wh: tuple[int, int], box: tuple[int, int, int, int] | None) -> AmodalInstances:
    """Somebody who passes, or nobody."""
    if box is None:
        return AmodalInstances.empty(size_wh)
    patch = PatchMask(box[0], box[1], np.ones((box[3] - box[1], box[2] - box[0]), bool))
    return AmodalInstances.of_masks(size_wh, [int(Label.PERSON)], [1.0], [patch])


def test_a_bundle_looks_and_may_not_be_judged_by_what_it_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_colour_bundle(tmp_path / "colours.walt")
    frames, truth = tmp_path / "frames", tmp_path / "truth"
    frames.mkdir()
    records = []
    for index in range(12):
        assert cv2.imwrite(str(frames / f"{index:04d}.png"), picture(3))
        passer = walker(SIZE_WH, (150, 30, 170, 120) if index in (5, 6) else None)
        records.append(frame_prediction(passer, index, f"{index:04d}.png"))
    write_predictions(tmp_path / "passers.json", Predictions(model="passers", frames=records))
    words = ["swalt", "--detector", str(bundle), "--frames", str(frames), "--fps", "0.5", "--out", str(truth)]
    assert SCRIPT.main([*words, "--occluders", str(tmp_path / "passers.json")]) == 0
    samples = open_samples(truth, split="all")
    assert [samples.sample(0, index).frame for index in range(len(samples))] == [5, 6]
    (car,) = samples.sample(0, 0).objects
    assert car.amodal.iou(PatchMask(PLACES[3][0], PLACES[3][1], np.ones((60, 100), bool))) > 0.95
    origin = read_origin(truth).swalt
    assert origin is not None
    assert origin.detector_sha256 == Bundle.read(bundle).sha256
    capsys.readouterr()
    evaluate = ["evaluate", "--model", str(bundle), "--data", str(truth), "--out", str(tmp_path / "out.json")]
    assert SCRIPT.main(evaluate) == 1
    assert "made this truth" in capsys.readouterr().err


def scene() -> Iterator[tuple[Image, int | None]]:
    """Cars come, stand while somebody walks by before them, and leave; with each frame, where a car is hidden."""
    grain = np.random.default_rng(0)
    road = np.clip(128 + cv2.GaussianBlur(grain.normal(0, 12, (HEIGHT, WIDTH)), (0, 0), 1.5), 0, 255)
    for colour in CARS:
        for index in range(2 * DRIVES + STANDS + AWAY):
            x = STOP_X + 10 * (min(0, index - DRIVES) + max(0, index - DRIVES - STANDS))
            step = index - DRIVES - STANDS // 2
            frame = np.repeat(road[..., None], 3, axis=2) + grain.normal(0, 1, (HEIGHT, WIDTH, 1))
            if index < 2 * DRIVES + STANDS:
                draw_car(frame, x, colour)
            at = 20 + 12 * step
            if 0 <= step < 24:
                cv2.rectangle(frame, (at, 62), (at + 16, 150), (90, 30, 110), cv2.FILLED)
            hides = 0 <= step < 24 and STOP_X - 16 <= at < STOP_X + CAR_WH[0]
            yield np.clip(frame, 0, 255).astype(np.uint8), at if hides else None


def draw_car(frame: NDArray[np.float64], x: int, colour: tuple[int, int, int]) -> None:
    width, height = CAR_WH
    cv2.rectangle(frame, (x, ROAD_Y), (x + width - 1, ROAD_Y + height - 1), colour, cv2.FILLED)
    cv2.rectangle(frame, (x + 20, ROAD_Y + 6), (x + width - 20, ROAD_Y + 20), (112, 112, 112), cv2.FILLED)


def film(folder: Path) -> dict[int, int]:
    """Writes the frames; returns those in which somebody is before a standing car, and where."""
    folder.mkdir()
    hidden = {}
    for index, (bgr, at) in enumerate(scene()):
        assert cv2.imwrite(str(folder / f"{index:04d}.png"), bgr)
        if at is not None:
            hidden[index] = at
    return hidden


def test_motion_makes_truth_that_is_right_and_is_not_judged_by_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = film(tmp_path / "frames")
    words = ["swalt", "--detector", "motion", "--frames", str(tmp_path / "frames"), "--fps", str(FPS)]
    assert SCRIPT.main([*words, "--out", str(tmp_path / "truth"), "--classes", "vehicle"]) == 0
    samples = open_samples(tmp_path / "truth", split="all")
    shown = [samples.sample(0, index) for index in range(len(samples))]
    assert {sample.frame for sample in shown} <= set(hidden)
    for sample in shown:
        head = sample.image_bgr[64:72, hidden[sample.frame] + 4 : hidden[sample.frame] + 12]
        assert np.abs(head.astype(int) - FILL_BGR).max(axis=2).mean() < 12, "the head of who walks by is filled"
    assert len(shown) >= 20
    truth = PatchMask(STOP_X, ROAD_Y, np.ones(CAR_WH[::-1], bool))
    ious = [thing.amodal.iou(truth) for sample in shown for thing in sample.objects]
    assert min(ious) >= 0.95
    hides = [layers.occlusion_fraction for sample in shown for layers in sample_layers(sample)]
    assert max(hides) == pytest.approx(17 / CAR_WH[0], abs=0.02)
    origin = read_origin(tmp_path / "truth").swalt
    assert origin is not None
    assert (origin.detector, origin.objects) == ("motion", len(CARS))
    capsys.readouterr()
    data = ["--data", str(tmp_path / "truth"), "--out", str(tmp_path / "out.json")]
    assert SCRIPT.main(["evaluate", "--model", "motion", *data]) == 1
    assert "motion made this truth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("eyes", "message"),
    [([], "one of the arguments"), (["--detector", "motion", "--timeline", "t.json"], "not allowed with")],
)
def test_one_pair_of_eyes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], eyes: Sequence[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        SCRIPT.main(["swalt", "--frames", str(tmp_path), "--out", str(tmp_path / "truth"), *eyes])
    assert message in capsys.readouterr().err


def test_a_bundle_that_is_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cv2.imwrite(str(tmp_path / "0.png"), picture(3))
    words = ["swalt", "--frames", str(tmp_path), "--out", str(tmp_path / "truth"), "--detector", "none.walt"]
    assert SCRIPT.main(words) == 1
    error = capsys.readouterr().err
    assert "none.walt" in error
    assert error.count("\n") == 1


def test_a_folder_without_frames_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in (tmp_path, tmp_path / "none.mp4"):
        words = ["swalt", "--detector", "motion", "--frames", str(source), "--out", str(tmp_path / "truth")]
        assert SCRIPT.main(words) == 1
        assert capsys.readouterr().err.count("\n") == 1
