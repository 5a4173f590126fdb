"""The general weights that come with the package."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from tests.detectors import Together
from walt_edge.contract.bundle import MODEL, Bundle
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.detector import Detector
from walt_edge.golden import difference
from walt_edge.packaged import general_model
from walt_edge.watching.tracking import iou_matrix
from walt_train.rwalt.dataset import render
from walt_train.rwalt.street import Street, StreetConfig

MOST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(device="cpu", threads=1)


def test_they_are_small_and_know_both_classes() -> None:
    bundle = Bundle.read(general_model())
    assert len(bundle.files[MODEL]) <= MOST_BYTES
    assert bundle.manifest.labels == list(Label)
    assert bundle.manifest.lineage.recipe == "walt_edge_general"


def test_this_machine_answers_as_home_did(detector: Detector) -> None:
    detector.check_golden()


def test_pictures_of_several_cameras_are_answered_together_as_each_alone(detector: Detector) -> None:
    bundle = Bundle.read(general_model())
    assert bundle.manifest.pictures == 0
    network = Together(bundle.files[MODEL], size_wh=bundle.manifest.size_wh, device="cpu", threads=1)
    pictures = detector.golden_pictures()[:3]
    for picture, found in zip(pictures, Detector(bundle, runtime=network).predict_many(pictures), strict=True):
        expected = detector.predict(picture)
        assert difference(found, expected, score_threshold=bundle.manifest.score_threshold) == ""


def test_what_stands_clearly_on_a_street_of_no_training_is_found(detector: Detector) -> None:
    """Streets from 9000 on and a third of the vehicle shapes took no part in the training."""
    asked, found = 0, 0
    for frame in render(Street(StreetConfig(seed=9311, frames=8, fps=0.2))):
        seen = detector.predict(frame.bgr)
        clear = [one for one in frame.annotations if one["occlusion_fraction"] < 0.1 and one["bbox"][3] >= 48]
        asked += len(clear)
        found += sum(_best_iou(seen, one["bbox"], one["category_id"]) >= 0.5 for one in clear)
    assert asked >= 10
    assert found >= 0.5 * asked


def _best_iou(seen: AmodalInstances, box_xywh: list[float], label: int) -> float:
    """Of the boxes of that class."""
    x, y, width, height = box_xywh
    own = np.array([[x, y, x + width, y + height]], np.float64)
    return float(iou_matrix(seen.boxes_xyxy[seen.labels == label].astype(np.float64), own).max(initial=0.0))
