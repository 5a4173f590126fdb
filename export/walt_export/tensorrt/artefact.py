"""The exported graph restated for TensorRT: the same numbers from operators and types that its parser takes.

- Functions are inlined: TensorRT is given standard operators alone.
- Constants are whole: what `walt_export.narrow` stores is uint8, which TensorRT has at the input alone, and kernels
  have to be constants for it to fuse and to quantise. So are biases: it dequantises int8, never int32.
- The picture is made float32 first thing, and moved about afterwards: uint8 cannot be moved.
- NonZero is asked of numbers, and booleans are compared by Xor: TensorRT has NonZero of floats alone, and Equal of
  numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from walt_export.errors import ExportError
from walt_export.tensorrt.halves import in_halves
from walt_export.tensorrt.limits import constant_value
from walt_export.tensorrt.operators import check_functions, check_operators

_MOVERS = frozenset({"Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose answer is some of the first input's values: they may come before a Cast or after it."""
_MEASURERS = frozenset({"Shape", "Size"})
"""Operators whose answer is not in the values, and the same for any type."""

_Values = NDArray[np.generic]


def tensorrt_model(model: bytes, *, halves: bool = False) -> bytes:
    """A graph that TensorRT's parser takes and that answers as the one it was made of.

    Args:
        model: An ONNX file, as `walt_export.onnx` writes it.
        halves: Whether learned layers compute in float16.

    Returns:
        Another; the same bytes for the same input.

    Raises:
        ExportError: It is no ONNX file, or holds what TensorRT has not.
    """
    try:
        ready = onnx.load_from_string(model)
    except DecodeError as error:
        raise ExportError(f"not an ONNX file ({error}): export the checkpoint again") from error
    if ready.functions:
        check_functions(ready)
        ready = onnx.inliner.inline_local_functions(ready)
    graph = ready.graph
    del graph.value_info[:]
    _fold_constants(graph)
    _cast_input_first(graph)
    _restate(ready)
    if halves:
        in_halves(graph)
    _tidy(ready)
    check_operators(ready)
    try:
        onnx.checker.check_model(ready, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph for TensorRT is not valid ({str(error).splitlines()[0]}): report it") from error
    data: bytes = ready.SerializeToString(deterministic=True)
    return data


def _fold_constants(graph: onnx.GraphProto) -> None:
    """Puts an initialiser of the output's name in place of Constant, and of what makes constants wide again."""
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    kept = []
    for node in graph.node:
        found = _folded(node, values)
        if found is None:
            kept.append(node)
            continue
        values[node.output[0]] = found
        graph.initializer.append(numpy_helper.from_array(found, node.output[0]))
    _replace_nodes(graph, kept)


def _folded(node: onnx.NodeProto, values: dict[str, _Values]) -> _Values | None:
    if node.op_type == "Constant":
        return constant_value(node)
    if node.op_type not in ("Cast", "Expand", "DequantizeLinear") or not all(name in values for name in node.input):
        return None
    first, *others = (values[name] for name in node.input)
    if node.op_type == "Cast":
        return first.astype(helper.tensor_dtype_to_np_dtype(node.attribute[0].i))
    if node.op_type == "Expand":
        shape = tuple(int(side) for side in others[0])
        return np.ascontiguousarray(np.broadcast_to(first, np.broadcast_shapes(first.shape, shape)))
    if first.dtype == np.int32 and first.ndim == 1:  # its zero point is 0 by ONNX's definition
        return np.multiply(first, others[0], dtype=np.float32, casting="unsafe")
    return None


def _cast_input_first(graph: onnx.GraphProto) -> None:
    """Where a uint8 input is moved about or measured before it is cast, casts it to float32 before that."""
    for entry in graph.input:
        if entry.type.tensor_type.elem_type == TensorProto.UINT8 and _comes_before_cast(entry.name, graph.node):
            cast = helper.make_node("Cast", [entry.name], [f"{entry.name}.float"], to=TensorProto.FLOAT)
            for node in graph.node:
                if node.op_type in _MOVERS | _MEASURERS:
                    _rename_inputs(node, entry.name, cast.output[0])
            _replace_nodes(graph, [cast, *graph.node])


def _comes_before_cast(name: str, nodes: Iterable[onnx.NodeProto]) -> bool:
    """Whether an input is moved, or measured, and goes to a Cast and nowhere else: the check names what does."""
    moved, read_first = {name}, False
    for node in nodes:
        if node.op_type in _MOVERS and node.input[0] in moved:
            moved.update(node.output)
            read_first = True
        elif node.op_type in _MEASURERS:
            read_first |= name in node.input
        elif node.op_type != "Cast" and not moved.isdisjoint(node.input):
            return False
    return read_first


def _restate(model: onnx.ModelProto) -> None:
    """Operators that TensorRT has of other types than the graph asks them of, by operators of the right ones."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {entry.name: entry.type.tensor_type.elem_type for entry in [*graph.value_info, *graph.input]}
    types |= {one.name: one.data_type for one in graph.initializer}
    nodes = []
    for node in model.graph.node:
        asked = node.op_type, types.get(node.input[0]) if node.input else None
        if asked == ("NonZero", TensorProto.BOOL):
            cast = helper.make_node("Cast", list(node.input), [f"{node.output[0]}.float"], to=TensorProto.FLOAT)
            _rename_inputs(node, node.input[0], cast.output[0])
            nodes += [cast, node]
        elif asked == ("Equal", TensorProto.BOOL):
            other = helper.make_node("Xor", list(node.input), [f"{node.output[0]}.other"])
            nodes += [other, helper.make_node("Not", [other.output[0]], list(node.output), node.name)]
        else:
            nodes.append(node)
    _replace_nodes(model.graph, nodes)


def _tidy(model: onnx.ModelProto) -> None:
    """Drops constants that nobody reads, and names every node: messages of TensorRT's parser need names."""
    graph = model.graph
    read = {name for node in _all_nodes(graph) for name in node.input} | {entry.name for entry in graph.output}
    constants = [one for one in graph.initializer if one.name in read]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    for node in graph.node:
        node.name = node.name or f"{node.op_type}:{node.output[0]}"
    standard = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(standard)


def _all_nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for branch in [attribute.g, *attribute.graphs]:
                yield from _all_nodes(branch)


def _rename_inputs(node: onnx.NodeProto, former: str, name: str) -> None:
    inputs = [name if one == former else one for one in node.input]
    del node.input[:]
    node.input.extend(inputs)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
