"""Teachers by name: motion, an ONNX detector, an mmdet checkpoint; all answer to `walt_edge.runtimes.Teacher`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.runtimes import Detections, Teacher
from walt_edge.tracking import Tracker
from walt_edge.vision.classify import ClassEvidence
from walt_edge.vision.motion import find_motion
from walt_edge.vision.plate import Plate, SampleBuffer
from walt_edge.vision.settings import WatchSettings
from walt_edge.vision.shape import describe
from walt_edge.vision.silhouettes import find_silhouettes

MOTION = "motion"
"""The teacher that needs no weights."""
_HALF_STEP_S = 0.3
_UNSURE = 0.5


class MotionTeacher:
    """Names what moves before a background that it learns from the frames themselves; it says nothing until then.

    Args:
        fps: Frames a second in which it is shown frames, in order.
        settings: How it watches.
    """

    name = MOTION

    def __init__(self, fps: float = 10.0, settings: WatchSettings | None = None) -> None:
        self._settings = settings or WatchSettings()
        self._fps = fps
        self._buffer = SampleBuffer(
            self._settings.warm_up_s / self._settings.plate_samples, self._settings.plate_samples
        )
        self._plate: Plate | None = None
        self._tracker = Tracker(self._settings)
        self._evidence: dict[int, ClassEvidence] = {}
        self._shown = 0

    def __call__(self, bgr: NDArray[np.uint8]) -> Detections:
        """Looks at the next (H, W, 3) uint8 frame."""
        time_s, self._shown = self._shown / self._fps, self._shown + 1
        if self._plate is None:
            self._buffer.offer(bgr, time_s)
            enough = len(self._buffer) >= self._settings.plate_samples_min
            if not enough or time_s < self._settings.warm_up_s:
                return _seen([], [], [])
            self._plate = Plate.learn(self._buffer, self._settings)
        return self._look(bgr, self._plate, time_s)

    def _look(self, bgr: NDArray[np.uint8], plate: Plate, time_s: float) -> Detections:
        outlines = find_silhouettes(find_motion(bgr, plate, self._settings), self._settings)
        boxes = np.array([one.patch.box_xyxy for one in outlines], np.float64).reshape(-1, 4)
        matches = self._tracker.update(boxes, [one.patch.area for one in outlines], time_s)
        labels: list[Label | None] = []
        scores = []
        for outline, match in zip(outlines, matches, strict=True):
            label, score = None, _UNSURE
            if match.track is not None:
                evidence = self._evidence.setdefault(match.track.id, ClassEvidence())
                evidence.add(describe(outline.patch), stride=max(1, round(_HALF_STEP_S * self._fps)))
                label, score = evidence.classify()
            labels.append(label)
            scores.append(score)
        for track in self._tracker.ended(time_s):
            self._evidence.pop(track.id, None)
        return _seen([one.patch.box_xyxy for one in outlines], scores, labels)


def open_teacher(spec: str) -> Teacher | None:
    """The teacher of a name.

    Args:
        spec: `motion`, `FILE.onnx`, `mmdet:CONFIG:CHECKPOINT`; empty for none.

    Raises:
        UsageError: No such kind of teacher, or what it needs is not installed.
        WaltError: Its files cannot be used.
    """
    if not spec:
        return None
    if spec == MOTION:
        return MotionTeacher()
    if spec.endswith(".onnx"):
        from walt_edge.runtimes.onnx_detector import OnnxDetector  # an extra: only where asked for

        return OnnxDetector(Path(spec))
    kind, _, rest = spec.partition(":")
    config, _, checkpoint = rest.partition(":")
    if kind == "mmdet" and config and checkpoint:
        return _mmdet(Path(config), Path(checkpoint))
    raise UsageError(f"no teacher '{spec}': give motion, a FILE.onnx, or mmdet:CONFIG:CHECKPOINT")


def _mmdet(config: Path, checkpoint: Path) -> Teacher:
    try:
        from walt_train.model.mm_adapter.teacher import load_mmdet_teacher
    except ModuleNotFoundError as error:
        raise UsageError(f"an mmdet teacher needs {error.name}: pip install 'walt-amodal[train]'") from error
    return load_mmdet_teacher(config, checkpoint)


def _seen(boxes: list[tuple[int, int, int, int]], scores: list[float], labels: list[Label | None]) -> Detections:
    return Detections(np.array(boxes, np.float64).reshape(-1, 4), np.array(scores, np.float64), tuple(labels))
