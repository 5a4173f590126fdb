"""A small network with weights that find something in noise and nothing in an even picture, and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from walt_train.engine.checkpoint import CheckpointManifest, write_checkpoint
from walt_train.engine.segments import Segment
from walt_train.model.branches.branch import ROI_SIDE
from walt_train.model.branches.walt import MaskHead, WaltHeads
from walt_train.model.cost import count_parameters
from walt_train.model.waltnet import WaltNet, pool_rois
from walt_train.recipes.demo import demo
from walt_train.recipes.parts import SmallBackbone, WaltBranch
from walt_train.recipes.recipe import Recipe

SIZE_WH = (128, 96)
SCORE_THRESHOLD = 0.4
EVEN_LEVEL = 114


def small_recipe() -> Recipe:
    """The demo's recipe with fewer of everything."""
    recipe = demo()
    network = msgspec.structs.replace(
        recipe.network,
        input_wh=SIZE_WH,
        backbone=SmallBackbone(stem=8, stages=(8, 8, 16, 16), blocks=(1, 1, 1, 1)),
        branch=WaltBranch(width=8, quality=False),
        feature_channels=8,
        anchors_wh=((10.0, 24.0), (30.0, 16.0), (44.0, 30.0)),
        box_width=16,
    )
    return msgspec.structs.replace(recipe, network=network)


def small_net(seed: int = 4) -> WaltNet:
    """Untrained, in eval mode: in a picture of the empty scene's grey all features are zero and nothing is found."""
    torch.manual_seed(seed)
    net = WaltNet(small_recipe().network).eval()
    with torch.no_grad():
        stem = net.backbone.bottom_up.stem[0]
        gain = net.backbone.top_down.out[1]
        assert isinstance(stem, nn.Conv2d)
        assert isinstance(gain, nn.BatchNorm2d)
        gain.weight.mul_(30)
        stem.weight[:, 6:] = 0  # blind to where a pixel lies
        for layer in (net.box_head.first, net.box_head.second):
            layer.bias.zero_()
        net.box_head.classes.bias.copy_(torch.tensor([-2.0, -2.0, 4.0]))
        person, vehicle = net.box_head.classes.weight[0], net.box_head.classes.weight[1]
        person.normal_(0, 6)
        vehicle.copy_(person + torch.randn_like(person))
        net.box_head.deltas.weight.normal_(0, 1)
        _balance_masks(net)
    return net


def _balance_masks(net: WaltNet) -> None:
    """Moves what the mask heads find likely to where masks are neither full nor empty."""
    feature = net.features(torch.from_numpy(noise(0)[None]))
    boxes = net.classify(feature, net.propose(feature))[0]
    pooled = pool_rois(feature, torch.nn.functional.pad(boxes, (1, 0)), ROI_SIDE)
    shares = torch.tensor([[1.0, 3.0, 3.0, 0.0], [4.8, 3.0, 3.0, 0.0], [4.5, 3.0, 3.0, 0.0]])
    assert isinstance(net.branch, WaltHeads)
    for head, likely in zip(net.branch.heads.values(), shares, strict=True):
        assert isinstance(head, MaskHead)
        head.classes.weight.normal_(0, 8)
        bias = head.classes.bias
        assert bias is not None
        bias.zero_()
        bias.copy_(likely - head(net.branch.trunk(pooled))[1].mean(dim=(0, 2, 3)))


def noise(seed: int, scale: int = 1) -> NDArray[np.uint8]:
    """A picture in which the network finds things, `scale` times as large as its input: (H, W, 3)."""
    grain = np.random.default_rng(seed).integers(0, 256, (SIZE_WH[1], SIZE_WH[0], 3), dtype=np.uint8)
    return grain.repeat(scale, axis=0).repeat(scale, axis=1)


def write_small_checkpoint(folder: Path, *, golden: int = 2) -> Path:
    """Writes `checkpoint.pt` and its golden pictures; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    net = small_net()
    manifest = CheckpointManifest(
        recipe=small_recipe(),
        seed=7,
        data_sha256="d" * 64,
        data="clipart",
        classes=["person", "vehicle"],
        size_wh=SIZE_WH,
        parameters=count_parameters(net),
        gflops=0.05,
        score_threshold=SCORE_THRESHOLD,
        validation={},
        processes=(Segment(0, 1),),
        walt_version="0.1.0",
        torch_version=str(torch.__version__),
    )
    write_checkpoint(folder, net.state_dict(), manifest)
    if golden:
        (folder / "golden").mkdir(exist_ok=True)
    for index in range(golden):
        cv2.imwrite(str(folder / "golden" / f"{index}.png"), noise(index, scale=2))
    return folder
