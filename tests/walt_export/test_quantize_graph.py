"""The graph that comes out: what is in integers for whom, what is not, and that any runtime reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from walt_export.narrow import narrow
from walt_export.quantize.graph import Target, activations_of, rewrite, widen
from walt_export.quantize.layers import LAYERS
from walt_export.quantize.ranges import Activations, measure

from tests.checkpoints import SIZE_WH, noise
from walt_edge.runtimes.walt_onnx import WaltOnnx

GEOMETRY = {"Sub", "Mul", "Div", "Exp", "Clip", "Max", "Min", "NonMaxSuppression", "TopK", "GatherND", "RoiAlign"}
TARGETS: tuple[Target, ...] = ("onnxruntime", "tensorrt")


@dataclass(frozen=True)
class Source:
    """A network before, and what its tensors hold."""

    stored: bytes
    model: onnx.ModelProto
    seen: dict[str, Activations]

    def graph(self, target: Target, in_float: tuple[str, ...] = ()) -> onnx.ModelProto:
        return onnx.load_from_string(rewrite(self.model, self.seen, target=target, in_float=in_float))


@pytest.fixture(scope="module")
def source(model: bytes) -> Source:
    loaded = onnx.load_from_string(model)
    widen(loaded)
    frames = [noise(seed) for seed in range(20, 22)]
    return Source(model, loaded, measure(loaded, activations_of(loaded), frames))


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def made_by(model: onnx.ModelProto, kind: str) -> set[str]:
    return {name for node in model.graph.node if node.op_type == kind for name in node.output}


def test_widening_changes_nothing_that_is_computed(source: Source) -> None:
    runtimes = [
        WaltOnnx(data, size_wh=SIZE_WH, device="cpu", threads=1)
        for data in (source.stored, source.model.SerializeToString())
    ]
    one, other = (runtime(noise(3)) for runtime in runtimes)
    assert len(one.scores) > 2
    np.testing.assert_array_equal(one.maps, other.maps)
    assert not any(
        node.op_type in ("Cast", "Expand") and node.input[0].endswith(".stored") for node in source.model.graph.node
    )


@pytest.mark.parametrize("target", TARGETS)
def test_what_comes_out_is_valid_and_keeps_functions_signature_and_operators(source: Source, target: Target) -> None:
    found = source.graph(target)
    onnx.checker.check_model(found, full_check=True)
    assert found.functions == source.model.functions
    assert found.opset_import == source.model.opset_import
    assert found.graph.input == source.model.graph.input
    assert found.graph.output == source.model.graph.output
    assert found.producer_name == source.model.producer_name


def test_a_function_of_our_own_survives(source: Source) -> None:
    """Also one that the exporter did not write, around a tensor between layers."""
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    twice = onnx.parser.parse_function(
        '<domain: "local", opset_import: ["" : 20]> Twice (x) => (y) { y = Add (x, x) }'
    )
    model.functions.append(twice)
    model.opset_import.append(onnx.helper.make_opsetid("local", 1))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "Twice", "local"
    seen = measure(model, activations_of(model), [noise(20)])
    found = onnx.load_from_string(rewrite(model, seen, target="onnxruntime"))
    assert found.functions[-1] == twice
    assert [node.op_type for node in found.graph.node if node.domain == "local"] == ["Twice"]
    assert WaltOnnx(found.SerializeToString(), size_wh=SIZE_WH, device="cpu", threads=1)(noise(3)).scores.size


def test_boxes_and_suppression_stay_in_float(source: Source) -> None:
    found = source.graph("onnxruntime")
    whole = made_by(found, "DequantizeLinear")
    layers = [node for node in found.graph.node if node.op_type in LAYERS]
    assert len(layers) > 15
    assert all(set(node.input) <= whole for node in layers if node.op_type != "MatMul")
    kinds = {node.op_type for node in found.graph.node if not node.domain}
    assert kinds >= {"Exp", "TopK", "RoiAlign", "GatherND"}
    quantised = {name for node in found.graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]}
    between = {
        name for node in found.graph.node if node.op_type in GEOMETRY - {"Div", "RoiAlign"} for name in node.output
    }
    assert not quantised & between


def test_onnx_runtime_is_given_uint8_and_weights_of_7_bits(source: Source) -> None:
    values = constants(source.graph("onnxruntime"))
    weights = [value for name, value in values.items() if name.endswith(".weight_quantized")]
    assert len(weights) > 15
    assert {value.dtype for value in weights} == {np.dtype(np.int8)}
    assert max(int(np.abs(value.astype(int)).max()) for value in weights) == 64
    assert len(values["net.box_head.first.weight_scale"]) == 16
    points = [value for name, value in values.items() if name.endswith("zero_point") and "net." not in name]
    assert {value.dtype for value in points} == {np.dtype(np.uint8)}


def test_tensorrt_is_given_symmetric_int8_before_layers_and_biases_in_float(source: Source) -> None:
    found = source.graph("tensorrt")
    values = constants(found)
    points = [value for name, value in values.items() if name.endswith("zero_point")]
    assert points
    assert all(value.dtype == np.int8 and not value.any() for value in points)
    assert not any(value.dtype == np.int32 for value in values.values())
    dequantised = made_by(found, "DequantizeLinear")
    takers = {node.op_type for node in found.graph.node if not dequantised.isdisjoint(node.input)}
    assert takers == {"Conv", "Gemm", "RoiAlign"}  # the last reads what a layer reads
    assert values["net.branch.heads.amodal.up.weight_quantized"].dtype == np.int8
    assert max(int(np.abs(v.astype(int)).max()) for n, v in values.items() if n.endswith("_quantized")) == 127


def test_a_part_in_float_keeps_its_weights(source: Source) -> None:
    weights = constants(source.graph("onnxruntime", ("box_head",)))
    np.testing.assert_array_equal(
        weights["net.box_head.second.weight"], constants(source.model)["net.box_head.second.weight"]
    )
    assert weights["net.proposal_head.conv.weight_quantized"].dtype == np.int8


def test_of_weights_that_are_stored_in_halves_what_stays_in_float_stays_so(source: Source) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    weights = {one.name: one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT}
    for name, weight in weights.items():
        halves = numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
        weight.CopyFrom(numpy_helper.from_array(halves, name))
    narrow(model)
    assert "net.box_head.first.weight" not in {one.name for one in model.graph.initializer}
    widen(model)
    found = constants(onnx.load_from_string(rewrite(model, source.seen, target="onnxruntime", in_float=["box_head"])))
    assert found["net.box_head.first.weight.stored"].dtype == np.float16
    assert found["net.proposal_head.conv.weight_quantized"].dtype == np.int8
