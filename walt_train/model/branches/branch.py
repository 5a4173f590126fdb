"""What every mask branch is: RoI features in, layer maps out, and the losses that teach it."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

CHANNELS = 4
"""Of every class map: background, person, vehicle (their Label values), static."""
STATIC_CHANNEL = 3
ROI_SIDE = 14
MAP_SIDE = 28


class Layer(enum.IntEnum):
    """Order of the layers in targets; the first three are what a network gives, in the same order."""

    AMODAL = 0
    OCCLUDER = 1
    OCCLUDED = 2
    VISIBLE = 3


LAYER_MAPS = 3
"""Layers that leave the network: all but the visible one, which follows from amodal and occluder."""

Raw = dict[str, Tensor]


class Maps(NamedTuple):
    """What leaves a branch.

    Attributes:
        layers: (R, 3, 28, 28) probabilities of the object, of anything before it, of anything behind it; a layer
            that the method does not know is all zeros.
        quality: (R,) the expected IoU of the amodal mask, 0..1, or None where the method does not tell.
    """

    layers: Tensor
    quality: Tensor | None = None


class Branch(nn.Module, ABC):
    """A method: everything else of the network is the same for all of them."""

    @abstractmethod
    def forward(self, features: Tensor, context: Tensor) -> Raw:
        """Raw outputs, mostly logits, of static shape but for R; what `torch.export` can trace.

        Args:
            features: (R, C, 14, 14) RoI features.
            context: (R, C, 7, 7), the same boxes as the box head reads them.
        """

    @abstractmethod
    def losses(self, raw: Raw, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What is to be made small.

        Args:
            raw: What `forward` gave.
            targets: (R, 4, CHANNELS, 28, 28) area shares in the order of `Layer`, adding up to 1 over the channels.
            labels: (R,) int64 Label values.

        Returns:
            Weighted scalars `loss_*`; R = 0 gives zeros that still reach every weight.
        """

    @abstractmethod
    def maps(self, raw: Raw, labels: Tensor) -> Maps:
        """Probabilities for objects with Label values (R,) int64."""
