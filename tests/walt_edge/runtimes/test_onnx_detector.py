from __future__ import annotations

import importlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.material import shared_data
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.runtimes.onnx_detector import DetectorError, OnnxDetector, decode_yolox, letterbox


def test_yolox_heads_are_decoded() -> None:
    raw = np.zeros((8 * 8 + 4 * 4 + 2 * 2, 85), np.float32)
    raw[8 + 2, :5] = (0.5, 0.25, np.log(3), np.log(2), 0.9)  # stride 8, cell (2, 1)
    raw[8 + 2, 5 + 2] = 0.8
    raw[64 + 16 + 3, :5] = (0.0, 0.0, 0.0, 0.0, 1.0)  # stride 32, cell (1, 1)
    raw[64 + 16 + 3, 5] = 0.5
    boxes, scores, classes = decode_yolox(raw, (64, 64))
    order = np.argsort(-scores)
    assert scores[order] == pytest.approx([0.72, 0.5])
    assert classes[order].tolist() == [2, 0]
    assert boxes[order[0]] == pytest.approx([20 - 12, 10 - 8, 20 + 12, 10 + 8])
    assert boxes[order[1]] == pytest.approx([16, 16, 48, 48])


def test_overlapping_boxes_of_one_class_are_one() -> None:
    raw = np.zeros((84, 85), np.float32)
    for row in (9, 10):
        raw[row, :5] = (0.5, 0.5, np.log(4), np.log(4), 1.0)
        raw[row, 5] = 0.9 - 0.1 * (row - 9)
    boxes, scores, _ = decode_yolox(raw, (64, 64))
    assert len(boxes) == 1
    assert scores == pytest.approx([0.9])


@pytest.mark.parametrize(("shape", "scale"), [((360, 640), 0.65), ((576, 768), 416 / 768), ((900, 300), 416 / 900)])
def test_letterbox_keeps_proportions(shape: tuple[int, int], scale: float) -> None:
    picture, found = letterbox(np.zeros((*shape, 3), np.uint8), (416, 416))
    assert picture.shape == (416, 416, 3)
    assert found == pytest.approx(scale)
    assert (picture[-1, -1] == 114).all()


def test_without_onnx_runtime_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = tmp_path / "any.onnx"
    model.write_bytes(b"")
    with pytest.raises(UsageError, match=r"pip install 'walt-amodal\[cpu\]'"):
        OnnxDetector(model)


def test_a_missing_and_a_broken_model_are_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(DetectorError, match="no detector model"):
        OnnxDetector(tmp_path / "absent.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(DetectorError, match=r"broken\.onnx is no ONNX model"):
        OnnxDetector(broken)


def test_importing_the_detector_does_not_import_the_runtime() -> None:
    # The module itself is free of it; only an instance asks for it.
    module = importlib.import_module("walt_edge.runtimes.onnx_detector")
    assert not hasattr(module, "onnxruntime")


def test_a_real_model_finds_people_on_the_plaza() -> None:
    pytest.importorskip("onnxruntime")
    detector = OnnxDetector(shared_data("models/yolox_nano.onnx"))
    video = cv2.VideoCapture(str(shared_data("cameras/plaza/vtest.avi")))
    done, frame = video.read()
    video.release()
    assert done
    found = detector(frame)
    people = [score for score, label in zip(found.scores, found.labels, strict=True) if label is Label.PERSON]
    assert sum(score > 0.4 for score in people) >= 2
    height, width = frame.shape[:2]
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= (width, height, width, height)).all()
    assert detector.name == "yolox_nano"
