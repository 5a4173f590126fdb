"""WALT-Net's branch, three mask heads: the object itself, what lies before it, what lies behind it.

Each is a small replica of Mask R-CNN's mask head. Supervising the occluded layer too keeps the object apart from
what it hides. What a recipe leaves out does not exist in the network; its map is all zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from walt_edge.contract.errors import UsageError
from walt_train.model.backbone import conv_bn
from walt_train.model.branches.branch import CHANNELS, MAP_SIDE, Branch, Layer, Maps, Raw
from walt_train.model.branches.quality import QualityHead, mask_ious
from walt_train.recipes.parts import WaltBranch

HEADS = ("amodal", "occluder", "occluded")
"""In the order of `Layer`."""


class MaskHead(nn.Module):
    """Convolutions at 14x14, a deconvolution to 28x28, a 1x1 convolution to the classes."""

    def __init__(self, inside: int, width: int, convs: int = 2) -> None:
        super().__init__()
        self.convs = conv_stack(inside, width, convs)
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.classes = nn.Conv2d(width, CHANNELS, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, 14, 14) features to its own (R, width, 14, 14) and (R, CHANNELS, 28, 28) logits."""
        own = self.convs(x)
        return own, self.classes(functional.relu(self.up(own)))


class WaltHeads(Branch):
    """All of them over the same RoI features.

    Args:
        config: Which of them there are, and how they are taught.
        inside: Channels of the features.

    Raises:
        UsageError: The amodal head is to be told of an occluder head that is left out.
    """

    def __init__(self, config: WaltBranch, inside: int) -> None:
        super().__init__()
        if config.coupled and not config.occluder:
            raise UsageError("a coupled branch without occluder head: leave coupled out or the occluder in")
        self.config = config
        self.trunk = conv_stack(inside, config.width, config.shared_convs)
        shared = config.width if config.shared_convs else inside
        there = {"amodal": True, "occluder": config.occluder, "occluded": config.occluded}
        self.heads = nn.ModuleDict(
            {name: MaskHead(shared, config.width, config.convs) for name in HEADS if there[name]}
        )
        self.coupling = conv_bn(config.width, shared, kernel=1) if config.coupled else None
        self.quality = QualityHead(shared, config.width // 2) if config.quality else None
        self.shares = _ACTIVATIONS[config.activation]
        self.cross_entropy = _LOSSES[config.activation]

    def forward(self, features: Tensor, context: Tensor) -> Raw:
        """Logits (R, CHANNELS, 28, 28) of each head, and (R, classes) of `quality`."""
        x = self.trunk(features)
        raw: Raw = {}
        own = x
        for name in reversed(list(self.heads)):  # the occluder head just before the amodal one
            at = x
            if name == "amodal" and self.coupling is not None:
                at = functional.relu(x + self.coupling(own))
            own, raw[name] = self.heads[name](at)
        if self.quality is not None:
            raw["quality"] = self.quality(x, self.shares(raw["amodal"]).detach())
        return raw

    def losses(self, raw: Raw, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy with soft targets, the mean over cells, as `loss_amodal` and so on.

        `loss_quality` is the squared error of the expected IoU (Huang et al. 2019).
        """
        config = self.config
        weights = {"amodal": 1.0, "occluder": config.occluder_weight, "occluded": config.occluded_weight}
        losses = {
            f"loss_{name}": weights[name] * self.cross_entropy(raw[name], targets[:, Layer[name.upper()]])
            for name in self.heads
        }
        if self.quality is not None:
            amodal, whole = anything(self.shares(raw["amodal"])), anything(targets[:, Layer.AMODAL])
            expected = self.quality.expected(raw["quality"], labels)
            error = (expected - mask_ious(amodal.detach(), whole)).square().sum() / max(1, len(labels))
            losses["loss_quality"] = config.quality_weight * error
        return losses

    def maps(self, raw: Raw, labels: Tensor) -> Maps:
        """Probability of the object, and of anything before and behind it.

        The amodal head is taught nothing but the object and background, so whatever is not background there is the
        object. Which class it has the box head says better: a car of a size that was never seen is a car all the
        same, where the channel of people takes half of its cells.
        """
        amodal = anything(self.shares(raw["amodal"]))
        others = [
            anything(self.shares(raw[name])) if name in self.heads else torch.zeros_like(amodal) for name in HEADS[1:]
        ]
        quality = None if self.quality is None else self.quality.expected(raw["quality"], labels)
        return Maps(torch.stack([amodal, *others], dim=1), quality)


def conv_stack(inside: int, width: int, count: int) -> nn.Sequential:
    """So many 3x3 convolutions with normalisation and activation; none hands on what it is given."""
    layers: list[nn.Module] = []
    for index in range(count):
        layers += [conv_bn(width if index else inside, width), nn.ReLU()]
    return nn.Sequential(*layers)


def anything(shares: Tensor) -> Tensor:
    """(R, 28, 28) of (R, CHANNELS, 28, 28): all that is not background."""
    return 1 - shares[:, 0]


def soft_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of a softmax with soft targets, the mean over cells.

    Args:
        logits: (R, CHANNELS, 28, 28); R = 0 gives 0, which still reaches every weight.
        shares: The same shape, adding up to 1 over the channels.
    """
    return -(logits.log_softmax(dim=1) * shares).sum() / _cells(logits)


def binary_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """The same for channels that do not compete: their cross-entropies are added up."""
    return functional.binary_cross_entropy_with_logits(logits, shares, reduction="sum") / _cells(logits)


def _cells(logits: Tensor) -> int:
    return max(1, logits.shape[0]) * MAP_SIDE * MAP_SIDE


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"softmax": _softmax, "sigmoid": torch.sigmoid}
)
_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"softmax": soft_cross_entropy, "sigmoid": binary_cross_entropy}
)
