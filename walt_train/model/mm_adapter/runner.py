"""The training in mmengine's Runner: its optimiser, schedule, running average and resumption."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from walt_train.model.mm_adapter.detector import AmodalDetector
from walt_train.model.mm_adapter.quiet import quiet
from walt_train.model.waltnet import WaltNet
from walt_train.recipes.recipe import Training

with quiet():
    from mmengine.hooks import EMAHook, Hook
    from mmengine.runner import Runner

_YOUNG = 10
"""Step k counts for 10 / (10 + k) in the running average, at least for what the recipe says: a constant share of a
thousandth would still be half of the weights that the training began with after 700 steps."""


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
        distributed: Backend of torch.distributed (`gloo`, `nccl`) in a process that has joined a group, or None.

    Returns:
        The running average of the network's weights, on the CPU.
    """
    average = EMAHook(
        "MomentumAnnealingEMA", momentum=training.average, gamma=_YOUNG, update_buffers=True, strict_load=True
    )
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
    with quiet():
        runner.train()
    if distributed:
        torch.distributed.destroy_process_group()
    return _weights(average.ema_model.module.net)


def _runner(settings: dict[str, Any]) -> Any:
    """The Runner of mmengine, without the single thread that it leaves to torch."""
    threads = torch.get_num_threads()
    with quiet():
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
        "cfg": {"model_wrapper_cfg": _wrapper(distributed)},
    }


def _wrapper(distributed: str | None) -> dict[str, Any]:
    """How processes share one network: mmengine's own choice takes a GPU for granted."""
    device = {"device_ids": None} if distributed == "gloo" else {}
    return {
        "type": "MMDistributedDataParallel",
        "broadcast_buffers": False,
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
