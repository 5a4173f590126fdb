"""Other methods in a recipe's place: the same input, backbone, boxes, data and schedule, with another mask branch.

Every branch is made so wide that it costs as much for an object as the one that it replaces. All of a difference in
accuracy is then the method's, none of it the budget's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from walt_train.recipes.parts import AnyBranch, AsnBranch, BcnetBranch, MaskRcnnBranch
from walt_train.recipes.recipe import Recipe

_WIDTHS: Final = (*range(4, 64), *range(64, 1025, 4))  # wide convolutions run faster in multiples of four


def mask_rcnn_visible(recipe: Recipe) -> Recipe:
    """Mask R-CNN that learns what is seen, its boxes too: the baseline of the paper's table."""
    changed = _replaced(recipe, "mask_rcnn_visible", lambda width: MaskRcnnBranch(width=width, target="visible"))
    network = msgspec.structs.replace(changed.network, box_target="visible")
    return msgspec.structs.replace(changed, network=network)


def mask_rcnn_amodal(recipe: Recipe) -> Recipe:
    """Mask R-CNN that learns whole objects."""
    return _replaced(recipe, "mask_rcnn_amodal", lambda width: MaskRcnnBranch(width=width, target="amodal"))


def asn(recipe: Recipe) -> Recipe:
    """ASN: amodal and visible masks, occlusion classification, multi-level coding."""
    return _replaced(recipe, "asn", lambda width: AsnBranch(width=width))


def bcnet(recipe: Recipe) -> Recipe:
    """BCNet: occluder and occludee, each with a graph convolution."""
    return _replaced(recipe, "bcnet", lambda width: BcnetBranch(width=width))


METHODS: Mapping[str, Callable[[Recipe], Recipe]] = MappingProxyType(
    {method.__name__: method for method in (mask_rcnn_visible, mask_rcnn_amodal, asn, bcnet)}
)


def branch_flops(branch: AnyBranch, feature_channels: int) -> int:
    """Floating-point operations of a mask branch for one object; a product and a sum count two."""
    # Imported here: whoever only reads a recipe needs no torch, and the branches import recipes themselves.
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from walt_train.model.branches import build_branch
    from walt_train.model.branches.branch import ROI_SIDE
    from walt_train.model.waltnet import BOX_SIDE

    with torch.device("meta"), torch.no_grad():
        built = build_branch(branch, feature_channels).eval()
        features, context = (torch.zeros(1, feature_channels, side, side) for side in (ROI_SIDE, BOX_SIDE))
        with FlopCounterMode(display=False) as counter:
            built(features, context)
    return int(counter.get_total_flops())


def _replaced(recipe: Recipe, method: str, branch: Callable[[int], AnyBranch]) -> Recipe:
    """The recipe with the branch of the width that comes nearest to the old one's cost."""
    channels = recipe.network.feature_channels
    goal = branch_flops(recipe.network.branch, channels)

    def flops(width: int) -> int:
        return branch_flops(branch(width), channels)

    above = min(max(bisect_left(_WIDTHS, goal, key=flops), 1), len(_WIDTHS) - 1)
    width = min(_WIDTHS[above - 1 : above + 1], key=lambda width: abs(flops(width) - goal))
    network = msgspec.structs.replace(recipe.network, branch=branch(width))
    return msgspec.structs.replace(recipe, name=f"{recipe.name}-{method}", network=network)
