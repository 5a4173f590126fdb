"""The only file that knows mmengine, mmcv and mmdet.

It lends mmdet's two-stage machinery (anchors, assignment, sampling, losses) to WALT-Net's plain parts, and runs the
training in mmengine's Runner. Nothing of it is needed to predict: a checkpoint is plain torch.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from walt_train.model import mmcv_ext
from walt_train.model.mask_heads import ROI_SIDE, Head, mask_losses
from walt_train.model.waltnet import BOX_SIDE, BOX_SPREAD, CLASSES, SAMPLES, STRIDE, WaltNet, pool_rois
from walt_train.recipes.recipe import MaskLoss, Network, Training


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """The packages warn of optional parts and of their own use of torch, and print: none of it helps anybody here."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


with _contained():
    mmcv_ext.install()
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.roi_heads import StandardRoIHead
    from mmdet.models.roi_heads.bbox_heads import BBoxHead
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.utils import register_all_modules
    from mmengine.config import ConfigDict
    from mmengine.hooks import EMAHook, Hook
    from mmengine.model import BaseModel
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner
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
    """WALT-Net with mmdet's losses of its proposals and boxes, and ours of its masks."""

    def __init__(self, net: WaltNet, mask_loss: MaskLoss) -> None:
        with _contained(), DefaultScope.overwrite_default_scope("mmdet"):
            super().__init__()
            self.net = net
            self.rpn = _ProposalHead(net.proposal_head.forward, **_rpn_settings(net.network))
            self.roi = StandardRoIHead(**_roi_settings(net))
        self.mask_weights = {head: float(getattr(mask_loss, head.name.lower())) for head in Head}

    def init_weights(self) -> None:
        """Nothing: the network's parts begin by themselves."""

    def forward(
        self,
        pictures: Tensor,
        scenes: Tensor,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        mask_rois: Tensor,
        mask_targets: Tensor,
        mode: str = "loss",
    ) -> dict[str, Tensor]:
        """All losses of a batch.

        Args:
            pictures: (B, H, W, 3) uint8 BGR, letterboxed.
            scenes: The empty scene as each picture would show it, of the same shape.
            boxes: For each picture (n, 4) float32 amodal xyxy, pixels of the input.
            labels: For each picture (n,) int64 Label values.
            mask_rois: (R, 5): picture, xyxy.
            mask_targets: (R, 3, CHANNELS, 28, 28) shares.
            mode: mmengine's; there is only `loss`.
        """
        assert mode == "loss"
        width, height = self.net.network.input_wh
        samples = [_data_sample(b, k - 1, (height, width)) for b, k in zip(boxes, labels, strict=True)]
        objects = [_data_sample(b, torch.zeros_like(k), (height, width)) for b, k in zip(boxes, labels, strict=True)]
        feature = self.net.features(pictures, scenes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            losses, proposals = self.rpn.loss_and_predict((feature,), objects, proposal_cfg=_nms(self.net.network))
            losses = {f"loss_rpn_{name.removeprefix('loss_rpn_')}": value for name, value in losses.items()}
            losses |= {
                name: value
                for name, value in self.roi.loss((feature,), proposals, samples).items()
                if name.startswith("loss")
            }
        logits = self.net.mask_heads(pool_rois(feature, mask_rois, ROI_SIDE))
        return losses | mask_losses(logits, mask_targets, self.mask_weights)


def _data_sample(boxes: Tensor, labels: Tensor, shape_hw: tuple[int, int]) -> Any:
    sample = DetDataSample(metainfo={"img_shape": shape_hw, "pad_shape": shape_hw, "batch_input_shape": shape_hw})
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
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
            "strides": [STRIDE],
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
        "type": "MaxIoUAssigner",
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": least,
        "match_low_quality": weak,
        "ignore_iof_thr": -1,
    }


def _roi_settings(net: WaltNet) -> dict[str, Any]:
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
            "part": net.box_head.forward,
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


