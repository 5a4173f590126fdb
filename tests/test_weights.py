"""The command that makes the general weights: what it learns from, and what it is compared with."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

from benchmarks import grounds, weights
from benchmarks.grounds import (
    CAMERAS_MINED,
    CHOOSERS,
    CHOOSING,
    JUDGES,
    JUDGING,
    MINED,
    QUICK_CHOOSERS,
    QUICK_JUDGES,
    QUICK_STREETS,
    SCENES,
    STREETS,
    forget_standing,
    learned_from,
)
from tests.clipart import Thing, some_things, write_scene
from walt_edge.contract.bundle import MODEL, Bundle
from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import decode_rle
from walt_edge.packaged import GENERAL_MODEL, general_model
from walt_edge.runtimes import Detections
from walt_train.data import data_sets_in
from walt_train.data.sample import AmodalSample


def test_no_street_that_judges_teaches() -> None:
    assert all(street.seed < 9000 for street in (*STREETS, *MINED, *QUICK_STREETS))
    assert all(street.seed >= 9000 for street in (*JUDGES, *QUICK_JUDGES))
    taught = {street.seed for street in (*STREETS, *MINED, *QUICK_STREETS)}
    assert all(street.seed < 9000 and street.seed not in taught for street in (*CHOOSERS, *QUICK_CHOOSERS))


def test_the_packages_weights_are_renewed_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It renders a few frames to choose on and to judge on, and nothing to learn from."""
    report = tmp_path / "weights.json"
    words = ["weights", "--workspace", str(tmp_path / "work"), "--renew", "--quick", "--out", str(report)]
    monkeypatch.setattr(sys, "argv", words)
    assert weights.main() == 0
    assert {path.name for path in (tmp_path / "work").iterdir()} == {CHOOSING, JUDGING, GENERAL_MODEL.name}
    made, packaged = (Bundle.read(path) for path in (tmp_path / "work" / GENERAL_MODEL.name, general_model()))
    assert made.files[MODEL] == packaged.files[MODEL]
    assert made.manifest.lineage == packaged.manifest.lineage
    said = json.loads(report.read_text())
    assert said["run"]["walt-general: threshold"] == round(made.manifest.score_threshold, 4)
    assert any(row["what"].startswith("walt-general: box IoU") and row["value"] > 20 for row in said["rows"])


def test_too_little_is_set_aside_and_what_is_whole_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rendered scenes come first: they give the golden pictures, which are to be ours."""
    made: list[str] = []

    def mine(folder: Path, things: list[Thing]) -> None:
        made.append(folder.name)
        write_scene(folder, things)

    whole, little = functools.partial(mine, things=some_things()), functools.partial(mine, things=some_things(1, 1))
    monkeypatch.setattr(grounds, "_REAL", {"plaza": whole, "arterial": little})
    monkeypatch.setattr(grounds, "CAMERAS", tmp_path)
    for name in ("STREETS", "MINED", "CHOOSERS", "JUDGES"):
        monkeypatch.setattr(grounds, name, ())
    for camera in ("plaza", "arterial"):
        (tmp_path / camera).mkdir()
    work = tmp_path / "work"
    for _ in range(2):
        grounds.prepare(work, is_quick=False)
    assert made == [".plaza", ".arterial"]  # once, though asked twice
    assert data_sets_in(work / CAMERAS_MINED) == [work / CAMERAS_MINED / "plaza"]
    assert "left out" in capsys.readouterr().err
    write_scene(work / SCENES / "31", some_things())
    assert learned_from(work) == [work / SCENES, work / CAMERAS_MINED]


def test_an_empty_workspace_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to train on: give --prepare-only"):
        learned_from(tmp_path)


def test_what_is_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "prepare", lambda root, is_quick: None)
    monkeypatch.setattr(sys, "argv", ["weights", "--workspace", str(tmp_path), "--prepare-only"])
    assert weights.main() == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_stands_in_a_plate_is_forgotten(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "plaza", some_things())

    class ParkedCar:
        name = "parked"

        def __call__(self, bgr: NDArray[np.uint8]) -> Detections:
            boxes = np.array([[40.0, 30, 60, 50], [100, 100, 120, 120]])
            return Detections(boxes, np.array([0.9, 0.1]), (Label.VEHICLE, Label.VEHICLE))

    forget_standing(folder, ParkedCar())
    (plate,) = read_clipart(folder).plates
    known = decode_rle(plate.header.known)
    assert not known[26:54, 36:64].any()
    assert known.sum() == known.size - 28 * 28


class Still:
    """A plain on which a person and a car appear in one picture of five."""

    sha256, frame_wh, labels = "", (96, 64), (Label.PERSON, Label.VEHICLE)

    def __len__(self) -> int:
        return 5

    def sample(self, epoch: int, index: int) -> AmodalSample:
        picture = np.full((64, 96, 3), 90, np.uint8)
        if index == 3:
            cv2.rectangle(picture, (10, 20), (19, 49), (200, 200, 200), -1)
            cv2.rectangle(picture, (50, 30), (79, 44), (10, 10, 10), -1)
        return AmodalSample(picture, (), name=f"{epoch}-{index}")


def test_motion_is_what_differs_from_the_median() -> None:
    look = weights._motion_in(Still())
    found = look(Still().sample(0, 3).image_bgr)
    assert found.labels.tolist() == [Label.PERSON, Label.VEHICLE]
    assert found.boxes_xyxy.tolist() == [[10, 20, 20, 50], [50, 30, 80, 45]]
    assert len(look(Still().sample(0, 0).image_bgr)) == 0
