"""Weights in half precision: what a file of half the size holds, as a network of its own in torch.

Only storage is halved, computing stays in float32. The rounding is done here, before the export, so that parity
compares the file with the very weights that it holds; what the rounding itself changes is measured beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from walt_edge.golden import mask_iou, matched
from walt_edge.runtimes.network import Network, look
from walt_export.errors import ExportError
from walt_train.model.waltnet import WaltNet

MOST_BYTES = 12_000_000
"""Of an edge network's ONNX file."""


class Judged(TypedDict):
    """How pictures are judged: the network's input in pixels, and the score from which on something is there."""

    size_wh: tuple[int, int]
    score_threshold: float


def in_half(parameters: int) -> bool:
    """Whether float32 goes over `MOST_BYTES` and float16 does not."""
    return 2 * parameters <= MOST_BYTES < 4 * parameters


@torch.no_grad()
def round_weights(net: WaltNet) -> WaltNet:
    """A copy with kernels and matrices rounded to float16, computing in float32.

    Normalisation is folded into the convolutions before, as the exporter does: rounded afterwards, the weights reach
    the file as they are. Biases stay as they were: they are few.

    Args:
        net: In eval mode.

    Raises:
        ExportError: A weight is larger than float16 can hold.
    """
    rounded = copy.deepcopy(net)
    _fold(rounded)
    for name, weight in rounded.named_parameters():
        if weight.ndim > 1:
            weight.copy_(weight.half().float())
        if not torch.isfinite(weight).all():
            raise ExportError(f"the weights {name} are larger than float16 holds: export with --fp32")
    return rounded


def _fold(module: nn.Module) -> None:
    for part in module.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for index in range(len(part) - 1):
            convolution, norm = part[index], part[index + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[index], part[index + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()


def rounding_figures(
    before: Network,
    after: Network,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    size_wh: tuple[int, int],
    score_threshold: float,
) -> dict[str, float]:
    """What rounding changes in the answers to whole pictures, for the manifest.

    Returns:
        `half_box_px` and `half_score`: the largest differences of instances that both find; `half_mask_iou`: the
        smallest IoU of their masks; `half_unpaired`: how many only one of them finds.
    """
    box_px, score, iou, unpaired = 0.0, 0.0, 1.0, 0
    for picture in pictures:
        one, other = (
            look(network, picture, size_wh=size_wh, score_threshold=score_threshold, strictly=True)
            for network in (before, after)
        )
        pairs = matched(other, one)
        unpaired += len(one) + len(other) - 2 * len(pairs)
        for new, old in pairs:
            box_px = max(box_px, float(np.abs(other.boxes_xyxy[new] - one.boxes_xyxy[old]).max()))
            score = max(score, abs(float(other.scores[new] - one.scores[old])))
            iou = min(iou, mask_iou(other.amodal[new], one.amodal[old]))
    return {
        "half_box_px": round(box_px, 3),
        "half_mask_iou": round(iou, 3),
        "half_score": round(score, 4),
        "half_unpaired": float(unpaired),
    }
