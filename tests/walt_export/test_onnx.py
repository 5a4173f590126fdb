from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from walt_export.onnx import OPSET, export_onnx

from tests.checkpoints import EVEN_LEVEL, SIZE_WH, noise, small_net
from tests.material import ROOT
from walt_edge.runtimes.walt_onnx import WaltOnnx


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
    }
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.output[2].type.tensor_type.elem_type == onnx.TensorProto.INT64


def test_any_runtime_has_the_operators(model: bytes) -> None:
    loaded = onnx.load_from_string(model)
    assert [(entry.domain, entry.version) for entry in loaded.opset_import] == [("", OPSET)]
    assert {node.domain for node in loaded.graph.node} == {""}
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
