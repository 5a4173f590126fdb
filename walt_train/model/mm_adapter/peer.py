"""mmdet's Mask R-CNN R50 at work, to be timed beside ours: its own config and code, weights at random.

Time depends on how much is looked at, not on what is found. So its class layer is biased to be sure of one class in
every proposal, and as many objects as asked for go through its mask head and are pasted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from walt_train.model.mm_adapter.quiet import quiet

with quiet():
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.utils import register_all_modules
    from mmengine.hub import get_config

_CONFIG = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
_SURE_LOGIT = 6.0
"""Of one class: it gets a share of 0.83, each of the 80 others one of 0.002, below mmdet's least score of 0.05."""


@dataclass(frozen=True, slots=True)
class PeerCounts:
    """What was looked at in one picture.

    Attributes:
        proposals: RoIs of the box head.
        mask_rois: RoIs of the mask head.
        instances: That came out, each with a mask of the picture's size.
    """

    proposals: int
    mask_rois: int
    instances: int


class MaskRcnnPeer:
    """mask-rcnn_r50_fpn_1x_coco as mmdet builds and tests it: at most 1,000 proposals.

    Args:
        objects: How many instances it gives for each picture.
        device: Where it runs.
        seed: Of its weights.
    """

    def __init__(self, objects: int, *, device: str = "cpu", seed: int = 0) -> None:
        register_all_modules(init_default_scope=True)
        with quiet():
            model = get_config(_CONFIG).model
            model.backbone.init_cfg = None  # nothing is downloaded
            model.test_cfg.rcnn.max_per_img = objects
            threads = torch.get_num_threads()
            torch.manual_seed(seed)
            self._model = MODELS.build(model).to(device).eval()
            torch.set_num_threads(threads)  # mmengine keeps one for itself
        with torch.no_grad():
            classes = self._model.roi_head.bbox_head.fc_cls
            classes.weight.mul_(0.01)
            classes.bias.zero_()[0] = _SURE_LOGIT

    def __call__(self, image: NDArray[np.uint8]) -> Any:
        """Instances of one (H, W, 3) uint8 BGR picture, sides multiples of 32, with masks of its size."""
        shape = image.shape[:2]
        facts = {"ori_shape": shape, "img_shape": shape, "scale_factor": (1.0, 1.0)}
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        with torch.no_grad():
            answer = self._model.test_step({"inputs": [pixels], "data_samples": [DetDataSample(metainfo=facts)]})
        return answer[0].pred_instances

    def count(self, image: NDArray[np.uint8]) -> PeerCounts:
        """What it looks at in a picture, counted where it happens."""
        heads = (self._model.roi_head.bbox_head, self._model.roi_head.mask_head)
        seen = dict.fromkeys(heads, 0)

        def note(head: Any, inputs: tuple[Any, ...]) -> None:
            seen[head] += len(inputs[0])

        hooks = [head.register_forward_pre_hook(note) for head in heads]
        try:
            instances = len(self(image).masks)
        finally:
            for hook in hooks:
                hook.remove()
        proposals, mask_rois = seen.values()
        return PeerCounts(proposals, mask_rois, instances)
