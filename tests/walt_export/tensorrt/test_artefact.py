from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from walt_export.errors import ExportError
from walt_export.narrow import narrow
from walt_export.onnx import GraphOptions, export_onnx
from walt_export.quantize.graph import activations_of, rewrite, widen
from walt_export.quantize.ranges import measure
from walt_export.tensorrt.artefact import tensorrt_model

from tests.checkpoints import EVEN_LEVEL, SIZE_WH, noise, small_net
from tests.walt_export.tensorrt.graphs import OPSET, graph_model, value

node = helper.make_node
EVEN = np.full((SIZE_WH[1], SIZE_WH[0], 3), EVEN_LEVEL, np.uint8)


def answers(model: bytes, **fed: NDArray[Any]) -> dict[str, NDArray[Any]]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, fed), strict=True))


def assert_same_answers(one: bytes, other: bytes, **fed: NDArray[Any]) -> dict[str, NDArray[Any]]:
    before, after = answers(one, **fed), answers(other, **fed)
    assert before.keys() == after.keys()
    for name, expected in before.items():
        assert after[name].dtype == expected.dtype
        assert after[name].shape == expected.shape
        np.testing.assert_allclose(after[name], expected, rtol=0, atol=1e-5, err_msg=name)
    return after


@pytest.fixture(scope="module")
def ready(model: bytes) -> bytes:
    return tensorrt_model(model)


def operators(model: bytes) -> list[str]:
    return [one.op_type for one in onnx.load_from_string(model).graph.node]


def test_it_answers_as_the_model_it_came_from(model: bytes, ready: bytes) -> None:
    found = [assert_same_answers(model, ready, image=noise(seed)[None]) for seed in (1, 2)]
    assert all(len(one["scores"]) > 0 for one in found)


def test_it_answers_so_where_nothing_is(model: bytes, ready: bytes) -> None:
    found = assert_same_answers(model, ready, image=EVEN[None])
    assert found["boxes"].shape == (0, 4)
    assert found["maps"].shape == (0, 3, 28, 28)


def test_inputs_and_outputs_stay(model: bytes, ready: bytes) -> None:
    before, after = (onnx.load_from_string(one).graph for one in (model, ready))
    assert list(after.input) == list(before.input)
    assert list(after.output) == list(before.output)


def test_the_same_bytes_come_of_the_same_model(model: bytes, ready: bytes) -> None:
    assert tensorrt_model(model) == ready
    assert tensorrt_model(ready) == ready


