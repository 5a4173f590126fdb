"""The three mask heads: the object itself, what lies before it, what lies behind it.

Each is a small replica of Mask R-CNN's mask head. Supervising the occluded layer too keeps the object apart from
what it hides.
"""

from __future__ import annotations

import enum

import torch
from torch import Tensor, nn
from torch.nn import functional

from walt_train.model.backbone import conv_bn

CHANNELS = 4
"""Of every head: background, person, vehicle (their Label values), static."""
STATIC_CHANNEL = 3
ROI_SIDE = 14
MAP_SIDE = 28


class Head(enum.IntEnum):
    """Order of the heads in logits and targets."""

    AMODAL = 0
    OCCLUDER = 1
    OCCLUDED = 2


class MaskHead(nn.Module):
    """Two convolutions at 14x14, a deconvolution to 28x28, a 1x1 convolution to the classes."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.first = conv_bn(inside, width)
        self.second = conv_bn(width, width)
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.classes = nn.Conv2d(width, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, 14, 14) features to (R, CHANNELS, 28, 28) logits."""
        x = functional.relu(self.second(functional.relu(self.first(x))))
        logits: Tensor = self.classes(functional.relu(self.up(x)))
        return logits


class MaskHeads(nn.Module):
    """All three over the same RoI features."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(MaskHead(inside, width) for _ in Head)

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, 14, 14) features to (R, 3, CHANNELS, 28, 28) logits."""
        return torch.stack([head(x) for head in self.heads], dim=1)


def layer_maps(logits: Tensor, labels: Tensor) -> Tensor:
    """What leaves the network: probability of the object, of anything before it, of anything behind it.

    Args:
        logits: (R, 3, CHANNELS, 28, 28).
        labels: (R,) int64 Label values.

    Returns:
        (R, 3, 28, 28) float32, 0..1.
    """
    shares = logits.softmax(dim=2)
    index = labels.view(-1, 1, 1, 1).expand(-1, 1, MAP_SIDE, MAP_SIDE)
    amodal = shares[:, Head.AMODAL].gather(1, index)
    others = 1 - shares[:, Head.OCCLUDER :, 0]
    return torch.cat([amodal, others], dim=1)


def mask_losses(logits: Tensor, targets: Tensor, weights: dict[Head, float]) -> dict[str, Tensor]:
    """Softmax cross-entropy with soft targets, the mean over cells, for each head that has a weight.

    Args:
        logits: (R, 3, CHANNELS, 28, 28); R = 0 gives losses of 0 that still reach every weight.
        targets: The same shape, shares that add up to 1.
        weights: Of each head; 0 leaves it out.

    Returns:
        `loss_amodal`, `loss_occluder`, `loss_occluded`: scalars, those that are left out missing.
    """
    cells = max(1, logits.shape[0]) * MAP_SIDE * MAP_SIDE
    logs = logits.log_softmax(dim=2)
    return {
        f"loss_{head.name.lower()}": -weight * (logs[:, head] * targets[:, head]).sum() / cells
        for head, weight in weights.items()
        if weight > 0
    }
