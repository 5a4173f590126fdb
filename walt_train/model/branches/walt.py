"""WALT-Net's branch, three mask heads: the object itself, what lies before it, what lies behind it.

Each is a small replica of Mask R-CNN's mask head. Supervising the occluded layer too keeps the object apart from
what it hides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from walt_train.model.backbone import conv_bn
from walt_train.model.branches.branch import CHANNELS, MAP_SIDE, Branch, Layer, Maps, Raw
from walt_train.recipes.parts import WaltBranch

HEADS = ("amodal", "occluder", "occluded")
"""In the order of `Layer`."""


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


class WaltHeads(Branch):
    """All three over the same RoI features.

    Args:
        config: Which of them there are, and how they are taught.
        inside: Channels of the features.
    """

    def __init__(self, config: WaltBranch, inside: int) -> None:
        super().__init__()
        self.config = config
        self.heads = nn.ModuleDict({name: MaskHead(inside, config.width) for name in HEADS})

    def forward(self, features: Tensor, context: Tensor) -> Raw:
        """Logits (R, CHANNELS, 28, 28) of each head."""
        return {name: head(features) for name, head in self.heads.items()}

    def losses(self, raw: Raw, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Softmax cross-entropy with soft targets, the mean over cells: `loss_amodal` and so on."""
        config = self.config
        weights = {"amodal": 1.0, "occluder": config.occluder_weight, "occluded": config.occluded_weight}
        return {
            f"loss_{name}": weights[name] * soft_cross_entropy(logits, targets[:, Layer[name.upper()]])
            for name, logits in raw.items()
        }

    def maps(self, raw: Raw, labels: Tensor) -> Maps:
        """Probability of the object's own class, and of anything before and behind it."""
        index = labels.view(-1, 1, 1, 1).expand(-1, 1, MAP_SIDE, MAP_SIDE)
        amodal = raw["amodal"].softmax(dim=1).gather(1, index)
        others = [1 - raw[name].softmax(dim=1)[:, :1] for name in HEADS[1:]]
        return Maps(torch.cat([amodal, *others], dim=1))


def soft_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of a softmax with soft targets, the mean over cells.

    Args:
        logits: (R, CHANNELS, 28, 28); R = 0 gives 0, which still reaches every weight.
        shares: The same shape, adding up to 1 over the channels.
    """
    cells = max(1, logits.shape[0]) * MAP_SIDE * MAP_SIDE
    return -(logits.log_softmax(dim=1) * shares).sum() / cells
