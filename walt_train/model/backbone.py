"""Backbones and their top-down path: one feature map at stride 4 that has seen the whole picture.

A fixed camera's background never moves. A network of one camera is therefore shown three things: the picture, its
difference from the empty scene, and where each pixel lies, which there says how large and how far away things are. A
network for any camera is shown the picture alone: the other two would be learned by heart.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from walt_edge.contract.errors import UsageError
from walt_train.recipes.parts import AnyBackbone, EdgeBackbone, MmBackbone, SmallBackbone

_MEAN_LEVEL = 114.0  # the letterbox's grey
_LEVEL_SPREAD = 60.0
_DIFFERENCE_SPREAD = 30.0
_LEVELS = ("blue", "green", "red")
_DIFFERENCE = ("blue changed", "green changed", "red changed")
_PLACE = ("column", "row")
_PLAIN_STAGES = 2
"""Stages of the edge backbone that are made of plain blocks: depthwise convolutions of large maps wait for memory."""


def conv_bn(inside: int, outside: int, *, stride: int = 1, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation, without activation."""
    kind = Depthwise if groups == inside == outside else nn.Conv2d
    convolution = kind(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside))


class Depthwise(nn.Conv2d):
    """A depthwise convolution, in float32 on a CPU even where others compute in bfloat16.

    Its gradients take oneDNN 37 ms in float32 and 106 ms in bfloat16 (8 pictures, 640 channels of 24x40, kernel 5, on
    a core that has instructions for bfloat16).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H / stride, W / stride)."""
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


class PictureInput(nn.Module):
    """Turns pixels into the network's input channels.

    Args:
        input_wh: Size of the letterboxed picture, pixels.
        background: Whether the difference from the empty scene is shown.
        position: Whether the place of each pixel is.

    Attributes:
        plate: The empty scene as the network would be shown it, (3, H, W) float32, BGR levels 0..255; a checkpoint
            has it where it is shown.
        columns: Place of every column, (1, 1, 1, W), -1..1.
        rows: Place of every row, (1, 1, H, 1), -1..1.
        meanings: What each channel that comes out says.
        channels: How many come out: 3 to 8.
    """

    plate: Tensor
    columns: Tensor
    rows: Tensor

    def __init__(self, input_wh: tuple[int, int], *, background: bool, position: bool = True) -> None:
        super().__init__()
        width, height = input_wh
        self.background, self.position = background, position
        difference = _DIFFERENCE if background else ()
        self.meanings = (*_LEVELS, *difference, *(_PLACE if position else ()))
        self.channels = len(self.meanings)
        self.register_buffer("plate", torch.full((3, height, width), _MEAN_LEVEL), persistent=background)
        self.register_buffer("columns", torch.linspace(-1, 1, width).view(1, 1, 1, -1), persistent=False)
        self.register_buffer("rows", torch.linspace(-1, 1, height).view(1, 1, -1, 1), persistent=False)

    @property
    def lacks_scene(self) -> bool:
        """Whether it shows the difference from an empty scene and was never given one, but learned many cameras'."""
        return self.background and not self.position and bool((self.plate == _MEAN_LEVEL).all())

    def forward(self, pictures: Tensor, scenes: Tensor | None = None, windows: Tensor | None = None) -> Tensor:
        """(B, H, W, 3) uint8 BGR to (B, `channels`, H, W) float32.

        Args:
            pictures: What is seen.
            scenes: The empty scenes, of the same shape, in the plate's place.
            windows: (B, 4) xyxy: where the corners of each picture lie in the whole frame's input, in parts of its
                sides; x1 < x0 in a mirrored one.
        """
        levels = pictures.permute(0, 3, 1, 2).float()
        parts = [(levels - _MEAN_LEVEL) / _LEVEL_SPREAD]
        if self.background:
            plate = self.plate if scenes is None else scenes.permute(0, 3, 1, 2).float()
            parts.append((levels - plate) / _DIFFERENCE_SPREAD)
        if self.position:
            places = (self.columns, self.rows)
            if windows is not None:
                places = (_inside(self.columns, windows[:, 0::2]), _inside(self.rows, windows[:, 1::2]))
            # Expanded one by one: a line of numbers is all that an exported network has to hold of each.
            parts += [place.expand(len(levels), 1, *levels.shape[2:]) for place in places]
        return torch.cat(parts, dim=1)


