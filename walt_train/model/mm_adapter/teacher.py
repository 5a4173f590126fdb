"""An mmdet checkpoint as a teacher: its config, its weights, one frame in, what moves out."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.runtimes import Detections, coco
from walt_train.model.mm_adapter.quiet import quiet

with quiet():
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

_SCALE_WH = (1333, 800)  # what mmdet's COCO configs test at


class TeacherError(WaltError):
    """A config or a checkpoint cannot be used as a teacher."""


class MmdetTeacher:
    """Runs one mmdet detector with COCO's classes.

    Args:
        model: As mmdet builds it, in evaluation.
        name: As headers name it.
        scale_wh: The frame is scaled to fit into this, as the detector was tested.
    """

    def __init__(self, model: Any, name: str, scale_wh: tuple[int, int]) -> None:
        self._model = model
        self.name = name[:40]
        self._scale_wh = scale_wh

    def __call__(self, bgr: NDArray[np.uint8]) -> Detections:
        """Looks at one (H, W, 3) uint8 frame; boxes are clipped to it."""
        height, width = bgr.shape[:2]
        long, short = max(self._scale_wh), min(self._scale_wh)
        factor = min(long / max(height, width), short / min(height, width))
        size_wh = round(width * factor), round(height * factor)
        picture = cv2.resize(bgr, size_wh, interpolation=cv2.INTER_LINEAR)
        facts = {
            "ori_shape": (height, width),
            "img_shape": (size_wh[1], size_wh[0]),
            "scale_factor": (size_wh[0] / width, size_wh[1] / height),
        }
        pixels = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        with torch.no_grad(), quiet():
            answer = self._model.test_step({"inputs": [pixels], "data_samples": [DetDataSample(metainfo=facts)]})
        found = answer[0].pred_instances.cpu()
        boxes = found.bboxes.numpy().reshape(-1, 4)
        return coco.detections(boxes, found.scores.numpy(), found.labels.numpy(), (width, height))


def load_mmdet_teacher(config: Path, checkpoint: Path, device: str = "cpu") -> MmdetTeacher:
    """Builds a detector and loads its weights, without running code from the checkpoint.

    Raises:
        TeacherError: A file is missing or malformed, they do not fit together, or the classes are not COCO's.
    """
    settings, content = _config(config), _checkpoint(checkpoint)
    names = _classes(settings, content)
    if not coco.is_coco(names):
        found = f"{len(names)} classes, {names[0]} first" if names else "no classes"
        raise TeacherError(f"{config}: {found}, expected COCO's 80: give a detector that was trained on COCO")
    register_all_modules(init_default_scope=True)
    with quiet():
        try:
            model = MODELS.build(_bare(settings.model))
            model.load_state_dict(content.get("state_dict", content))
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, AssertionError) as error:
            reason = (str(error).splitlines() or [""])[0][:160]
            raise TeacherError(f"{checkpoint} does not fit {config}: {reason}; give a pair of mmdet's") from error
    model.to(device).eval()
    return MmdetTeacher(model, config.stem, _scale(settings))


def _config(path: Path) -> Any:
    if not path.is_file():
        raise TeacherError(f"no detector config at {path}: give an mmdet config (.py)")
    try:
        with quiet():
            settings = Config.fromfile(path)
    except (OSError, SyntaxError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).splitlines() or [""])[0][:160]
        raise TeacherError(f"{path} is no mmdet config: {reason}") from error
    if "model" not in settings:
        raise TeacherError(f"{path} has no `model`: give a whole mmdet config")
    return settings


def _checkpoint(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise TeacherError(f"no checkpoint at {path}: give the .pth file of the config")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TeacherError(f"{path} is no checkpoint that can be read without running code: save weights") from error
    if not isinstance(content, Mapping):
        raise TeacherError(f"{path} holds a {type(content).__name__}, expected weights by name")
    return content


def _classes(settings: Any, content: Mapping[str, Any]) -> Sequence[str]:
    """The checkpoint's word first: mmengine writes the data set's facts into it; then the config's."""
    facts = content.get("meta", {}).get("dataset_meta", {}) if isinstance(content.get("meta"), Mapping) else {}
    for source in (facts, settings.get("metainfo", {})):
        for key in ("classes", "CLASSES"):
            if source.get(key):
                return tuple(source[key])
    if settings.get("dataset_type") == "CocoDataset":
        with quiet():
            from mmdet.datasets import CocoDataset  # slow to import, and seldom needed
        return tuple(CocoDataset.METAINFO["classes"])
    return ()


def _bare(model: Any) -> Any:
    """The config without pretrained weights to fetch: the checkpoint brings all of them."""
    bare = {key: value for key, value in model.items() if key not in ("init_cfg", "pretrained")}
    if isinstance(bare.get("backbone"), Mapping):
        bare["backbone"] = {key: value for key, value in bare["backbone"].items() if key != "init_cfg"}
    return bare


def _scale(settings: Any) -> tuple[int, int]:
    for step in settings.get("test_pipeline", []):
        if step.get("type") == "Resize" and "scale" in step:
            return int(step["scale"][0]), int(step["scale"][1])
    return _SCALE_WH
