"""Mask branches: every method is the same network with another one of these."""

from __future__ import annotations

from typing import assert_never

from walt_train.model.branches.asn import AsnHeads
from walt_train.model.branches.bcnet import BcnetHeads
from walt_train.model.branches.branch import Branch
from walt_train.model.branches.mask_rcnn import MaskRcnnHead
from walt_train.model.branches.walt import WaltHeads
from walt_train.recipes.parts import AnyBranch, AsnBranch, BcnetBranch, MaskRcnnBranch, WaltBranch


def build_branch(config: AnyBranch, inside: int) -> Branch:
    """The branch that a recipe describes, over RoI features of so many channels."""
    match config:
        case WaltBranch():
            return WaltHeads(config, inside)
        case MaskRcnnBranch():
            return MaskRcnnHead(config, inside)
        case AsnBranch():
            return AsnHeads(config, inside)
        case BcnetBranch():
            return BcnetHeads(config, inside)
        case _:
            assert_never(config)
