"""What a network costs: floating-point operations and parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from walt_train.model.waltnet import WaltNet


def count_parameters(module: nn.Module) -> int:
    """Numbers that are learnt."""
    return sum(parameter.numel() for parameter in module.parameters())


def measure_gflops(net: WaltNet) -> float:
    """GFLOPs for a picture with as many proposals and candidates as there can be; a product and a sum count two."""
    return sum(measure_parts(net).values())


@torch.no_grad()
def measure_parts(net: WaltNet) -> dict[str, float]:
    """The same by part: `features`, `proposals`, `boxes`, `masks`."""
    training = net.training
    net.eval()
    width, height = net.network.input_wh
    box = torch.tensor([[8.0, 8.0, 40.0, 60.0]], device=net.anchors.device)
    proposals, candidates = (box.expand(count, 4) for count in (net.network.proposals, net.network.candidates))
    labels = torch.ones(net.network.candidates, dtype=torch.int64, device=box.device)
    picture = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=box.device)
    feature = net.features(picture)
    parts: dict[str, Callable[[], object]] = {
        "features": lambda: net.features(picture),
        "proposals": lambda: net.propose(feature),
        "boxes": lambda: net.classify(feature, proposals),
        "masks": lambda: net.masks(feature, candidates, labels),
    }
    found = {}
    for name, part in parts.items():
        with FlopCounterMode(display=False) as counter:
            part()
        found[name] = counter.get_total_flops() / 1e9
    net.train(training)
    return found
