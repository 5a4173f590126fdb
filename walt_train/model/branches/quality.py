"""How good a mask is, guessed from the features and the mask itself (Mask Scoring R-CNN, Huang et al. 2019).

A class score says how surely there is a person. Whether the mask is right is another matter, most of all where
little of the person is seen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from walt_train.model.backbone import conv_bn
from walt_train.model.branches.branch import CHANNELS

_SET = 0.5
"""From this share on a cell counts as the mask's, as pasting has it."""


class QualityHead(nn.Module):
    """One convolution over features and mask, the mean of its cells, a linear layer to one value a class."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.conv = conv_bn(inside + CHANNELS, width, stride=2)
        self.classes = nn.Linear(width, CHANNELS)

    def forward(self, features: Tensor, shares: Tensor) -> Tensor:
        """(R, C, 14, 14) features and (R, CHANNELS, 28, 28) shares to logits (R, CHANNELS)."""
        together = functional.relu(self.conv(torch.cat([features, functional.avg_pool2d(shares, 2)], dim=1)))
        logits: Tensor = self.classes(together.mean(dim=(2, 3)))
        return logits

    @staticmethod
    def expected(logits: Tensor, labels: Tensor) -> Tensor:
        """(R,) 0..1: of the class that each label (R,) names."""
        return logits.gather(1, labels[:, None])[:, 0].sigmoid()


def mask_ious(shares: Tensor, targets: Tensor) -> Tensor:
    """(R,) IoU of two stacks (R, h, w) of shares, each set from one half on; 1 where both are empty."""
    one, other = shares >= _SET, targets >= _SET
    union = (one | other).sum(dim=(1, 2))
    return ((one & other).sum(dim=(1, 2)) + (union == 0)) / union.clamp(min=1)
