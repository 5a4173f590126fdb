"""Interchangeable parts of a network, as a recipe describes them: tagged, so that JSON says which one it is."""

from __future__ import annotations

from typing import Literal

import msgspec


class SmallBackbone(msgspec.Struct, frozen=True, kw_only=True, tag="small"):
    """A plain residual network.

    Attributes:
        stem: Channels at stride 2.
        stages: Of the residual stages at strides 4, 8, 16 and 32.
        blocks: Residual blocks of each stage.
    """

    stem: int
    stages: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]


class WaltBranch(msgspec.Struct, frozen=True, kw_only=True, tag="walt"):
    """WALT-Net's heads: the amodal object, its occluder, what it occludes.

    Attributes:
        width: Channels of each head.
        occluder_weight: Of that head's loss; the amodal head's is 1.
        occluded_weight: The same.
    """

    width: int
    occluder_weight: float = 0.5
    occluded_weight: float = 0.5


class MaskRcnnBranch(msgspec.Struct, frozen=True, kw_only=True, tag="mask_rcnn"):
    """Mask R-CNN's one head (He et al. 2017).

    Attributes:
        width: Channels.
        target: Whether it learns what is seen or the whole object.
    """

    width: int
    target: Literal["visible", "amodal"] = "amodal"


class AsnBranch(msgspec.Struct, frozen=True, kw_only=True, tag="asn"):
    """ASN's amodal and visible heads over a multi-level coding (Qi et al. 2019).

    Attributes:
        width: Channels.
    """

    width: int


class BcnetBranch(msgspec.Struct, frozen=True, kw_only=True, tag="bcnet"):
    """BCNet's bilayer heads with graph convolutions (Ke et al. 2021).

    Attributes:
        width: Channels.
    """

    width: int


AnyBackbone = SmallBackbone
AnyBranch = WaltBranch | MaskRcnnBranch | AsnBranch | BcnetBranch
