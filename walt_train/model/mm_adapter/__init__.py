"""The only package that knows mmengine, mmcv and mmdet.

It lends mmdet's two-stage machinery (anchors, assignment, sampling, losses) to WALT-Net's plain parts, and runs the
training in mmengine's Runner. Nothing of it is needed to predict: a checkpoint is plain torch.
"""

from __future__ import annotations

from walt_train.model.mm_adapter.detector import AmodalDetector
from walt_train.model.mm_adapter.runner import StepHook, train

__all__ = ["AmodalDetector", "StepHook", "train"]
