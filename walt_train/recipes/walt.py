"""WALT-Net's recipes: as the paper has it, and as small as a device beside a camera needs it."""

from __future__ import annotations

from typing import Literal

import msgspec

from walt_edge.packaged import GENERAL
from walt_train.recipes.parts import EdgeBackbone, MmBackbone, WaltBranch
from walt_train.recipes.recipe import Network, Recipe, Training


def walt_paper(backbone: Literal["resnet50", "swin_t"] = "swin_t", checkpoint: str = "") -> Recipe:
    """The paper's scale: 256 channels, 12 epochs, 11 pictures on each GPU, learning rate 0.001.

    Args:
        backbone: Of mmdet's.
        checkpoint: File of the backbone's weights; "" begins at random.
    """
    return Recipe(
        name="walt_paper",
        network=Network(
            input_wh=(960, 544),
            backbone=MmBackbone(kind=backbone, checkpoint=checkpoint),
            branch=WaltBranch(width=256),
            feature_channels=256,
            anchors=9,
            proposals_before_nms=1000,
            proposals=300,
            candidates=100,
            score_floor=0.01,
            box_width=1024,
            visible_box=True,
        ),
        training=Training(
            epochs=12,
            per_epoch=10_000,
            batch=11,
            learning_rate=1e-3,
            warm_up_steps=500,
            average=0.001,
            rois=24,
            window_chance=0.45,
            mirror_chance=0.5,
            resume_every=500,
            validation=200,
        ),
    )


def walt_edge_small() -> Recipe:
    """At most 8 GFLOPs with 30 candidates at 640x384, and at most 5.8 million parameters."""
    return Recipe(
        name="walt_edge_small",
        network=Network(
            input_wh=(640, 384),
            backbone=EdgeBackbone(stem=24, stages=(40, 80, 160, 256), blocks=(1, 2, 3, 3)),
            branch=WaltBranch(width=64, shared_convs=1, convs=1),
            feature_channels=64,
            anchors=9,
            proposal_stride=8,
            proposals_before_nms=600,
            box_width=320,
            visible_box=True,
        ),
        training=Training(
            epochs=24,
            per_epoch=4000,
            batch=16,
            learning_rate=2e-3,
            warm_up_steps=300,
            average=0.002,
            rois=16,
            window_chance=0.45,
            mirror_chance=0.5,
            resume_every=200,
            validation=200,
        ),
    )


def walt_edge_general() -> Recipe:
    """The edge network for any camera, within the same budget: it is shown the picture alone.

    Neither the empty scene, which a new camera does not have yet, nor the place of a pixel: the height of the horizon
    and the size of things at each row belong to one camera, and of the few that train it the network would learn
    them by heart. Windows are cut more often than for one camera: things are as large as the camera is near. A crowd
    may hold twice as many objects; each beyond 30 costs 0.08 GFLOPs more.
    """
    small = walt_edge_small()
    crowd = {"proposals_before_nms": 1000, "proposals": 150, "candidates": 60}
    network = msgspec.structs.replace(small.network, background=False, position=False, **crowd)
    training = msgspec.structs.replace(small.training, window_chance=0.6, window=(0.5, 1.0))
    return Recipe(name="walt_edge_general", network=network, training=training)


def walt_edge_site() -> Recipe:
    """`walt_edge_general` for cameras that stand still: of each it is shown what differs from its empty scene.

    Like that one it learns many cameras; on a new one it needs the empty scene and nothing else.
    """
    general = walt_edge_general()
    network = msgspec.structs.replace(general.network, background=True)
    return msgspec.structs.replace(general, name="walt_edge_site", network=network)


def walt_edge_camera() -> Recipe:
    """`walt_edge_small` for one camera in 40 minutes on a core: it begins with what the general weights know."""
    small = walt_edge_small()
    training = msgspec.structs.replace(
        small.training, epochs=0, steps=1200, batch=8, warm_up_steps=100, average=0.005, resume_every=100
    )
    return msgspec.structs.replace(small, name="walt_edge_camera", training=training, start=GENERAL)
