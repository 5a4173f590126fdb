"""mmdet's assignment, sampling and losses of proposals and boxes around WALT-Net's plain parts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from walt_train.model.branches.branch import ROI_SIDE
from walt_train.model.mm_adapter.assigner import LenientAssigner, PlaneOverlaps
from walt_train.model.mm_adapter.quiet import quiet
from walt_train.model.waltnet import BOX_SIDE, BOX_SPREAD, CLASSES, SAMPLES, STRIDE, WaltNet, encode_boxes, pool_rois
from walt_train.recipes.recipe import Network

with quiet():
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.roi_heads import StandardRoIHead
    from mmdet.models.roi_heads.bbox_heads import BBoxHead
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.utils import register_all_modules
    from mmengine.config import ConfigDict
    from mmengine.model import BaseModel
    from mmengine.registry import DefaultScope
    from mmengine.structures import InstanceData

    register_all_modules(init_default_scope=False)


class _ProposalHead(RPNHead):  # type: ignore[misc]
    """mmdet's region proposals over our convolutions."""

    def __init__(self, part: Callable[[Tensor], tuple[Tensor, Tensor]], **settings: Any) -> None:
        super().__init__(**settings)
        self.lend = (part,)  # in a tuple, so that the weights belong to the network alone

    def _init_layers(self) -> None:
        """The layers are the network's."""

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Objectness logits (B, A, h, w) and deltas (B, 4A, h, w)."""
        return self.lend[0](x)


@MODELS.register_module()
class WaltBoxHead(BBoxHead):  # type: ignore[misc]
    """mmdet's box targets and losses over our layers."""

    def __init__(self, part: Callable[[Tensor], tuple[Tensor, Tensor]], **settings: Any) -> None:
        super().__init__(**settings)
        del self.fc_cls, self.fc_reg
        self.lend = (part,)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (R, CLASSES + 1) and deltas (R, 4)."""
        return self.lend[0](x)


class AmodalDetector(BaseModel):  # type: ignore[misc]
    """WALT-Net with mmdet's losses of its proposals and boxes, and ours of its masks.

    Args:
        net: Its layers.
        bf16: Whether they compute in bfloat16; boxes, pooling and losses stay in float32, weights too.
    """

    def __init__(self, net: WaltNet, *, bf16: bool = False) -> None:
        with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
            super().__init__()
            # Channels last: a fifth faster on a CPU, more in bfloat16, and what tensor cores read.
            self.net = net.to(memory_format=torch.channels_last)
            self.bf16 = bf16
            self.rpn = _ProposalHead(self._cheaply(net.proposal_head.forward), **_rpn_settings(net.network))
            self.roi = StandardRoIHead(**_roi_settings(net, self._cheaply(net.box_head.forward)))

    def _cheaply(self, part: Callable[..., Any]) -> Callable[..., Any]:
        """The part in bfloat16 if so wished; what it returns is float32."""
        if not self.bf16:
            return part

        def run(*inputs: Tensor | None) -> Any:
            device = next(self.net.parameters()).device.type
            with torch.autocast(device, torch.bfloat16):
                found = part(*inputs)
            return tree_map(Tensor.float, found)

        return run

    def init_weights(self) -> None:
        """Nothing: the network's parts begin by themselves."""

    def forward(
        self,
        pictures: Tensor,
        scenes: Tensor,
        windows: Tensor,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        ignored: Sequence[Tensor],
        mask_rois: Tensor,
        mask_labels: Tensor,
        mask_targets: Tensor,
        visible_boxes: Tensor,
        mode: str = "loss",
    ) -> dict[str, Tensor]:
        """All losses of a batch.

        Args:
            pictures: (B, H, W, 3) uint8 BGR, letterboxed.
            scenes: The empty scene as each picture would show it, of the same shape.
            windows: (B, 4) where in the frame each picture lies (`PictureInput`).
            boxes: For each picture (n, 4) float32 amodal xyxy, pixels of the input.
            labels: For each picture (n,) int64 Label values.
            ignored: For each picture (m, 4) float32 boxes that are neither an object nor none.
            mask_rois: (R, 5): picture, xyxy.
            mask_labels: (R,) int64 Label values.
            mask_targets: (R, 4, CHANNELS, 28, 28) shares, in the order of `Layer`.
            visible_boxes: (R, 4) what is seen of each RoI's object.
            mode: mmengine's; there is only `loss`.
        """
        assert mode == "loss"
        # RoIs are pooled from plain planes; three times from the same ones.
        feature = self._cheaply(self.net.features)(pictures, scenes, windows).contiguous()
        losses = self._box_losses(feature, boxes, labels, ignored)
        branch = self.net.branch
        context = pool_rois(feature, mask_rois, BOX_SIDE)
        raw = self._cheaply(branch)(pool_rois(feature, mask_rois, ROI_SIDE), context)
        losses |= branch.losses(raw, mask_targets, mask_labels)
        if self.net.network.visible_box:
            losses["loss_visible_box"] = self._visible_box_loss(context, mask_rois[:, 1:], visible_boxes)
        return losses

    def _box_losses(
        self, feature: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], ignored: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Mmdet's losses of proposals and boxes, by names that tell whose they are."""
        width, height = self.net.network.input_wh
        each = list(zip(boxes, labels, ignored, strict=True))
        samples = [_data_sample(b, k - 1, none, (height, width)) for b, k, none in each]
        objects = [_data_sample(b, torch.zeros_like(k), none, (height, width)) for b, k, none in each]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            losses, proposals = self.rpn.loss_and_predict((feature,), objects, proposal_cfg=_nms(self.net.network))
            losses = {f"loss_rpn_{name.removeprefix('loss_rpn_')}": value for name, value in losses.items()}
            losses |= {
                name: value
                for name, value in self.roi.loss((feature,), proposals, samples).items()
                if name.startswith("loss")
            }
        return losses

    def _visible_box_loss(self, context: Tensor, rois: Tensor, visible: Tensor) -> Tensor:
        """L1 between deltas (He et al. 2017), the mean over RoIs (R, 4)."""
        goals = encode_boxes(rois, visible) / rois.new_tensor(BOX_SPREAD)
        found: Tensor = self._cheaply(self.net.box_head.visible)(context)
        return (found - goals).abs().sum() / (4 * max(1, len(rois)))


