"""Drawn targets for mask branches, and what a branch would answer that knew them."""

from __future__ import annotations

import torch
from torch import Tensor

from walt_train.model.branches.asn import OCCLUDED_FROM, hidden_share
from walt_train.model.branches.bcnet import contours
from walt_train.model.branches.branch import CHANNELS, MAP_SIDE, Branch, Layer, Raw
from walt_train.model.branches.mask_rcnn import CLASSES, covered
from walt_train.recipes.parts import AnyBranch, AsnBranch, BcnetBranch, MaskRcnnBranch

INSIDE = 6
BASELINES: dict[str, AnyBranch] = {
    "mask_rcnn_visible": MaskRcnnBranch(width=5, target="visible"),
    "mask_rcnn_amodal": MaskRcnnBranch(width=5, target="amodal"),
    "asn": AsnBranch(width=5),
    "bcnet": BcnetBranch(width=5),
    "bcnet_as_wide_as_its_features": BcnetBranch(width=INSIDE),
}
LABELS = torch.tensor([1, 2, 2])


def rois(count: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features and context of so many boxes."""
    chance = torch.Generator().manual_seed(seed)
    shapes = ((count, INSIDE, 14, 14), (count, INSIDE, 7, 7))
    return torch.randn(shapes[0], generator=chance), torch.randn(shapes[1], generator=chance)


def drawn_targets(labels: Tensor = LABELS) -> Tensor:
    """(R, 4, CHANNELS, 28, 28): a block, from the second object on with something before its left part.

    The edges lie inside cells, so that shares between 0 and 1 occur.
    """
    targets = torch.zeros(len(labels), len(Layer), CHANNELS, MAP_SIDE, MAP_SIDE)
    for index, label in enumerate(labels.tolist()):
        amodal = span(4.25, 22.5)[:, None] * span(3.5, 25.75)
        occluder = span(0, 24.0)[:, None] * span(0, 4.0 * index + 0.5) * (index > 0)
        targets[index, Layer.AMODAL, label] = amodal
        targets[index, Layer.OCCLUDER, 1] = occluder
        targets[index, Layer.OCCLUDED, 2] = span(20, 28)[:, None] * span(20, 28)
        targets[index, Layer.VISIBLE, label] = amodal * (1 - occluder)
    targets[:, :, 0] = 1 - targets[:, :, 1:].sum(dim=2)
    return targets


def span(start: float, end: float) -> Tensor:
    """(28,) how much of each cell lies between."""
    cells = torch.arange(MAP_SIDE)
    return (torch.clamp(cells + 1, max=end) - torch.clamp(cells, min=start)).clamp(min=0)


def knowing(branch: Branch, targets: Tensor) -> Raw:
    """The raw outputs that say exactly what is true."""
    amodal, occluder, visible = (covered(targets, layer) for layer in (Layer.AMODAL, Layer.OCCLUDER, Layer.VISIBLE))
    occluded = (hidden_share(amodal, visible) > OCCLUDED_FROM).float()
    classes = {
        "amodal": amodal,
        "visible": visible,
        "masks": covered(targets, getattr(branch, "target", Layer.AMODAL)),
    }
    truth = {
        "occluder": occluder,
        "occlusion": occluded,
        "amodal_contour": contours(amodal),
        "occluder_contour": contours(occluder),
        **classes,
    }
    raw = branch(*rois(len(targets)))
    return {
        name: _logits(truth[name].unsqueeze(1).expand(-1, CLASSES, -1, -1) if value.dim() == 4 else truth[name])
        for name, value in raw.items()
    }


def _logits(shares: Tensor) -> Tensor:
    return shares.double().logit(eps=1e-9).requires_grad_()
