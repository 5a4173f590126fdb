"""Networks with another method's mask branch leave as ONNX too."""

from __future__ import annotations

import logging
import warnings

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from walt_export.onnx import OPSET, export_onnx
from walt_export.parity import TorchNetwork, check_parity

from tests.checkpoints import EVEN_LEVEL, SCORE_THRESHOLD, SIZE_WH, noise, small_net
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_train.model.branches import build_branch
from walt_train.model.branches.branch import ROI_SIDE, Branch
from walt_train.model.waltnet import BOX_SIDE, WaltNet, pool_rois
from walt_train.recipes.parts import AnyBranch, AsnBranch, BcnetBranch, MaskRcnnBranch

BRANCHES: dict[str, AnyBranch] = {
    "mask_rcnn": MaskRcnnBranch(width=6),
    "asn": AsnBranch(width=6),
    "bcnet": BcnetBranch(width=6),
}


@pytest.fixture(params=BRANCHES)
def config(request: pytest.FixtureRequest) -> AnyBranch:
    return BRANCHES[request.param]


def spread_branch(config: AnyBranch, features: Tensor, context: Tensor) -> Branch:
    """Untrained, normalised as if features of this scale had been seen, with masks neither full nor empty."""
    torch.manual_seed(1)
    branch = build_branch(config, features.shape[1]).train()
    for name, module in branch.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, nn.Conv2d) and name.endswith("out") and module.bias is not None:
            nn.init.normal_(module.weight, std=3)
    with torch.no_grad():
        branch(features, context)
    return branch.eval()


def rois(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    features, context = (torch.randn(count, 8, side, side, generator=chance) for side in (ROI_SIDE, BOX_SIDE))
    return features, context, torch.arange(count) % 2 + 1


class Masks(nn.Module):
    """From RoI features to layer maps."""

    def __init__(self, branch: Branch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, features: Tensor, context: Tensor, labels: Tensor) -> Tensor:
        return self.branch.maps(self.branch(features, context), labels).layers


def test_a_branch_answers_in_onnx_as_in_torch(config: AnyBranch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    masks = Masks(spread_branch(config, *rois(6)[:2])).eval()
    count = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            masks, rois(3), dynamic_shapes=({0: count},) * 3, opset_version=OPSET, dynamo=True, verbose=False
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    names = [entry.name for entry in session.get_inputs()]
    for number in (0, 1, 7):
        given = rois(number, seed=number)
        found = session.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})[0]
        expected = masks(*given).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert number == 0 or expected[:, 0].std() > 0.1


def net_with(config: AnyBranch) -> WaltNet:
    """The small network, which finds things in noise, with another branch."""
    net = small_net()
    net.network = msgspec.structs.replace(net.network, branch=config)
    with torch.no_grad():
        feature = net.features(torch.from_numpy(noise(0)[None]))
        boxes = net.classify(feature, net.propose(feature))[0]
        rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
        net.branch = spread_branch(config, *(pool_rois(feature, rois, side) for side in (ROI_SIDE, BOX_SIDE)))
    return net.eval()


@pytest.mark.slow
def test_a_whole_network_answers_in_onnx_as_in_torch(config: AnyBranch) -> None:
    net = net_with(config)
    runtime = WaltOnnx(export_onnx(net), size_wh=SIZE_WH, device="cpu", threads=1)
    even = np.full((SIZE_WH[1], SIZE_WH[0], 3), EVEN_LEVEL, np.uint8)
    assert len(runtime(even).scores) == 0
    maps = runtime(noise(5)).maps
    assert len(maps) >= 4
    assert maps[:, 0].std() > 0.05
    pictures = {"noise": noise(5, scale=2), "even": even}
    parity = check_parity(TorchNetwork(net), runtime, pictures, size_wh=SIZE_WH, score_threshold=SCORE_THRESHOLD)
    assert parity.logit < 1e-3
    assert parity.mask_iou == 1
