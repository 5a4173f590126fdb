"""Mask branches: every method is the same network with another one of these."""

from __future__ import annotations

from typing import assert_never

from walt_train.model.branches.branch import Branch
from walt_train.model.branches.walt import WaltHeads
from walt_train.recipes.parts import AnyBranch, AsnBranch, BcnetBranch, MaskRcnnBranch, WaltBranch


def build_branch(config: AnyBranch, inside: int) -> Branch:
    """The branch that a recipe describes, over RoI features of so many channels."""
    match config:
        case WaltBranch():
            return WaltHeads(config, inside)
        case MaskRcnnBranch() | AsnBranch() | BcnetBranch():
            raise NotImplementedError(type(config).__name__)
        case _:
            assert_never(config)