def test_standard_operators_alone_are_in_it_and_every_node_has_a_name(ready: bytes) -> None:
    loaded = onnx.load_from_string(ready)
    assert not loaded.functions
    assert [entry.domain for entry in loaded.opset_import] == [""]
    names = [one.name for one in loaded.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_constants_are_whole_and_none_is_left_over(ready: bytes) -> None:
    graph = onnx.load_from_string(ready).graph
    kinds = {one.data_type for one in graph.initializer}
    assert kinds <= {TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
    read = {name for one in graph.node for name in one.input}
    assert {one.name for one in graph.initializer} <= read


def test_kernels_are_constants(ready: bytes) -> None:
    graph = onnx.load_from_string(ready).graph
    constants = {one.name for one in graph.initializer}
    kernels = [one.input[1] for one in graph.node if one.op_type in ("Conv", "ConvTranspose")]
    assert len(kernels) > 10
    assert set(kernels) <= constants


def test_the_picture_is_cast_first_thing(ready: bytes) -> None:
    graph = onnx.load_from_string(ready).graph
    readers = [one for one in graph.node if "image" in one.input]
    assert [one.op_type for one in readers] == ["Cast"]


def test_functions_are_inlined() -> None:
    body = [node("Mul", ["x", "x"], ["s"], "square"), node("Relu", ["s"], ["y"], "keep")]
    function = helper.make_function("walt", "Square_v1", ["x"], ["y"], body, [helper.make_opsetid("", OPSET)])
    calls = [
        node("Square_v1", ["x"], ["m"], "one", domain="walt"),
        node("Square_v1", ["m"], ["y"], "two", domain="walt"),
    ]
    model = graph_model(calls, [value("x")], [value("y")], functions=[function]).SerializeToString()
    ready = tensorrt_model(model)
    assert operators(ready) == ["Mul", "Relu"] * 2
    assert_same_answers(model, ready, x=np.array([1, -2, 3, 0], np.float32))


def test_what_a_function_must_not_hold_is_named_with_the_function() -> None:
    body = [node("Hardmax", ["x"], ["y"], "hard")]
    function = helper.make_function("walt", "Bad_v1", ["x"], ["y"], body, [helper.make_opsetid("", OPSET)])
    call = node("Bad_v1", ["x"], ["y"], "call", domain="walt")
    model = graph_model([call], [value("x")], [value("y")], functions=[function])
    with pytest.raises(ExportError, match=r"hard \(Hardmax in function walt::Bad_v1\)"):
        tensorrt_model(model.SerializeToString())


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param(np.arange(2048, dtype=np.float32).reshape(2, 1024) % 256, id="levels"),
        pytest.param(np.linspace(-1, 1, 2048, dtype=np.float16).astype(np.float32).reshape(2, 1024), id="halves"),
        pytest.param(np.full((2, 1024), 7, np.float32), id="one-number"),
    ],
)
def test_constants_that_were_stored_narrow_are_as_they_were(weights: NDArray[np.float32]) -> None:
    constant = numpy_helper.from_array(weights, "w")
    shape = (2, 1024)
    model = graph_model(
        [node("Add", ["x", "w"], ["y"])], [value("x", shape=shape)], [value("y", shape=shape)], constants=[constant]
    )
    narrow(model)
    assert len(model.graph.node) > 1
    ready = tensorrt_model(model.SerializeToString())
    (stored,) = onnx.load_from_string(ready).graph.initializer
    assert operators(ready) == ["Add"]
    assert np.array_equal(numpy_helper.to_array(stored), weights)


def test_a_picture_that_is_moved_before_it_is_cast_is_cast_before_it_is_moved() -> None:
    nodes = [
        node("Transpose", ["image"], ["t"], "turn", perm=[2, 0, 1]),
        node("Unsqueeze", ["t", "zero"], ["u"], "wrap"),
        node("Cast", ["u"], ["y"], "cast", to=TensorProto.FLOAT),
    ]
    zero = numpy_helper.from_array(np.zeros(1, np.int64), "zero")
    inputs = [value("image", TensorProto.UINT8, (4, 5, 3))]
    model = graph_model(nodes, inputs, [value("y", shape=(1, 3, 4, 5))], constants=[zero]).SerializeToString()
    ready = tensorrt_model(model)
    assert operators(ready)[0] == "Cast"
    assert_same_answers(model, ready, image=np.arange(60, dtype=np.uint8).reshape(4, 5, 3))


def test_arithmetic_in_uint8_is_not_moved_but_refused() -> None:
    nodes = [
        node("Transpose", ["image"], ["t"], "turn"),
        node("Add", ["t", "t"], ["a"], "wraps_around"),
        node("Cast", ["a"], ["y"], "cast", to=TensorProto.FLOAT),
    ]
    model = graph_model(nodes, [value("image", TensorProto.UINT8, (4, 5))], [value("y", shape=(5, 4))])
    with pytest.raises(ExportError, match=r"turn \(Transpose\).*also wraps_around \(Add\)"):
        tensorrt_model(model.SerializeToString())


def test_nonzero_is_asked_of_floats() -> None:
    nodes = [node("Greater", ["x", "x0"], ["c"]), node("NonZero", ["c"], ["y"])]
    constant = numpy_helper.from_array(np.zeros(1, np.float32), "x0")
    outputs = [value("y", TensorProto.INT64, (1, "n"))]
    model = graph_model(nodes, [value("x")], outputs, constants=[constant]).SerializeToString()
    ready = tensorrt_model(model)
    assert operators(ready) == ["Greater", "Cast", "NonZero"]
    assert_same_answers(model, ready, x=np.array([1, 0, -1, 2], np.float32))
    assert_same_answers(model, ready, x=np.zeros(4, np.float32))


