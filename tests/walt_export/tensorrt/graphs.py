"""Small graphs to hold against TensorRT."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

OPSET = 20


def value(name: str, kind: int = TensorProto.FLOAT, shape: Sequence[int | str] = (4,)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def graph_model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    *,
    constants: Sequence[onnx.TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = OPSET,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(one.domain, 1) for one in functions)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)
