"""Plain suppression of the boxes of a batch, as ONNX's own NonMaxSuppression has it.

torchvision's takes one picture and one class at a time; this one is translated to a single standard node.
"""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import opset18 as standard
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op("walt::box_nms", mutates_args=())
def box_nms(boxes: Tensor, scores: Tensor, most: int, iou: float, floor: float) -> Tensor:
    """Greedy suppression in every picture and class for itself.

    Args:
        boxes: (B, M, 4) xyxy, the same for all classes.
        scores: (B, C, M).
        most: To keep of a picture and class.
        iou: Above which the lower score goes.
        floor: What scores no more is left out.

    Returns:
        (S, 3) int64: picture, class, box, the best first within picture and class.
    """
    found = [torch.zeros(0, 3, dtype=torch.int64, device=boxes.device)]
    for picture in range(scores.shape[0]):
        for kind in range(scores.shape[1]):
            own = scores[picture, kind]
            sure = torch.nonzero(own > floor)[:, 0]
            kept = sure[nms(boxes[picture, sure], own[sure], iou)[:most]]
            places = torch.tensor([picture, kind], device=boxes.device).expand(len(kept), 2)
            found.append(torch.cat([places, kept[:, None]], dim=1))
    return torch.cat(found)


@box_nms.register_fake
def _(boxes: Tensor, scores: Tensor, most: int, iou: float, floor: float) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), 3, dtype=torch.int64)


def translate(boxes: Any, scores: Any, most: int, iou: float, floor: float) -> Any:
    """To the standard operator."""
    limit: Any = standard.Constant(value_ints=[most])
    least: Any = standard.Constant(value_floats=[iou])
    above: Any = standard.Constant(value_floats=[floor])
    return standard.NonMaxSuppression(boxes, scores, limit, least, above)
