"""A network for any camera: from clip art of cameras of unlike size to a bundle that agrees with itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from walt_export.bundle import export
from walt_export.half import MOST_BYTES

from tests import clipart
from walt_edge import Detector
from walt_edge.contract.bundle import MODEL, Bundle, write_bundle
from walt_train.cli import SCRIPT
from walt_train.commands import fit as command
from walt_train.engine.checkpoint import load_model
from walt_train.recipes import Recipe, walt_edge_general

SIZES_WH = ((320, 180), (400, 400))


def light(name: str) -> Recipe:
    """The recipe as it is, but for how many pictures are looked at."""
    assert name == "walt_edge_general"
    recipe = walt_edge_general()
    training = msgspec.structs.replace(recipe.training, batch=2, rois=4, validation=4, warm_up_steps=1)
    return msgspec.structs.replace(recipe, training=training)


@pytest.fixture
def cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    folders = []
    for size_wh in SIZES_WH:
        monkeypatch.setattr(clipart, "FRAME_WH", size_wh)
        folders.append(str(clipart.write_scene(tmp_path / f"camera-{size_wh[1]}", clipart.some_things())))
    return folders


@pytest.mark.slow
def test_cameras_of_unlike_size_train_one_network_that_is_exported_and_verified(
    cameras: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_recipe", light)
    out, bundle = tmp_path / "fit", tmp_path / "general.walt"
    words = ["--recipe", "walt_edge_general", "--steps", "3", "--gpus", "0", "--out", str(out)]
    assert SCRIPT.main(["--data", *cameras, *words]) == 0
    network = load_model(out)[1].recipe.network
    assert len(network.anchors_wh) == 9
    golden = [cv2.imread(str(path)) for path in sorted((out / "golden").iterdir())]
    assert {picture.shape[1::-1] for picture in golden if picture is not None} == set(SIZES_WH)

    made = export(out)
    manifest = made.manifest
    write_bundle(bundle, made.manifest, made.files)
    assert len(Bundle.read(bundle).files[MODEL]) <= MOST_BYTES
    assert manifest.lineage.steps == 3
    assert "half_score" in manifest.parity
    detector = Detector.load(bundle, device="cpu", threads=1)
    detector.check_golden()
    assert detector.predict(np.zeros((90, 50, 3), np.uint8)).frame_wh == (50, 90)
