"""What a network costs: floating-point operations and parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from walt_train.model.waltnet import WaltNet


def count_parameters(module: nn.Module) -> int:
    """Numbers that are learnt."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def measure_gflops(net: WaltNet) -> float:
    """GFLOPs for a picture with as many proposals and candidates as there can be; a product and a sum count two."""
    training = net.training
    net.eval()
    width, height = net.network.input_wh
    box = torch.tensor([[8.0, 8.0, 40.0, 60.0]])
    proposals = box.expand(net.network.proposals, 4)
    candidates = box.expand(net.network.candidates, 4)
    labels = torch.ones(net.network.candidates, dtype=torch.int64)
    device = net.anchors.device
    with FlopCounterMode(display=False) as counter:
        feature = net.features(torch.zeros(1, height, width, 3, dtype=torch.uint8, device=device))
        net.propose(feature)
        net.classify(feature, proposals.to(device))
        net.masks(feature, candidates.to(device), labels.to(device))
    net.train(training)
    return float(counter.get_total_flops()) / 1e9
