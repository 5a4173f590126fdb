"""A small residual network and its top-down path: one feature map at stride 4 that has seen the whole picture.

A fixed camera's background never moves. The network is therefore shown three things: the picture, its difference
from the empty scene, and where each pixel lies, which on one camera says how large and how far away things are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_MEAN_LEVEL = 114.0  # the letterbox's grey
_LEVEL_SPREAD = 60.0
_DIFFERENCE_SPREAD = 30.0


def conv_bn(inside: int, outside: int, *, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution and batch normalisation, without activation."""
    return nn.Sequential(nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outside))


class PictureInput(nn.Module):
    """Turns pixels into the network's input channels.

    Attributes:
        plate: The empty scene as the network would be shown it, (3, H, W) float32, BGR levels 0..255.
        place: Column and row of every pixel, (2, H, W), -1..1.
    """

    plate: Tensor
    place: Tensor

    def __init__(self, input_wh: tuple[int, int], *, background: bool) -> None:
        super().__init__()
        width, height = input_wh
        self.background = background
        self.channels = 8 if background else 5
        self.register_buffer("plate", torch.full((3, height, width), _MEAN_LEVEL))
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.register_buffer("place", torch.stack([columns, rows]), persistent=False)

    def forward(self, pictures: Tensor, scenes: Tensor | None = None) -> Tensor:
        """(B, H, W, 3) uint8 BGR to (B, 8 or 5, H, W) float32; `scenes`, of the same shape, replace the plate."""
        levels = pictures.permute(0, 3, 1, 2).float()
        plate = self.plate if scenes is None else scenes.permute(0, 3, 1, 2).float()
        parts = [(levels - _MEAN_LEVEL) / _LEVEL_SPREAD]
        if self.background:
            parts.append((levels - plate) / _DIFFERENCE_SPREAD)
        parts.append(self.place.expand(levels.shape[0], -1, -1, -1))
        return torch.cat(parts, dim=1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(inside, outside, stride=stride)
        self.second = conv_bn(outside, outside)
        same = stride == 1 and inside == outside
        self.shortcut = nn.Identity() if same else conv_bn(inside, outside, stride=stride, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        inner = self.second(functional.relu(self.first(x)))
        return functional.relu(inner + self.shortcut(x))


class Backbone(nn.Module):
    """Stages at strides 4, 8, 16 and 32, added from the top down into one map at stride 4.

    Args:
        inside: Input channels.
        stem: Channels at stride 2.
        stages: Channels of the four stages.
        blocks: Residual blocks of each.
        outside: Channels of the resulting map.
    """

    def __init__(self, *, inside: int, stem: int, stages: Sequence[int], blocks: Sequence[int], outside: int) -> None:
        super().__init__()
        self.stem = conv_bn(inside, stem, stride=2)
        widths = [stem, *stages]
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(before, after, 2), *(ResidualBlock(after, after, 1) for _ in range(count - 1))
            )
            for before, after, count in zip(widths, stages, blocks, strict=False)
        )
        self.laterals = nn.ModuleList(conv_bn(width, outside, kernel=1) for width in stages)
        self.out = conv_bn(outside, outside)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, H, W), sides multiples of 32, to (B, outside, H / 4, W / 4)."""
        x = functional.relu(self.stem(x))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        top = self.laterals[-1](levels[-1])
        for level, lateral in zip(reversed(levels[:-1]), reversed(list(self.laterals)[:-1]), strict=True):
            top = lateral(level) + functional.interpolate(top, scale_factor=2.0, mode="nearest")
        return functional.relu(self.out(functional.relu(top)))
