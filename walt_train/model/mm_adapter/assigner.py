"""mmdet's assignment of boxes to objects, and what is neither an object nor the absence of one."""

from __future__ import annotations

from typing import Any

from walt_train.model.mm_adapter.quiet import quiet

with quiet():
    from mmdet.models.task_modules.assigners import MaxIoUAssigner
    from mmdet.registry import TASK_UTILS

_NOBODY = 0
_IGNORED = -1


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
        overlaps = self.iou_calculator(pred_instances.priors, gt_instances_ignore.bboxes)
        result.gt_inds[(result.gt_inds == _NOBODY) & (overlaps.max(dim=1).values >= self.neg_iou_thr)] = _IGNORED
        return result
