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


class EdgeBackbone(msgspec.Struct, frozen=True, kw_only=True, tag="edge"):
    """Plain residual blocks where pictures are large, inverted residual ones where channels are many.

    Attributes:
        stem: Channels at stride 2.
        stages: Of the stages at strides 4, 8, 16 and 32.
        blocks: Of each stage; the first two are made of residual blocks, the others of inverted ones.
        expansion: Of the inverted ones.
        kernel: Of their depthwise convolution.
    """

    stem: int
    stages: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    expansion: int = 4
    kernel: int = 5


class MmBackbone(msgspec.Struct, frozen=True, kw_only=True, tag="mm"):
    """A backbone of mmdet's; training and prediction need the mm fork.

    Attributes:
        kind: Which.
        checkpoint: File of its weights, of which only training reads: "" begins at random; nothing is downloaded.
    """

    kind: Literal["resnet50", "swin_t"]
    checkpoint: str = ""


class WaltBranch(msgspec.Struct, frozen=True, kw_only=True, tag="walt"):
    """WALT-Net's heads: the amodal object, its occluder, what it occludes.

    Attributes:
        width: Channels of each head.
        shared_convs: Convolutions that the heads have in common.
        convs: Convolutions of each head before its deconvolution.
        activation: Whether classes compete in a cell.
        coupled: Whether the amodal head is told what the occluder head sees, as BCNet's is (Ke et al. 2021).
        quality: Whether the amodal mask's IoU is guessed; it multiplies the score.
        occluder: Whether there is that head.
        occluded: The same.
        occluder_weight: Of that head's loss; the amodal head's is 1.
        occluded_weight: The same.
        quality_weight: The same.
    """

    width: int
    shared_convs: int = 0
    convs: int = 2
    activation: Literal["softmax", "sigmoid"] = "softmax"
    coupled: bool = False
    quality: bool = True
    occluder: bool = True
    occluded: bool = True
    occluder_weight: float = 0.5
    occluded_weight: float = 0.5
    quality_weight: float = 1.0


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


AnyBackbone = SmallBackbone | EdgeBackbone | MmBackbone
AnyBranch = WaltBranch | MaskRcnnBranch | AsnBranch | BcnetBranch
