"""The amodal operators in torch and in ONNX Runtime, from their functions' bodies, against the NumPy references."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from walt_export.ops import amodal_nms, amodal_paste, box_nms, occlusion_layers, occlusion_order
from walt_export.ops.body import BOOL, DOMAIN, FLOAT, INT64

from tests.amodal_maps import Crowd, crowd
from walt_edge.vision import amodal_ops
from walt_edge.vision.amodal import amodal_paste as reference_paste

OPSET = 20
MOST = 12
PASTED_WH = (48, 40)
SHAPES: dict[str, tuple[int, list[Any]]] = {
    "boxes": (FLOAT, ["N", 4]),
    "labels": (INT64, ["N"]),
    "pictures": (INT64, ["N"]),
    "maps": (FLOAT, ["N", 3, 28, 28]),
    "size_hw": (INT64, [2]),
}
CELLS, FIGURE = ["N", 28, 28], ["N"]
OPERATORS: dict[str, tuple[onnx.FunctionProto, tuple[tuple[int, list[Any]], ...]]] = {
    "nms": (amodal_nms.function(MOST, OPSET), ((BOOL, FIGURE),)),
    "layers": (occlusion_layers.function(OPSET), ((BOOL, CELLS), (BOOL, CELLS), (FLOAT, FIGURE), (FLOAT, FIGURE))),
    "order": (occlusion_order.function(OPSET), ((FLOAT, ["N", "N"]),)),
    "paste": (amodal_paste.function(OPSET), ((BOOL, ["N", 3, "H", "W"]),)),
}


def model_of(name: str) -> onnx.ModelProto:
    function, kinds = OPERATORS[name]
    outputs = [f"out{index}" for index in range(len(kinds))]
    graph = helper.make_graph(
        [helper.make_node(function.name, list(function.input), outputs, domain=DOMAIN)],
        name,
        [helper.make_tensor_value_info(one, *SHAPES[one]) for one in function.input],
        [helper.make_tensor_value_info(one, *kind) for one, kind in zip(outputs, kinds, strict=True)],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)


@pytest.fixture(scope="module")
def sessions() -> dict[str, onnxruntime.InferenceSession]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return {name: onnxruntime.InferenceSession(model_of(name).SerializeToString(), options) for name in OPERATORS}


def given_to(name: str, of: Crowd) -> dict[str, Any]:
    values = {"boxes": of.boxes, "labels": of.labels, "pictures": of.pictures, "maps": of.maps}
    values["size_hw"] = np.array(PASTED_WH[::-1])
    return {one: values[one] for one in OPERATORS[name][0].input}


def tensors(of: Crowd) -> tuple[torch.Tensor, ...]:
    boxes, labels, pictures, maps = map(torch.from_numpy, (of.boxes, of.labels, of.pictures, of.maps))
    return boxes, labels, pictures, maps


def in_torch(name: str, of: Crowd) -> list[torch.Tensor]:
    boxes, labels, pictures, maps = tensors(of)
    answers: dict[str, Callable[[], Any]] = {
        "nms": lambda: [amodal_nms.amodal_nms(boxes, labels, pictures, maps, MOST)],
        "layers": lambda: occlusion_layers.occlusion_layers(maps),
        "order": lambda: [occlusion_order.occlusion_order(boxes, pictures, maps)],
        "paste": lambda: [amodal_paste.amodal_paste(boxes, maps, PASTED_WH[1], PASTED_WH[0])],
    }
    return list(answers[name]())


def reference(name: str, of: Crowd) -> list[Any]:
    if name == "nms":
        return [amodal_ops.amodal_nms(of.boxes, of.labels, of.maps, of.pictures)]
    if name == "order":
        return [amodal_ops.occlusion_order(of.boxes, of.maps, of.pictures)]
    if name == "paste":
        return [reference_paste(of.boxes, of.maps, PASTED_WH)]
    found = amodal_ops.occlusion_layers(of.maps)
    return [found.visible, found.hidden, found.fractions, found.uncertainties]


@pytest.mark.parametrize("name", OPERATORS)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, MOST))
@settings(max_examples=20, deadline=None)
def test_torch_and_the_function_give_what_the_reference_gives(
    sessions: dict[str, onnxruntime.InferenceSession], name: str, seed: int, count: int
) -> None:
    of = crowd(seed, count)
    expected = reference(name, of)
    for found in (
        [value.numpy() for value in in_torch(name, of)],
        sessions[name].run(None, given_to(name, of)),
    ):
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            if one.dtype == bool:
                assert np.count_nonzero(one != other) <= 1e-4 * one.size  # a cell at one half but for rounding
            else:
                np.testing.assert_allclose(one, other, atol=2e-4)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_body_is_standard_operators_without_control_flow(name: str) -> None:
    function = OPERATORS[name][0]
    assert {node.domain for node in function.node} == {""}
    assert not {node.op_type for node in function.node} & {"Loop", "If", "Scan", "SequenceMap"}
    assert re.search(r"_v\d+(_k\d+)?$", function.name)
    onnx.checker.check_model(model_of(name), full_check=True)


@pytest.mark.parametrize("name", OPERATORS)
def test_torch_can_trace_the_operator(name: str) -> None:
    """Its fake kernel gives the shapes and types of the real one."""
    boxes, labels, pictures, maps = tensors(crowd(3, 6))
    operator, given_values = {
        "nms": (amodal_nms.amodal_nms, (boxes, labels, pictures, maps, MOST)),
        "layers": (occlusion_layers.occlusion_layers, (maps,)),
        "order": (occlusion_order.occlusion_order, (boxes, pictures, maps)),
        "paste": (amodal_paste.amodal_paste, (boxes, maps, 8, 8)),
    }[name]
    torch.library.opcheck(operator, given_values, test_utils=("test_schema", "test_faketensor"))


def test_the_longest_chain_of_suppressions_is_followed_to_its_end(
    sessions: dict[str, onnxruntime.InferenceSession],
) -> None:
    """Each is a double of the one before it: every second one stays, which is known only from the first on."""
    left = np.arange(MOST, dtype=np.float32) * 10
    boxes = np.stack([left, left * 0, left + 30, left * 0 + 30], axis=1)
    maps = np.zeros((MOST, 3, 28, 28), np.float32)
    maps[:, 0] = 1
    of = Crowd(boxes, np.ones(MOST, np.int64), np.zeros(MOST, np.int64), maps)
    expected = [index % 2 == 0 for index in range(MOST)]
    assert reference("nms", of)[0].tolist() == expected
    assert in_torch("nms", of)[0].tolist() == expected
    assert sessions["nms"].run(None, given_to("nms", of))[0].tolist() == expected


def test_box_suppression_of_a_batch_is_that_of_each_picture_and_class() -> None:
    chance = torch.Generator().manual_seed(0)
    low = torch.rand(3, 20, 2, generator=chance) * 20
    boxes = torch.cat([low, low + 5 + torch.rand(3, 20, 2, generator=chance) * 15], dim=2)
    scores = torch.rand(3, 2, 20, generator=chance)
    found = box_nms.box_nms(boxes, scores, 6, 0.2, 0.3)
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "floor"], ["kept"])],
        "nms",
        [
            helper.make_tensor_value_info("boxes", FLOAT, [3, 20, 4]),
            helper.make_tensor_value_info("scores", FLOAT, None),
        ],
        [helper.make_tensor_value_info("kept", INT64, None)],
        [
            helper.make_tensor("most", INT64, [1], [6]),
            helper.make_tensor("iou", FLOAT, [1], [0.2]),
            helper.make_tensor("floor", FLOAT, [1], [0.3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {"boxes": boxes.numpy(), "scores": scores.numpy()})
    assert found.tolist() == expected.tolist()
    assert 12 < len(found) < 3 * 2 * 6
