from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from walt_export.narrow import narrow

SIDE = 64


def grain(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(2, SIDE, SIDE)).astype(np.float32)


def graph_of(values: NDArray[np.float32]) -> onnx.ModelProto:
    """Adds a constant to its input."""
    shape = list(values.shape)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    constant = numpy_helper.from_array(values, "constant")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "constant"], ["y"])], "g", ends[:1], ends[1:], [constant]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("values", "kind", "count"),
    [
        pytest.param(np.round(grain() * 30 + 128).clip(0, 255), TensorProto.UINT8, 2 * SIDE**2, id="levels"),
        pytest.param(grain().astype(np.float16), TensorProto.FLOAT16, 2 * SIDE**2, id="halves"),
        pytest.param(np.broadcast_to(grain()[:, :, :1], grain().shape), TensorProto.FLOAT, 2 * SIDE, id="one-column"),
        pytest.param(np.broadcast_to(grain()[:1, :1], grain().shape), TensorProto.FLOAT, SIDE, id="one-row"),
        pytest.param(np.zeros((2, SIDE, SIDE)), TensorProto.UINT8, 1, id="one-number"),
    ],
)
def test_a_constant_is_stored_small_and_computes_the_same(values: NDArray[np.float32], kind: int, count: int) -> None:
    values = values.astype(np.float32)
    model = graph_of(values)
    narrow(model)
    onnx.checker.check_model(model, full_check=True)
    stored = next(one for one in model.graph.initializer if one.name == "constant.stored")
    assert stored.data_type == kind
    assert np.prod(stored.dims) == count
    found = ort.InferenceSession(model.SerializeToString()).run(None, {"x": np.zeros_like(values)})[0]
    assert np.array_equal(found, values)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(grain(), id="float32"),
        pytest.param(grain() * 1e-9, id="too-small-for-halves"),
        pytest.param(grain().astype(np.float16).astype(np.float32) * 2.0**20, id="too-large-for-halves"),
        pytest.param(np.round(grain()[:, :4, :4] * 30 + 128).clip(0, 255), id="too-few-to-matter"),
    ],
)
def test_what_cannot_be_stored_exactly_or_is_small_stays(values: NDArray[np.float32]) -> None:
    model = graph_of(values)
    before = model.SerializeToString(deterministic=True)
    narrow(model)
    assert model.SerializeToString(deterministic=True) == before
