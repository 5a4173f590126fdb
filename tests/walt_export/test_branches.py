"""Every kind of WALT-Net is exported and answers as torch does."""

from __future__ import annotations

import msgspec
import numpy as np
import onnxruntime as ort
import pytest
import torch
from walt_export.onnx import export_onnx
from walt_export.parity import TorchNetwork, check_parity

from tests.checkpoints import SIZE_WH, noise, small_recipe
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_edge.vision.amodal_ops import amodal_nms
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import EdgeBackbone, MmBackbone, Network, WaltBranch

THRESHOLD = 0.02


def scattered(network: Network) -> WaltNet:
    """Untrained, with so much spread in what it finds that candidates differ by more than rounding."""
    torch.manual_seed(3)
    net = WaltNet(msgspec.structs.replace(network, score_floor=0.01, candidates=8)).train()
    with torch.no_grad():
        for seed in range(4):
            net.features(torch.from_numpy(np.stack([noise(seed), noise(seed + 10)])))
        net.box_head.classes.weight.normal_(0, 1)
        net.box_head.deltas.weight.normal_(0, 0.5)
    return net.eval()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"branch": WaltBranch(width=8, activation="sigmoid", coupled=True), "visible_box": True}, id="all-options"
        ),
        pytest.param(
            {"branch": WaltBranch(width=8, activation="softmax", coupled=True)},
            id="softmax-coupled",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"branch": WaltBranch(width=8, occluder=False, occluded=False, quality=False)},
            id="amodal-alone",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                "branch": WaltBranch(width=8, shared_convs=1, convs=1),
                "backbone": EdgeBackbone(stem=4, stages=(4, 8, 8, 16), blocks=(1, 1, 2, 1)),
                "proposal_stride": 8,
            },
            id="edge",
            marks=pytest.mark.slow,
        ),
        pytest.param({"backbone": MmBackbone(kind="resnet50")}, id="resnet50", marks=pytest.mark.slow),
        pytest.param({"backbone": MmBackbone(kind="swin_t")}, id="swin_t", marks=pytest.mark.slow),
    ],
)
def test_every_kind_is_exported_and_answers_as_torch_does(changes: dict[str, object]) -> None:
    net = scattered(msgspec.structs.replace(small_recipe().network, **changes))
    model = export_onnx(net)
    runtime = WaltOnnx(model, size_wh=SIZE_WH, device="cpu", threads=1)
    pictures = [noise(5), noise(6, scale=2)]
    found = TorchNetwork(net)(pictures[0])
    assert len(found.scores) > 2
    assert (np.diff(found.scores) <= 0).all()
    named = {str(index): picture for index, picture in enumerate(pictures)}
    parity = check_parity(TorchNetwork(net), runtime, named, size_wh=SIZE_WH, score_threshold=THRESHOLD)
    assert parity.logit < 1e-3

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert ("visible_boxes" in names) == net.network.visible_box
    if net.network.visible_box:
        visible = session.run(["visible_boxes"], {"image": pictures[0][None]})[0]
        boxes, _, labels, maps, shown = (part.numpy() for part in net.predict(torch.from_numpy(pictures[0][None])))
        np.testing.assert_allclose(visible, shown[amodal_nms(boxes, labels, maps)], atol=0.05)