def _inside(places: Tensor, bounds: Tensor) -> Tensor:
    """Places -1..1 along one side of pictures, (1, 1, ...), as places of the frames that they are windows of.

    Args:
        places: Of the input's columns or rows.
        bounds: (B, 2) where its ends lie in the frame, in parts of the frame's side.
    """
    low, high = (bounds * 2 - 1).view(-1, 2, 1, 1, 1).unbind(dim=1)
    return low + (places + 1) / 2 * (high - low)


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


class InvertedResidualBlock(nn.Module):
    """Wider inside: 1x1, depthwise, 1x1 convolution beside a shortcut (Sandler et al. 2018).

    Where channels are many it costs a fraction of a plain block, and a large kernel there is nearly free.
    """

    def __init__(self, inside: int, outside: int, stride: int, *, expansion: int, kernel: int) -> None:
        super().__init__()
        hidden = inside * expansion
        self.widen = conv_bn(inside, hidden, kernel=1)
        self.depthwise = conv_bn(hidden, hidden, stride=stride, kernel=kernel, groups=hidden)
        self.narrow = conv_bn(hidden, outside, kernel=1)
        self.same = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        inner: Tensor = self.narrow(functional.relu(self.depthwise(functional.relu(self.widen(x)))))
        return x + inner if self.same else inner


class Stages(nn.Module):
    """A stem at stride 2 and stages at strides 4, 8, 16 and 32.

    Args:
        inside: Input channels.
        config: How wide and how deep.
    """

    def __init__(self, inside: int, config: SmallBackbone | EdgeBackbone) -> None:
        super().__init__()
        self.widths = config.stages
        self.stem = conv_bn(inside, config.stem, stride=2)
        before = (config.stem, *config.stages)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    _block(config, index, before[index] if first else width, width, 2 if first else 1)
                    for first in [True] + [False] * (config.blocks[index] - 1)
                )
            )
            for index, width in enumerate(config.stages)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inside, H, W), sides multiples of 32, to four maps, the finest first."""
        x = functional.relu(self.stem(x))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


def _block(config: SmallBackbone | EdgeBackbone, stage: int, inside: int, outside: int, stride: int) -> nn.Module:
    if isinstance(config, SmallBackbone) or stage < _PLAIN_STAGES:
        return ResidualBlock(inside, outside, stride)
    return InvertedResidualBlock(inside, outside, stride, expansion=config.expansion, kernel=config.kernel)


class TopDown(nn.Module):
    """Adds maps at strides 4 to 32 from the top down into one at stride 4 (Lin et al. 2017).

    Args:
        widths: Channels of the maps.
        outside: Channels of the result.
        separable: Whether the last convolution is a depthwise and a 1x1 one: a plain one is the dearest of a small
            network.
    """

    def __init__(self, widths: Sequence[int], outside: int, *, separable: bool) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(conv_bn(width, outside, kernel=1) for width in widths)
        if separable:
            self.out = nn.Sequential(
                *conv_bn(outside, outside, kernel=5, groups=outside), *conv_bn(outside, outside, kernel=1)
            )
        else:
            self.out = conv_bn(outside, outside)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Four maps, the finest first, to (B, outside, H / 4, W / 4)."""
        top = self.laterals[-1](levels[-1])
        for level, lateral in zip(reversed(levels[:-1]), reversed(list(self.laterals)[:-1]), strict=True):
            top = lateral(level) + functional.interpolate(top, scale_factor=2.0, mode="nearest")
        return functional.relu(self.out(functional.relu(top)))


class Backbone(nn.Module):
    """From input channels to one map at stride 4 that has seen the whole picture.

    Args:
        inside: Input channels.
        config: Which one.
        outside: Channels of the map.

    Raises:
        UsageError: The backbone needs the mm fork, which is not installed, or its checkpoint cannot be read.
    """

    def __init__(self, inside: int, config: AnyBackbone, outside: int) -> None:
        super().__init__()
        self.bottom_up = _bottom_up(inside, config)
        self.top_down = TopDown(self.bottom_up.widths, outside, separable=isinstance(config, EdgeBackbone))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, H, W), sides multiples of 32, to (B, outside, H / 4, W / 4)."""
        feature: Tensor = self.top_down(self.bottom_up(x))
        return feature


def _bottom_up(inside: int, config: AnyBackbone) -> Any:
    if not isinstance(config, MmBackbone):
        return Stages(inside, config)
    try:
        # By its name, so that what only predicts or exports never depends on the mm fork.
        adapter = importlib.import_module("walt_train.model.mm_adapter.backbones")
    except ImportError as error:
        raise UsageError(f"backbone {config.kind} needs the mm fork ({error}): install walt-amodal[train]") from error
    return adapter.MmStages(inside, config)