class StepHook(Hook):  # type: ignore[misc]
    """Tells plain functions where the training stands; runs after all other hooks of a step.

    Args:
        before: Called with the number of the step that comes, from 0.
        after: Called with the number of steps done and the step's losses.
        save: Called with (steps done, a function that writes the whole state to a file).
        stored: What is written and read with the state, beside mmengine's.
        restored: Called with what `stored` had returned, when a state has been read.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        before: Callable[[int], None],
        after: Callable[[int, Mapping[str, float]], None],
        save: Callable[[int, Callable[[Path], None]], None],
        stored: Callable[[], Any],
        restored: Callable[[Any], None],
    ) -> None:
        self.before, self.after, self.save = before, after, save
        self.stored, self.restored = stored, restored

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """A step begins."""
        self.before(batch_idx)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """A step is done."""
        self.after(batch_idx + 1, {name: value.item() for name, value in outputs.items()})
        self.save(batch_idx + 1, lambda path: _write_state(runner, path))

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """The state is about to be written."""
        checkpoint["walt"] = self.stored()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """A state has been read."""
        self.restored(checkpoint["walt"])


def _write_state(runner: Any, path: Path) -> None:
    runner.save_checkpoint(str(path.parent), path.name, by_epoch=False)


def train(
    detector: AmodalDetector,
    loader: DataLoader[Any],
    training: Training,
    hook: StepHook,
    *,
    seed: int,
    work_dir: Path,
    resume_from: Path | None,
    distributed: str | None,
) -> dict[str, Tensor]:
    """Trains to the end in mmengine's Runner.

    Args:
        detector: Changes.
        loader: One batch a step; its sampler has `skip(steps)`.
        training: How.
        hook: Is told of every step.
        seed: Of everything random that mmengine starts.
        work_dir: Gets mmengine's own files.
        resume_from: A state that the hook wrote, or None.
        distributed: Backend of torch.distributed (`gloo`, `nccl`) in a process that torchrun started, or None.

    Returns:
        The running average of the network's weights, on the CPU.
    """
    if distributed == "gloo":
        torch.distributed.init_process_group(distributed)  # mmengine would ask for a GPU
    average = EMAHook(momentum=training.average, update_buffers=True, strict_load=True)
    run = {
        "model": detector,
        "work_dir": str(work_dir),
        "train_dataloader": loader,
        "custom_hooks": [average, hook],
        "randomness": {"seed": seed % 2**32},  # NumPy takes no more; every step is seeded anew anyway
        "load_from": None if resume_from is None else str(resume_from),
        "resume": resume_from is not None,
    }
    runner = _runner(run | _runner_settings(detector, training, distributed))
    with _contained():
        runner.train()
    if distributed:
        torch.distributed.destroy_process_group()
    return _weights(average.ema_model.module.net)


def _runner(settings: dict[str, Any]) -> Any:
    """The Runner of mmengine, without the single thread that it leaves to torch."""
    threads = torch.get_num_threads()
    with _contained():
        runner = Runner(**settings)
    torch.set_num_threads(threads)
    return runner


def _weights(net: WaltNet) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in net.state_dict().items()}


def _runner_settings(detector: AmodalDetector, training: Training, distributed: str | None) -> dict[str, Any]:
    return {
        "train_cfg": {"by_epoch": False, "max_iters": training.steps},
        "optim_wrapper": _optimiser(training),
        "param_scheduler": _schedule(training),
        "default_hooks": dict.fromkeys(("timer", "logger", "checkpoint", "sampler_seed")),
        "launcher": "pytorch" if distributed else "none",
        "env_cfg": {"dist_cfg": {"backend": distributed}} if distributed else {"cudnn_benchmark": False},
        "log_level": logging.ERROR,
        "default_scope": "mmdet",
        "experiment_name": f"walt-{id(detector)}",
        "cfg": {"model_wrapper_cfg": _wrapper(detector, distributed)},
    }


def _wrapper(detector: AmodalDetector, distributed: str | None) -> dict[str, Any]:
    """How processes share one network: mmengine's own choice takes a GPU for granted."""
    device = {"device_ids": None} if distributed == "gloo" else {}
    return {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
        "find_unused_parameters": not all(detector.mask_weights.values()),
        **device,
    }


def _optimiser(training: Training) -> dict[str, Any]:
    return {
        "type": "OptimWrapper",
        "optimizer": {"type": "AdamW", "lr": training.learning_rate, "weight_decay": training.weight_decay},
        "paramwise_cfg": {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0},
        "clip_grad": {"max_norm": training.clip_norm},
    }


def _schedule(training: Training) -> list[dict[str, Any]]:
    warm_up = min(training.warm_up_steps, training.steps // 2)
    return [
        {"type": "LinearLR", "start_factor": 0.05, "by_epoch": False, "begin": 0, "end": max(1, warm_up)},
        {
            "type": "CosineAnnealingLR",
            "T_max": training.steps - warm_up,
            "eta_min": training.learning_rate / 50,
            "by_epoch": False,
            "begin": warm_up,
            "end": training.steps,
        },
    ]
