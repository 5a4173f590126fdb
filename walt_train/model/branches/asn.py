"""ASN: amodal and visible masks over a multi-level coding (Qi, Jiang, Liu, Shen, Jia, CVPR 2019).

Beside the box branch another one tells whether the object is occluded. What both see at 7x7, *which* thing it is and
*whether* something hides it, is brought to 14x14 (the coding's extraction) and merged into the mask features (its
combination), so that a hidden part is guessed from the whole. The amodal and the visible mask each have a coding and
a head of their own.

What differs from the original, and why:
- The box branch's share of the coding is what that branch reads; the original takes it one convolution later. The
  box head that all methods here have in common begins with a fully connected layer and has no such map.
- Whether an object is occluded is one logit; the original's two with a softmax say the same.
- Occluded objects weigh no more than others there: the original weighs them 8 times, as few of its proposals are
  occluded, while composites show about as many occluded objects as free ones.
- Occlusion is taught on the mask branch's boxes, all of which hold objects; the original adds background.
- An occluder layer is derived, what the amodal mask has and the visible one has not; there is no occluded layer.
- Normalisation, channels and soft targets are those of `mask_rcnn`, for the reasons told there.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from walt_train.model.branches.branch import Branch, Layer, Maps, Raw
from walt_train.model.branches.mask_rcnn import (
    CLASSES,
    TOWER,
    MapPredictor,
    binary_cross_entropy,
    conv_tower,
    covered,
    own_class,
)
from walt_train.recipes.parts import AsnBranch

OCCLUDED_FROM: Final = 0.05
"""Hidden share of the amodal mask above which an object counts as occluded: a few cells teach nothing."""
CONTEXT_SIDE: Final = 7
_LEAST_SHARE: Final = 1e-6


class AsnHeads(Branch):
    """Occlusion branch, amodal head, visible head.

    Args:
        config: Channels.
        inside: Channels of the features.
    """

    def __init__(self, config: AsnBranch, inside: int) -> None:
        super().__init__()
        self.occlusion = OcclusionHead(inside, config.width)
        self.amodal = CodedMaskHead(inside, config.width)
        self.visible = CodedMaskHead(inside, config.width)

    def forward(self, features: Tensor, context: Tensor) -> Raw:
        """Logits `amodal` and `visible` (R, CLASSES, 28, 28), and `occlusion` (R,)."""
        seen, occlusion = self.occlusion(context)
        levels = torch.cat([context, seen], dim=1)
        return {
            "amodal": self.amodal(features, levels),
            "visible": self.visible(features, levels),
            "occlusion": occlusion,
        }

    def losses(self, raw: Raw, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`loss_amodal`, `loss_visible` and `loss_occlusion`, of equal weight as in the original."""
        amodal, visible = covered(targets, Layer.AMODAL), covered(targets, Layer.VISIBLE)
        occluded = (hidden_share(amodal, visible) > OCCLUDED_FROM).to(amodal.dtype)
        wrong = functional.binary_cross_entropy_with_logits(raw["occlusion"], occluded, reduction="sum")
        return {
            "loss_amodal": binary_cross_entropy(own_class(raw["amodal"], labels), amodal),
            "loss_visible": binary_cross_entropy(own_class(raw["visible"], labels), visible),
            "loss_occlusion": wrong / max(1, len(occluded)),
        }

    def maps(self, raw: Raw, labels: Tensor) -> Maps:
        """The object, and as its occluder the share of it that is not seen."""
        amodal = own_class(raw["amodal"], labels).sigmoid()
        visible = own_class(raw["visible"], labels).sigmoid()
        occluder = (1 - visible / amodal.clamp(min=_LEAST_SHARE)).clamp(0, 1)
        return Maps(torch.stack([amodal, occluder, torch.zeros_like(amodal)], dim=1))


class OcclusionHead(nn.Module):
    """Four convolutions and two fully connected layers at 7x7: is anything before the object?"""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.first = conv_tower(inside, width, 1)
        self.rest = conv_tower(width, width, TOWER - 1)
        self.hidden = nn.Linear(width * CONTEXT_SIDE**2, width)
        self.occluded = nn.Linear(width, 1)

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, 7, 7) to what the first convolution sees, (R, width, 7, 7), and a logit (R,)."""
        seen = self.first(context)
        x = functional.relu(self.hidden(self.rest(seen).flatten(1)))
        return seen, self.occluded(x).squeeze(1)


class MultiLevelCoding(nn.Module):
    """Merges what the branches at 7x7 see into the mask features at 14x14.

    Args:
        inside: Channels of the mask features.
        levels: Channels of the branches, together.
        width: Channels that come out.
    """

    def __init__(self, inside: int, levels: int, width: int) -> None:
        super().__init__()
        self.extract = nn.Sequential(
            conv_tower(levels, width, 1),
            nn.ConvTranspose2d(width, width, 2, 2),
            nn.ReLU(inplace=True),
            conv_tower(width, width, 1),
        )
        self.combine = conv_tower(width + inside, width, 2)

    def forward(self, features: Tensor, levels: Tensor) -> Tensor:
        """(R, C, 14, 14) and (R, levels, 7, 7) to (R, width, 14, 14)."""
        coded: Tensor = self.combine(torch.cat([self.extract(levels), features], dim=1))
        return coded


class CodedMaskHead(nn.Module):
    """Mask R-CNN's head over a coding of its own."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.coding = MultiLevelCoding(inside, inside + width, width)
        self.tower = conv_tower(width, width, TOWER)
        self.masks = MapPredictor(width, CLASSES)

    def forward(self, features: Tensor, levels: Tensor) -> Tensor:
        """Logits (R, CLASSES, 28, 28)."""
        logits: Tensor = self.masks(self.tower(self.coding(features, levels)))
        return logits


def hidden_share(amodal: Tensor, visible: Tensor) -> Tensor:
    """How much of each object is hidden, 0..1: (R, h, w) shares of cells to (R,)."""
    return 1 - visible.sum(dim=(1, 2)) / amodal.sum(dim=(1, 2)).clamp(min=_LEAST_SHARE)