def _data_sample(boxes: Tensor, labels: Tensor, ignored: Tensor, shape_hw: tuple[int, int]) -> Any:
    sample = DetDataSample(metainfo={"img_shape": shape_hw, "pad_shape": shape_hw, "batch_input_shape": shape_hw})
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    sample.ignored_instances = InstanceData(bboxes=ignored, labels=ignored.new_zeros(len(ignored)).long())
    return sample


def _nms(network: Network) -> Any:
    return ConfigDict(
        nms_pre=network.proposals_before_nms,
        max_per_img=network.proposals,
        nms={"type": "nms", "iou_threshold": network.nms_iou},
        min_bbox_size=0,
    )


def _rpn_settings(network: Network) -> dict[str, Any]:
    return {
        "in_channels": network.feature_channels,
        "feat_channels": network.feature_channels,
        "num_classes": 1,
        "anchor_generator": {
            "type": "YOLOAnchorGenerator",
            "strides": [network.proposal_stride],
            "base_sizes": [[tuple(shape) for shape in network.anchors_wh]],
        },
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": (1.0, 1.0, 1.0, 1.0)},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
        "loss_bbox": {"type": "L1Loss"},
        "train_cfg": ConfigDict(
            assigner=_assigner(positive=0.6, negative=0.35, least=0.3, weak=True),
            sampler={"type": "RandomSampler", "num": 256, "pos_fraction": 0.5, "add_gt_as_proposals": False},
            allowed_border=-1,
            pos_weight=-1,
        ),
        "test_cfg": _nms(network),
    }


def _assigner(*, positive: float, negative: float, least: float, weak: bool) -> dict[str, Any]:
    """Box IoU from which a box is an object's, below which it is none's; `weak`: every object takes its best."""
    return {
        "type": LenientAssigner.__name__,
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": least,
        "match_low_quality": weak,
        "ignore_iof_thr": -1,
        "iou_calculator": {"type": PlaneOverlaps.__name__},
    }


def _roi_settings(net: WaltNet, box_head: Callable[..., Any]) -> dict[str, Any]:
    return {
        "bbox_roi_extractor": {
            "type": "SingleRoIExtractor",
            "roi_layer": {
                "type": "RoIAlign",
                "output_size": BOX_SIDE,
                "sampling_ratio": SAMPLES,
                "use_torchvision": True,
            },
            "out_channels": net.network.feature_channels,
            "featmap_strides": [STRIDE],
        },
        "bbox_head": {
            "type": "WaltBoxHead",
            "part": box_head,
            "in_channels": net.network.feature_channels,
            "roi_feat_size": BOX_SIDE,
            "num_classes": CLASSES,
            "reg_class_agnostic": True,
            "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_stds": BOX_SPREAD},
            "loss_cls": {"type": "CrossEntropyLoss"},
            "loss_bbox": {"type": "L1Loss"},
        },
        "train_cfg": ConfigDict(
            assigner=_assigner(positive=0.5, negative=0.5, least=0.5, weak=False),
            sampler={"type": "RandomSampler", "num": 64, "pos_fraction": 0.5, "add_gt_as_proposals": True},
            pos_weight=-1,
        ),
        "test_cfg": None,
    }
