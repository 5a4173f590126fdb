"""Any ONNX model with COCO classes as a teacher, by ONNX Runtime.

Two forms are read. *Raw YOLOX*: one output (1, A, 85) over strides 8, 16 and 32. *End to end*: boxes, scores and
labels as outputs of those names (or `dets` (1, N, 5) and `labels`, as mmdeploy writes them). Frames go in letterboxed
to the top left corner, BGR, 0..255.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.runtimes import Detections, coco
from walt_edge.runtimes.session import SessionError, open_session

_STRIDES = (8, 16, 32)
_PAD_LEVEL = 114  # what YOLOX was trained with
_DEFAULT_SIDE = 640
_NMS_IOU = 0.5


class DetectorError(WaltError):
    """The model cannot be used as a teacher."""


class OnnxDetector:
    """Runs one model file.

    Raises:
        UsageError: ONNX Runtime is not installed.
        DetectorError: The file is missing, no ONNX model, or of neither form.
    """

    def __init__(self, path: Path) -> None:
        self._session = _open(path)
        self.name = path.stem[:40]
        entry = self._session.get_inputs()[0]
        shape = [side if isinstance(side, int) else None for side in entry.shape]
        if len(shape) != 4 or shape[1] not in (3, None):
            raise DetectorError(f"{path}: its input has the shape {entry.shape}, expected (1, 3, height, width)")
        self._input = entry.name
        self._dtype = np.uint8 if "uint8" in entry.type else np.float32
        self._size_hw = (shape[2] or _DEFAULT_SIDE, shape[3] or _DEFAULT_SIDE)
        self._outputs = {output.name: index for index, output in enumerate(self._session.get_outputs())}
        self._form = self._find_form(path)

    def _find_form(self, path: Path) -> str:
        names = set(self._outputs)
        shapes = [output.shape for output in self._session.get_outputs()]
        if {"boxes", "scores", "labels"} <= names:
            return "boxes"
        if {"dets", "labels"} <= names:
            return "dets"
        anchors = sum((self._size_hw[0] // s) * (self._size_hw[1] // s) for s in _STRIDES)
        if (
            len(shapes) == 1
            and len(shapes[0]) == 3
            and shapes[0][2] == 85
            and shapes[0][1] in (anchors, None, "anchors")
        ):
            return "yolox"
        raise DetectorError(
            f"{path}: outputs {dict(zip(self._outputs, shapes, strict=True))} are neither raw YOLOX "
            f"(1, {anchors}, 85) nor boxes + scores + labels: export it with one of these, with COCO's 80 classes"
        )

    def __call__(self, bgr: NDArray[np.uint8]) -> Detections:
        """Looks at one (H, W, 3) uint8 frame; boxes are clipped to it."""
        picture, scale = letterbox(bgr, self._size_hw)
        blob = np.ascontiguousarray(picture.transpose(2, 0, 1)[None]).astype(self._dtype)
        values = self._session.run(None, {self._input: blob})
        boxes, scores, classes = self._read([np.asarray(value) for value in values])
        return coco.detections(boxes / scale, scores, classes, (bgr.shape[1], bgr.shape[0]))

    def _read(self, values: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        if self._form == "boxes":
            boxes, scores, labels = (values[self._outputs[name]] for name in ("boxes", "scores", "labels"))
            return boxes.reshape(-1, 4).astype(np.float64), scores.reshape(-1), labels.reshape(-1)
        if self._form == "dets":
            dets = values[self._outputs["dets"]].reshape(-1, 5).astype(np.float64)
            return dets[:, :4], dets[:, 4], values[self._outputs["labels"]].reshape(-1)
        return decode_yolox(values[0][0], self._size_hw)


def letterbox(bgr: NDArray[np.uint8], size_hw: tuple[int, int]) -> tuple[NDArray[np.uint8], float]:
    """Scales into the top left corner of a grey picture; returns it and the scale."""
    scale = min(size_hw[0] / bgr.shape[0], size_hw[1] / bgr.shape[1])
    width, height = max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale))
    picture = np.full((*size_hw, 3), _PAD_LEVEL, np.uint8)
    picture[:height, :width] = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR)
    return picture, scale


def decode_yolox(
    raw: NDArray[np.float32], size_hw: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Boxes, scores and classes of a raw YOLOX head (Ge et al. 2021): offset, log size, objectness, classes."""
    cells, strides = [], []
    for stride in _STRIDES:
        rows, columns = size_hw[0] // stride, size_hw[1] // stride
        y, x = np.mgrid[:rows, :columns]
        cells.append(np.stack([x, y], axis=2).reshape(-1, 2))
        strides.append(np.full((rows * columns, 1), stride))
    stride_column = np.concatenate(strides).astype(np.float64)
    centre = (raw[:, :2] + np.concatenate(cells)) * stride_column
    half = np.exp(np.clip(raw[:, 2:4], -10, 10)) * stride_column / 2
    by_class = raw[:, 4:5] * raw[:, 5:]
    classes = by_class.argmax(axis=1)
    scores = by_class.max(axis=1).astype(np.float64)
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    sure = np.flatnonzero(scores >= coco.SCORE_MIN)
    corners = [[b[0], b[1], b[2] - b[0], b[3] - b[1]] for b in boxes[sure].tolist()]
    kept = cv2.dnn.NMSBoxesBatched(corners, scores[sure].tolist(), classes[sure].tolist(), coco.SCORE_MIN, _NMS_IOU)
    chosen = sure[np.asarray(kept, np.int64).reshape(-1)]
    return boxes[chosen], scores[chosen], classes[chosen]


def _open(path: Path) -> Any:
    if not path.is_file():
        raise DetectorError(f"no detector model at {path}: give an ONNX file with COCO classes")
    try:
        return open_session(path.read_bytes())
    except SessionError as error:
        raise DetectorError(f"{path} is no ONNX model that ONNX Runtime can open: {error}") from error
    except OSError as error:
        raise DetectorError(f"cannot read {path}: {error.strerror}; give an ONNX file with COCO classes") from error
