"""mmdet's assignment of boxes to objects, and what is neither an object nor the absence of one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from walt_train.model.mm_adapter.quiet import quiet

with quiet():
    from mmdet.models.task_modules.assigners import MaxIoUAssigner
    from mmdet.registry import TASK_UTILS

_NOBODY = 0
_IGNORED = -1
_LEAST_UNION = 1e-6
"""Square pixels; as mmdet has it."""


@TASK_UTILS.register_module()
class PlaneOverlaps:
    """mmdet's IoU of all boxes with all others, to the last bit, from planes instead of points.

    Every anchor is compared with every object, for every picture of every step. mmdet keeps x and y beside each
    other; with each in a plane of its own the arithmetic runs through memory in order.
    """

    def __call__(self, boxes: Tensor, others: Tensor) -> Tensor:
        """(N, 4) and (M, 4) xyxy to (N, M); it is the quicker where M is the larger."""
        x0, y0, x1, y1 = (plane.contiguous() for plane in boxes.unbind(dim=1))
        left, top, right, bottom = (plane.contiguous() for plane in others.unbind(dim=1))
        common = (torch.minimum(x1[:, None], right) - torch.maximum(x0[:, None], left)).clamp_(min=0)
        common *= (torch.minimum(y1[:, None], bottom) - torch.maximum(y0[:, None], top)).clamp_(min=0)
        areas, other_areas = (x1 - x0) * (y1 - y0), (right - left) * (bottom - top)
        union = (areas[:, None] + other_areas).sub_(common).clamp_(min=_LEAST_UNION)
        return common.div_(union)


@TASK_UTILS.register_module()
class LenientAssigner(MaxIoUAssigner):  # type: ignore[misc]
    """Boxes that would belong to an object too hidden to be taught are no mistakes.

    mmdet's own way to ignore takes such boxes from the objects that are taught as well, here from whoever hides the
    hidden one. This takes them from the background alone.
    """

    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any | None = None, **kwargs: Any
    ) -> Any:
        """As mmdet's; boxes of nobody that overlap an ignored one as a positive's least IoU are left out."""
        result = super().assign(pred_instances, gt_instances, None, **kwargs)
        if gt_instances_ignore is None or len(gt_instances_ignore) == 0 or len(result.gt_inds) == 0:
            return result
        overlaps = self.iou_calculator(gt_instances_ignore.bboxes, pred_instances.priors)
        result.gt_inds[(result.gt_inds == _NOBODY) & (overlaps.max(dim=0).values >= self.neg_iou_thr)] = _IGNORED
        return result
