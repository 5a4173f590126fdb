"""A stand-in for `mmcv._ext` where the mm fork came without compiled operators.

It serves the three operators that a two-stage detector needs from torchvision's own kernels, on CPU and CUDA, and
says clearly that it has no others. A real compiled `mmcv._ext` is preferred where there is one.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms
from torchvision.ops import roi_align

NAME = "mmcv._ext"
_AVERAGE = 1


def install() -> None:
    """Puts the stand-in where `mmcv.ops` looks; call it in every process before anything imports `mmcv.ops`."""
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        sys.modules[NAME] = StandIn()


class StandIn(ModuleType):
    """The module; it has a real spec, for which mmengine's environment report asks."""

    def __init__(self) -> None:
        super().__init__(NAME, "Stands in for mmcv's compiled operators.")
        self.__spec__ = ModuleSpec(NAME, None)
        self.nms = nms
        self.roi_align_forward = roi_align_forward
        self.roi_align_backward = roi_align_backward

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> NoReturn:
            raise NotImplementedError(
                f"mmcv._ext.{name} is compiled code that this installation lacks: "
                "build onedl-mmcv from source with its operators"
            )

        return missing


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the boxes (N, 4) xyxy that stay, best scores (N,) first.

    Raises:
        NotImplementedError: `offset` is not 0: torchvision has half-open boxes only.
    """
    if offset != 0:
        raise NotImplementedError(f"nms with offset {offset}: torchvision's kernel has offset 0 only")
    kept: Tensor = torchvision_nms(bboxes.float(), scores.float(), iou_threshold)
    return kept


def roi_align_forward(
    input: Tensor,  # noqa: A002 - mmcv's own argument names
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills `output` (R, C, aligned_height, aligned_width) with average-pooled RoI features.

    Args:
        input: (B, C, H, W); half-precision kinds are computed in float32.
        rois: (R, 5): picture, xyxy.
        output: What is filled.
        argmax_y: Of maximum pooling; unused.
        argmax_x: The same.
        aligned_height: Cells.
        aligned_width: Cells.
        spatial_scale: Cells of `input` in a unit of the RoIs.
        sampling_ratio: Points a side and cell; 0 adapts.
        pool_mode: 1 is the average.
        aligned: Whether pixel centres lie at +0.5.

    Raises:
        NotImplementedError: Maximum pooling.
    """
    _refuse_maximum(pool_mode)
    size = (aligned_height, aligned_width)
    output.copy_(roi_align(input.float(), rois.float(), size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills `grad_input` (B, C, H, W) from `grad_output` (R, C, aligned_height, aligned_width).

    Raises:
        NotImplementedError: Maximum pooling.
    """
    _refuse_maximum(pool_mode)
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output.float(),
        rois.float(),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(gradient)


def _refuse_maximum(pool_mode: int) -> None:
    if pool_mode != _AVERAGE:
        raise NotImplementedError("RoIAlign with maximum pooling: torchvision's kernel has the average only")