def test_booleans_are_compared_by_xor() -> None:
    nodes = [node("Equal", ["a", "b"], ["e"], "alike"), node("Cast", ["e"], ["y"], to=TensorProto.FLOAT)]
    inputs = [value(name, TensorProto.BOOL) for name in ("a", "b")]
    model = graph_model(nodes, inputs, [value("y")]).SerializeToString()
    ready = tensorrt_model(model)
    assert operators(ready) == ["Xor", "Not", "Cast"]
    assert_same_answers(model, ready, a=np.array([0, 0, 1, 1], bool), b=np.array([0, 1, 0, 1], bool))


def test_several_pictures_at_once() -> None:
    model = export_onnx(small_net(), GraphOptions(batch=True))
    ready = tensorrt_model(model)
    found = assert_same_answers(model, ready, image=np.stack([noise(1), EVEN, noise(2)]))
    assert set(found["pictures"].tolist()) == {0, 2}
    assert len(assert_same_answers(model, ready, image=EVEN[None])["pictures"]) == 0


def test_what_was_quantised_for_tensorrt_is_taken(model: bytes) -> None:
    wide = onnx.load_from_string(model)
    widen(wide)
    seen = measure(wide, activations_of(wide), [noise(20), noise(21)])
    quantised = rewrite(wide, seen, target="tensorrt")
    ready = tensorrt_model(quantised)
    assert operators(ready).count("QuantizeLinear") > 10
    assert len(assert_same_answers(quantised, ready, image=noise(1)[None])["scores"]) > 0
    kernels = {
        one.name for one in onnx.load_from_string(ready).graph.initializer if one.data_type == TensorProto.INT8
    }
    assert len(kernels) > 10


def test_what_was_quantised_for_onnx_runtime_is_refused(model: bytes) -> None:
    wide = onnx.load_from_string(model)
    widen(wide)
    seen = measure(wide, activations_of(wide), [noise(20), noise(21)])
    with pytest.raises(ExportError, match="quantise symmetrically, to int8 with zero points of 0"):
        tensorrt_model(rewrite(wide, seen, target="onnxruntime"))


def quantised_model() -> bytes:
    """A convolution with int8 kernel and int32 bias, as ONNX Runtime's static quantisation writes it."""
    random = np.random.default_rng(0)
    constants: dict[str, NDArray[Any]] = {
        "s": np.array(0.05, np.float32),
        "z": np.array(0, np.int8),
        "w8": random.integers(-127, 128, (2, 3, 1, 1)).astype(np.int8),
        "ws": np.array([0.01, 0.02], np.float32),
        "wz": np.zeros(2, np.int8),
        "b32": np.array([100, -200], np.int32),
        "bs": np.array([0.0005, 0.001], np.float32),
        "bz": np.zeros(2, np.int32),
    }
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], axis=0),
        node("DequantizeLinear", ["b32", "bs", "bz"], ["b"], axis=0),
        node("Conv", ["d", "w", "b"], ["y"]),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    ends = [value("x", shape=(1, 3, 4, 4))], [value("y", shape=(1, 2, 4, 4))]
    model: bytes = graph_model(nodes, *ends, constants=initializers).SerializeToString()
    return model


def test_biases_are_floats_and_kernels_stay_int8() -> None:
    model = quantised_model()
    ready = tensorrt_model(model)
    assert operators(ready) == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv"]
    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(ready).graph.initializer}
    np.testing.assert_allclose(stored["b"], [0.05, -0.2], rtol=1e-6)
    assert stored["w8"].dtype == np.int8
    grid = np.random.default_rng(1).integers(-60, 60, (1, 3, 4, 4)).astype(np.float32) * 0.05
    assert_same_answers(model, ready, x=grid)


@pytest.mark.parametrize("data", [b"not a model", b"\x08"])
def test_what_is_no_model_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ExportError, match="not an ONNX file") as caught:
        tensorrt_model(data)
    assert "\n" not in str(caught.value)
