from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from walt_export.errors import ExportError
from walt_export.tensorrt.artefact import tensorrt_model

from tests.checkpoints import EVEN_LEVEL, SIZE_WH, noise
from tests.walt_export.tensorrt.graphs import graph_model, value
from tests.walt_export.tensorrt.test_artefact import answers

node = helper.make_node
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
EVEN = np.full((SIZE_WH[1], SIZE_WH[0], 3), EVEN_LEVEL, np.uint8)


def types_of(model: bytes) -> dict[str, tuple[str, set[int]]]:
    """By node: its operator and the types of what it makes."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model), strict_mode=True).graph
    entries = [*graph.value_info, *graph.output]
    types = {entry.name: entry.type.tensor_type.elem_type for entry in entries}
    return {one.name: (one.op_type, {types[name] for name in one.output if name}) for one in graph.node}


def test_learned_layers_are_in_halves_and_boxes_are_not(model: bytes) -> None:
    ready = tensorrt_model(model, halves=True)
    by_operator: dict[str, set[int]] = {}
    for operator, types in types_of(ready).values():
        by_operator[operator] = by_operator.get(operator, set()) | types
    for operator in ("Conv", "Gemm", "Resize"):
        assert by_operator[operator] == {HALF}, operator
    for operator in ("Exp", "Div", "Softmax", "RoiAlign", "MatMul", "Sub", "Mul", "Clip"):
        assert by_operator[operator] <= {FLOAT, TensorProto.INT64}, operator
    graph = onnx.load_from_string(ready).graph
    assert len(ready) < len(tensorrt_model(model))
    assert {output.type.tensor_type.elem_type for output in graph.output} == {FLOAT, TensorProto.INT64}


def test_halves_find_nearly_the_same(model: bytes) -> None:
    ready = tensorrt_model(model, halves=True)
    before, after = (answers(one, image=noise(1)[None]) for one in (model, ready))
    apart = np.abs(before["boxes"][:, None] - after["boxes"]).max(axis=2)
    alike = apart.min(axis=1) < 0.5
    assert alike.sum() > 5
    assert alike.mean() > 0.6  # of an untrained network, whose scores lie close together
    assert np.abs(before["maps"][alike] - after["maps"][apart.argmin(axis=1)[alike]]).mean() < 0.02


def test_halves_find_nothing_where_nothing_is(model: bytes) -> None:
    found = answers(tensorrt_model(model, halves=True), image=EVEN[None])
    assert found["boxes"].shape == (0, 4)
    assert found["boxes"].dtype == np.float32


def chain(kernel: NDArray[np.float32]) -> bytes:
    nodes = [
        node("Conv", ["x", "k"], ["a"], "first"),
        node("Relu", ["a"], ["b"], "keep"),
        node("Add", ["b", "a"], ["c"], "sum"),
        node("Mul", ["c", "c"], ["area"], "square"),
        node("Relu", ["area"], ["y"], "reckon"),
    ]
    ends = [value("x", shape=(1, 1, 2, 2))], [value("y", shape=(1, 1, 2, 2))]
    data: bytes = graph_model(nodes, *ends, constants=[numpy_helper.from_array(kernel, "k")]).SerializeToString()
    return data


def test_what_lies_between_goes_along_and_what_follows_does_not() -> None:
    model = chain(np.full((1, 1, 1, 1), 300, np.float32))
    ready = tensorrt_model(model, halves=True)
    kinds = {name: types for name, (_, types) in types_of(ready).items()}
    assert [kinds[name] for name in ("first", "keep", "sum")] == [{HALF}] * 3
    assert [kinds[name] for name in ("square", "reckon")] == [{FLOAT}] * 2
    casts = [operator for operator, _ in types_of(ready).values()].count("Cast")
    assert casts == 2  # into halves and out of them
    picture = np.ones((1, 1, 2, 2), np.float32)
    assert answers(ready, x=picture)["y"].max() == 600**2  # more than float16 holds


def test_a_weight_that_halves_do_not_hold_is_refused() -> None:
    with pytest.raises(ExportError, match="the weights k are larger than float16 holds: export with --fp32"):
        tensorrt_model(chain(np.full((1, 1, 1, 1), 1e5, np.float32)), halves=True)
