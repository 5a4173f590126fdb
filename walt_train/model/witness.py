"""The network of a witness: one object at a time, is anything of it missing?

A plain stack of convolutions over what `walt_train.mining.witness.show` shows, the mean and the maximum of its last
map, two numbers. It is trained in torch (`benchmarks.witness`) and runs as ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from walt_train.mining.witness import CHANNELS
from walt_train.model.backbone import conv_bn

WIDTHS = (24, 48, 96, 128)
"""Channels at strides 2, 4, 8 and 16."""
_MIDDLE = 128.0


class WitnessNet(nn.Module):
    """(N, CHANNELS, SIDE, SIDE) to the log-odds of being whole, and how much is hidden.

    The second number is there to learn by: how much is missing says more than whether.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = CHANNELS
        for width in WIDTHS:
            layers += [conv_bn(inside, width, stride=2), nn.ReLU(), conv_bn(width, width), nn.ReLU()]
            inside = width
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(2 * inside, 2)

    def forward(self, shown: Tensor) -> Tensor:
        """Levels 0..255 of any type to (N, 2): log-odds, and the square root of the hidden share."""
        feature = self.body(shown.float() / _MIDDLE - 1.0)
        found: Tensor = self.out(self.drop(torch.cat([feature.mean((2, 3)), feature.amax((2, 3))], dim=1)))
        return found
