"""What a recipe says: the network and how it is trained, whole and typed."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from walt_train.recipes.parts import AnyBackbone, AnyBranch

Amp = Literal["auto", "off", "bf16"]
_ADAPTING = 0.25
"""Of a recipe's learning rate."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The network's shape; stored in every checkpoint, from which the network is built again.

    Attributes:
        input_wh: Size of the letterboxed picture, pixels; multiples of 32.
        backbone: What sees the whole picture.
        branch: What sees an object's layers: the method.
        feature_channels: Of the one feature map at stride 4 that all heads read.
        anchors_wh: Proposal shapes in pixels of the input; empty: `anchors` many are fitted to the data.
        anchors: How many to fit.
        proposal_stride: Pixels of the input between the places where objects are looked for, 4 or a multiple.
        proposals_before_nms: Best anchors that are decoded.
        proposals: Most proposals that the box head looks at.
        candidates: Most objects in a picture.
        nms_iou: Box IoU above which the lower score is dropped, loose: neighbours that overlap stay. Looser still,
            and the few places are taken by doubles of what is seen best.
        score_floor: Candidates below it are dropped.
        box_width: Of the two fully connected layers of the box head.
        box_target: Whether boxes hold the whole object, or what is seen of it.
        visible_box: Whether the box of what is seen is regressed beside it; the network then has a fifth output.
        background: Whether the network is told the camera's empty scene.
        position: Whether it is told where each pixel lies, which says much on one camera and misleads on another.
    """

    input_wh: tuple[int, int]
    backbone: AnyBackbone
    branch: AnyBranch
    feature_channels: int
    anchors_wh: tuple[tuple[float, float], ...] = ()
    anchors: int = 6
    proposal_stride: int = 4
    proposals_before_nms: int = 1000
    proposals: int = 100
    candidates: int = 30
    nms_iou: float = 0.7
    score_floor: float = 0.02
    box_width: int
    box_target: Literal["amodal", "visible"] = "amodal"
    visible_box: bool = False
    background: bool = True
    position: bool = True


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """How the network is trained.

    Attributes:
        steps: Optimiser steps; 0 where `epochs` say it.
        epochs: How often each picture is seen, instead of `steps`; 0 where those say it.
        amp: Whether layers compute in bfloat16, "auto" where the machine is faster at it; weights, boxes and losses
            stay in float32.
        batch: Pictures a step and process.
        learning_rate: Of AdamW at its peak.
        weight_decay: Of AdamW.
        warm_up_steps: Linear rise to the peak; a cosine follows.
        clip_norm: Largest norm of the gradient.
        average: Least share of the new weights in the running average that is kept, each step; more in the first
            steps, so that a short training keeps nothing of the weights that it began with.
        rois: Most mask RoIs of a picture: true boxes, moved a little.
        roi_jitter: Standard deviation of that movement, in parts of the box's sides.
        shift_chance: That a picture is moved together with its empty scene, so that the border cuts objects:
            mining takes only whole ones.
        shift: How far at most, in parts of the frame's sides.
        window_chance: That a window is cut out of a picture and its empty scene and fills the input, its sides
            running through objects; such a picture is not moved.
        window: Least and largest length of the window's sides, in parts of the frame's.
        mirror_chance: That left and right are exchanged.
        compose: What is asked of composites beside the defaults, by the name of `ComposeSettings`.
        per_epoch: Pictures composed for an epoch.
        resume_every: Steps between two resume states.
        validation: Pictures the score threshold is chosen on.
    """

    steps: int = 0
    epochs: int = 0
    amp: Amp = "auto"
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    warm_up_steps: int = 40
    clip_norm: float = 10.0
    average: float = 0.02
    rois: int = 12
    roi_jitter: float = 0.06
    shift_chance: float = 0.35
    shift: float = 0.25
    window_chance: float = 0.0
    window: tuple[float, float] = (0.5, 0.95)
    mirror_chance: float = 0.0
    compose: dict[str, str | bool | int | float] = {}
    per_epoch: int = 1000
    resume_every: int = 50
    validation: int = 60

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.epochs > 0):
            raise ValueError(f"{self.steps} steps and {self.epochs} epochs: expected one of them")

    def adapting(self) -> Training:
        """The same for a network that knows much already: at the full learning rate it would first forget it."""
        return msgspec.structs.replace(self, learning_rate=_ADAPTING * self.learning_rate)

    def in_steps(self, pictures: int, processes: int) -> Training:
        """The same with its epochs over so many pictures as steps of so many processes."""
        if self.steps:
            return self
        steps = math.ceil(self.epochs * pictures / (self.batch * processes))
        return msgspec.structs.replace(self, steps=steps, epochs=0)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration and its name.

    Attributes:
        name: It is found by.
        network: Its shape.
        training: How it is trained.
        start: A checkpoint or a bundle with whose weights it begins, `general` for those of the package, unless
            somebody says otherwise; "" begins at random.
    """

    name: str
    network: Network
    training: Training
    start: str = ""

    def with_steps(self, steps: int) -> Recipe:
        """The same, trained for so many optimiser steps instead of what it says."""
        return msgspec.structs.replace(self, training=msgspec.structs.replace(self.training, steps=steps, epochs=0))
