"""Bundles with half-precision weights: small, honest about what they hold, and equal to torch with those weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from walt_export.cli import SCRIPT
from walt_export.errors import ExportError
from walt_export.half import MOST_BYTES, in_half, round_weights, rounding_figures
from walt_export.onnx import export_onnx
from walt_export.parity import TorchNetwork, check_parity

from tests.checkpoints import SIZE_WH, noise, small_net
from walt_edge.contract.bundle import MODEL, Bundle
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_train.model.waltnet import WaltNet
from walt_train.recipes import find_recipe

JUDGED: dict[str, Any] = {"size_wh": SIZE_WH, "score_threshold": 0.4}


def test_auto_takes_half_only_where_that_keeps_the_file_small() -> None:
    assert not in_half(450_000)
    assert in_half(3_600_000)
    assert not in_half(40_000_000), "no edge network, whatever its weights"


def test_rounding_leaves_the_network_alone_and_answers_nearly_as_it() -> None:
    net = small_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rounded = round_weights(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    kernels = [weight for weight in rounded.parameters() if weight.ndim > 1]
    assert all(torch.equal(weight, weight.half().float()) for weight in kernels)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in rounded.modules())
    picture = torch.from_numpy(noise(1)[None])
    torch.testing.assert_close(rounded.features(picture), net.features(picture), rtol=0.02, atol=0.02)


def test_a_weight_that_half_precision_cannot_hold_is_refused() -> None:
    net = small_net()
    with torch.no_grad():
        net.box_head.first.weight[0, 0] = 1e6
    with pytest.raises(ExportError, match=r"box_head\.first\.weight are larger than float16 holds"):
        round_weights(net)


def test_the_figures_tell_what_rounding_changed() -> None:
    network, pictures = TorchNetwork(small_net()), [noise(1, scale=2)]
    same = rounding_figures(network, network, pictures, **JUDGED)
    assert same == {"half_box_px": 0, "half_mask_iou": 1, "half_score": 0, "half_unpaired": 0}
    found = rounding_figures(network, TorchNetwork(small_net(5)), pictures, **JUDGED)
    assert found["half_unpaired"] > 0


def test_a_bundle_in_half_is_what_torch_computes_with_rounded_weights(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "half.walt"
    assert SCRIPT.main([str(checkpoint), "--fp16", "--out", str(out)]) == 0
    bundle = Bundle.read(out)
    assert {"box_px", "score", "logit", "mask_iou", "half_score", "half_unpaired"} <= bundle.manifest.parity.keys()
    model = onnx.load_from_string(bundle.files[MODEL])
    kinds = {one.data_type for one in model.graph.initializer if np.prod(one.dims) > 2048 and len(one.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}
    runtime = WaltOnnx(bundle.files[MODEL], size_wh=SIZE_WH, device="cpu", threads=1)
    parity = check_parity(TorchNetwork(round_weights(small_net())), runtime, {"a": noise(3)}, **JUDGED)
    assert parity.logit < 1e-4
    assert SCRIPT.main(["verify", str(out)]) == 0


def test_the_runtime_widens_weights_once_when_it_opens_the_file(tmp_path: Path) -> None:
    """Otherwise every picture would pay for it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    model = export_onnx(round_weights(small_net()))
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    opened = onnx.load(options.optimized_model_filepath)
    stored = {one.name for one in onnx.load_from_string(model).graph.initializer if one.name.endswith(".stored")}
    assert stored
    assert not stored & {name for node in opened.graph.node for name in node.input}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["walt_edge_small", "walt_edge_general"])
def test_an_edge_network_is_a_small_file(recipe: str) -> None:
    network = find_recipe(recipe).network
    anchors = tuple((16.0 * side, 16.0 * side) for side in range(1, network.anchors + 1))
    torch.manual_seed(0)
    net = WaltNet(msgspec.structs.replace(network, anchors_wh=anchors)).eval()
    net.input.plate.copy_(torch.randint(0, 256, net.input.plate.shape))
    assert in_half(sum(weight.numel() for weight in net.parameters()))
    assert len(export_onnx(round_weights(net))) <= MOST_BYTES
