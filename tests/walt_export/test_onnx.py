from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from walt_export.errors import ExportError
from walt_export.onnx import OPSET, OPSETS, GraphOptions, export_onnx
from walt_export.parity import TorchNetwork

from tests.checkpoints import EVEN_LEVEL, SIZE_WH, noise, small_net
from tests.material import ROOT
from walt_edge.runtimes.walt_onnx import WaltOnnx
from walt_edge.vision.amodal import amodal_paste
from walt_edge.vision.amodal_ops import occlusion_layers, occlusion_order


@pytest.fixture(scope="module")
def runtime(model: bytes) -> WaltOnnx:
    return WaltOnnx(model, size_wh=SIZE_WH, device="cpu", threads=1)


def test_inputs_and_outputs_are_as_written_down(model: bytes) -> None:
    graph = onnx.load_from_string(model).graph

    def shapes(entries: object) -> dict[str, tuple[object, ...]]:
        return {
            entry.name: tuple(side.dim_param or side.dim_value for side in entry.type.tensor_type.shape.dim)
            for entry in entries  # type: ignore[attr-defined]
        }

    assert shapes(graph.input) == {"image": (1, SIZE_WH[1], SIZE_WH[0], 3)}
    assert shapes(graph.output) == {
        "boxes": ("N", 4),
        "scores": ("N",),
        "labels": ("N",),
        "maps": ("N", 3, 28, 28),
        "fractions": ("N",),
        "uncertainties": ("N",),
        "order": ("N", "N"),
    }
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.output[2].type.tensor_type.elem_type == onnx.TensorProto.INT64


def test_any_runtime_has_the_operators(model: bytes) -> None:
    loaded = onnx.load_from_string(model)
    assert {(entry.domain, entry.version) for entry in loaded.opset_import} == {("", OPSET), ("walt", 1)}
    ours = [node.op_type for node in loaded.graph.node if node.domain]
    assert ours == ["AmodalNMS_v2_k30", "OcclusionLayers_v1", "OcclusionOrder_v1"]
    assert sorted(function.name for function in loaded.functions) == ours
    operators = {node.op_type for node in loaded.graph.node}
    assert {"NonMaxSuppression", "RoiAlign", "TopK"} <= operators


def test_nothing_tells_where_it_was_made(model: bytes) -> None:
    for trace in (b".py", b"stack_trace", str(ROOT).encode(), b"site-packages"):
        assert trace not in model


def test_the_same_weights_give_the_same_bytes_and_stay_as_they_are(model: bytes) -> None:
    net = small_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert export_onnx(net) == model
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_picture_in_which_nothing_is_gives_nothing(runtime: WaltOnnx) -> None:
    found = runtime(np.full((SIZE_WH[1], SIZE_WH[0], 3), EVEN_LEVEL, np.uint8))
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)
    assert found.maps.shape == (0, 3, 28, 28)


def test_what_comes_out_keeps_the_signature(runtime: WaltOnnx) -> None:
    found = runtime(noise(1))
    count = len(found.scores)
    assert 0 < count <= 30
    assert [value.dtype for value in (found.boxes_xyxy, found.scores, found.labels, found.maps)] == [
        np.float32,
        np.float32,
        np.int64,
        np.float32,
    ]
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.labels.tolist()) <= {1, 2}
    assert found.maps.min() >= 0
    assert found.maps.max() <= 1
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= np.array(SIZE_WH * 2)).all()


def test_the_bodies_of_the_functions_are_what_runs(model: bytes, tmp_path: Path) -> None:
    """ONNX Runtime would take a kernel of that name silently: its profile shows that there is none."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, {"image": noise(1)[None]})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event["args"]["op_name"] for event in events if "op_name" in event.get("args", {})]
    assert {"RoiAlign", "ScatterND"} <= set(ran)
    assert not [name for name in ran if re.search(r"_v\d", name)]


def test_what_is_given_beside_is_what_the_references_give(model: bytes) -> None:
    session = onnxruntime.InferenceSession(model)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"image": noise(1)[None]}), strict=True))
    layers = occlusion_layers(found["maps"])
    np.testing.assert_allclose(found["fractions"], layers.fractions, atol=1e-5)
    np.testing.assert_allclose(found["uncertainties"], layers.uncertainties, atol=1e-5)
    np.testing.assert_allclose(found["order"], occlusion_order(found["boxes"], found["maps"]), atol=1e-4)
    assert found["order"].max() > 0.5


def check_batch(options: GraphOptions, counts: tuple[int, ...]) -> None:
    net = small_net()
    session = onnxruntime.InferenceSession(export_onnx(net, options))
    names = [output.name for output in session.get_outputs()]
    even = np.full((SIZE_WH[1], SIZE_WH[0], 3), EVEN_LEVEL, np.uint8)
    pictures = [noise(1), even, noise(2)]
    expected = [TorchNetwork(net)(picture) for picture in pictures]
    for count in counts:
        found = dict(zip(names, session.run(None, {"image": np.stack(pictures[:count])}), strict=True))
        assert (np.diff(found["pictures"]) >= 0).all()
        for index, one in enumerate(expected[:count]):
            own = found["pictures"] == index
            np.testing.assert_allclose(found["boxes"][own], one.boxes_xyxy, atol=1e-3)
            np.testing.assert_allclose(found["scores"][own], one.scores, atol=1e-5)
            assert found["labels"][own].tolist() == one.labels.tolist()
            np.testing.assert_allclose(found["maps"][own], one.maps, atol=1e-4)
        different = found["pictures"][:, None] != found["pictures"]
        assert (found["order"][different] == 0).all()
        if options.paste:
            pasted = amodal_paste(found["boxes"], found["maps"], SIZE_WH)
            assert np.count_nonzero(found["masks"] != pasted) <= 1e-4 * pasted.size


def test_any_number_of_pictures_at_once_and_pasted_masks() -> None:
    check_batch(GraphOptions(batch=True, paste=True, opset=OPSETS[0]), (1, 2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("opset", OPSETS[1:])
def test_every_operator_set_answers_alike(opset: int) -> None:
    check_batch(GraphOptions(batch=True, opset=opset), (3,))


class _NoSuchOperator(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = torch.special.bessel_j0(x)
        return seen


def test_an_operator_that_onnx_lacks_is_one_clear_line() -> None:
    net = small_net()
    net.backbone.top_down.out = nn.Sequential(net.backbone.top_down.out, _NoSuchOperator())
    with pytest.raises(ExportError, match=r"has no ONNX form.*bessel_j0") as caught:
        export_onnx(net)
    assert "\n" not in str(caught.value)


def test_the_command_offers_what_is_known_to_work() -> None:
    from walt_export.commands.bundle import _OPSETS

    assert tuple(OPSETS) == _OPSETS
    assert OPSET in OPSETS
