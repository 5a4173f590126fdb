"""Floating-point operations of an ONNX graph's nodes, when it finds as much as it can find.

How many proposals and objects there are is known only when a graph runs. For the cost, every operator whose number of
results depends on what it sees is taken to give the most that it can (NonZero all, NonMaxSuppression its limit or all
boxes); ONNX's own shape inference then knows every other size. Convolutions and matrix products are counted, a
product and a sum as two, as `walt_train.model.cost` counts them. For functions that compare pairs of objects that is
a bound which no street reaches: every object next to every other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from walt_export.errors import ExportError

Shape = tuple[int, ...]
_MOST_ROUNDS = 20
"""Operators one after the other whose number of results is not fixed; a network has four."""


def node_flops(model: onnx.ModelProto, candidates: int) -> list[int]:
    """Operations of each node of the graph, in its order; functions must have been inlined.

    Args:
        model: Any batch of unknown size is taken to be one picture.
        candidates: What any other unknown number of rows is taken to be.

    Raises:
        ExportError: The graph contradicts itself.
    """
    shapes = largest_shapes(model, candidates)
    return [_flops(node, shapes) for node in model.graph.node]


def largest_shapes(model: onnx.ModelProto, candidates: int) -> dict[str, Shape]:
    """Shape of every tensor whose shape can be known; see `node_flops`."""
    work = onnx.ModelProto()
    work.CopyFrom(model)
    for entry in work.graph.input:
        for dim in entry.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_value = 1
    for output in work.graph.output:
        # What the file says of them is only that it does not know.
        output.type.tensor_type.ClearField("shape")
    for _ in range(_MOST_ROUNDS):
        shapes = _inferred(work)
        if not _fix_counts(work, shapes):
            break
    return {name: tuple(candidates if side is None else side for side in shape) for name, shape in shapes.items()}


def _inferred(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"the sizes in the graph contradict each other ({str(error).splitlines()[0]})") from error
    found: dict[str, tuple[int | None, ...]] = {one.name: tuple(one.dims) for one in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        kind = info.type.tensor_type
        if kind.HasField("shape"):
            found[info.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return found


def _fix_counts(model: onnx.ModelProto, shapes: Mapping[str, tuple[int | None, ...]]) -> bool:
    """Puts inputs of the largest size in the place of the first operators whose number of results is open."""
    graph = model.graph
    fixed = []
    for node in graph.node:
        size = _most(node, shapes, graph) if node.op_type in ("NonZero", "NonMaxSuppression") else None
        if size is not None:
            fixed.append(node)
            graph.input.append(helper.make_tensor_value_info(node.output[0], TensorProto.INT64, size))
    for node in fixed:
        graph.node.remove(node)
    return bool(fixed)


def _most(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[int | None, ...]], graph: onnx.GraphProto
) -> tuple[int, int] | None:
    """The largest shape of what a node gives, or None as long as that of what it reads is unknown."""
    read = shapes.get(node.input[0], (None,))
    if None in read:
        return None
    sides = tuple(side or 0 for side in read)
    if node.op_type == "NonZero":
        return len(sides), math.prod(sides)
    scores = shapes.get(node.input[1], (None,))
    if None in scores:
        return None
    batch, classes = (side or 0 for side in scores[:2])
    limit = _constant(graph, node.input[2]) if len(node.input) > 2 else 0
    return batch * classes * min(sides[1], limit or sides[1]), 3


def _constant(graph: onnx.GraphProto, name: str) -> int | None:
    for one in graph.initializer:
        if one.name == name:
            # ONNX Runtime and torch write "no limit" as the largest integer.
            return int(np.ravel(numpy_helper.to_array(one))[0])
    return None


def _flops(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    if not {"Conv", "ConvTranspose", "Gemm", "MatMul"} & {node.op_type}:
        return 0
    read, weight, made = (shapes.get(name, ()) for name in (node.input[0], node.input[1], node.output[0]))
    if not (read and weight and made):
        return 0
    if node.op_type == "Conv":
        return 2 * math.prod(made) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return 2 * math.prod(read) * math.prod(weight[1:])
    inner = read[0] if node.op_type == "Gemm" and _attribute(node, "transA") else read[-1]
    return 2 * math.prod(made) * inner


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((one.i for one in node.attribute if one.name == name), 0)
