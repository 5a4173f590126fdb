"""Mask R-CNN's mask head (He, Gkioxari, Dollár, Girshick 2017), and what every method that grew from it shares.

What differs from the original, and why:
- Batch normalisation after every convolution: all methods here are trained from scratch and in the same way.
- Channels by the recipe, so that every method costs what WALT-Net's heads cost; the original has 256.
- Soft targets, the share of each cell that a mask covers, where the original has 0 and 1: all methods are taught by
  the same targets, and hard ones would cost 3% to 7% of IoU.
- Either the visible or the whole object is learnt: the first is the paper's baseline, the second its amodal twin.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from walt_train.model.backbone import conv_bn
from walt_train.model.branches.branch import MAP_SIDE, STATIC_CHANNEL, Branch, Layer, Maps, Raw
from walt_train.recipes.parts import MaskRcnnBranch

CLASSES = STATIC_CHANNEL - 1
"""Things that have masks of their own: person and vehicle; class c is Label c + 1."""
TOWER = 4
"""Convolutions of a mask head, as in the original."""


class MaskRcnnHead(Branch):
    """Four convolutions at 14x14, a deconvolution to 28x28, a sigmoid for each class.

    A mask of what is seen takes the amodal layer's place: it is this method's answer to where the object is.

    Args:
        config: Channels, and what is learnt.
        inside: Channels of the features.
    """

    def __init__(self, config: MaskRcnnBranch, inside: int) -> None:
        super().__init__()
        self.target = Layer.VISIBLE if config.target == "visible" else Layer.AMODAL
        self.tower = conv_tower(inside, config.width, TOWER)
        self.masks = MapPredictor(config.width, CLASSES)

    def forward(self, features: Tensor, context: Tensor) -> Raw:
        """Logits `masks` (R, CLASSES, 28, 28)."""
        return {"masks": self.masks(self.tower(features))}

    def losses(self, raw: Raw, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`loss_visible` or `loss_amodal`: only the map of the object's own class is taught."""
        logits = own_class(raw["masks"], labels)
        return {f"loss_{self.target.name.lower()}": binary_cross_entropy(logits, covered(targets, self.target))}

    def maps(self, raw: Raw, labels: Tensor) -> Maps:
        """The object alone: this method knows of no other layer."""
        mask = own_class(raw["masks"], labels).sigmoid()
        nothing = torch.zeros_like(mask)
        return Maps(torch.stack([mask, nothing, nothing], dim=1))


class MapPredictor(nn.Module):
    """A deconvolution to twice the side and a 1x1 convolution.

    Args:
        inside: Channels of the features.
        maps: How many come out.
    """

    def __init__(self, inside: int, maps: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inside, inside, 2, 2)
        self.out = nn.Conv2d(inside, maps, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, 14, 14) features to (R, maps, 28, 28) logits."""
        logits: Tensor = self.out(functional.relu(self.up(x)))
        return logits


def conv_tower(inside: int, width: int, count: int) -> nn.Sequential:
    """So many 3x3 convolutions of that width, each normalised and rectified."""
    widths = [inside, *[width] * count]
    return nn.Sequential(*(nn.Sequential(conv_bn(before, width), nn.ReLU(inplace=True)) for before in widths[:count]))


def own_class(maps: Tensor, labels: Tensor) -> Tensor:
    """Of each object's maps (R, CLASSES, h, w) that of its own Label value (R,): (R, h, w)."""
    index = (labels - 1).view(-1, 1, 1, 1).expand(-1, 1, *maps.shape[2:])
    return maps.gather(1, index).squeeze(1)


def covered(targets: Tensor, layer: Layer) -> Tensor:
    """The share of each cell that anything in that layer covers: (R, 4, CHANNELS, 28, 28) to (R, 28, 28), 0..1."""
    return 1 - targets[:, layer, 0]


def binary_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Of a sigmoid with soft targets, the mean over cells.

    Args:
        logits: (R, 28, 28); R = 0 gives 0, which still reaches every weight.
        shares: The same shape, 0..1.
    """
    cells = max(1, logits.shape[0]) * MAP_SIDE * MAP_SIDE
    return functional.binary_cross_entropy_with_logits(logits, shares, reduction="sum") / cells
