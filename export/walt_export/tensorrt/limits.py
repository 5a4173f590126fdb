"""One node against TensorRT: the types of its data, and the limits of its operator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from walt_export.tensorrt import support

_COMPUTE = "compute it in float32, int32, int64 or bool"
_CHANGE = "change the export of this part"
_PLAIN: Mapping[str, type[np.generic]] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
_SYMMETRIC = "quantise symmetrically, to int8 with zero points of 0"


@dataclass(frozen=True, slots=True)
class Scope:
    """What is known of the values that a node can see.

    Attributes:
        types: ONNX's element types by name; None inside a function, where they depend on who calls.
        ranks: How many dimensions, by name, where that is known.
        constants: Values that are known before anything runs.
        inputs: Names of the network's inputs.
        complete: Whether a type that is not among `types` is an offence.
    """

    types: dict[str, int] | None = None
    ranks: dict[str, int] = field(default_factory=dict)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    inputs: frozenset[str] = frozenset()
    complete: bool = False

    def inside(self, graph: onnx.GraphProto) -> Scope:
        """What the nodes of a graph in this scope can see; a branch sees what is around it."""
        entries = [*graph.value_info, *graph.input, *graph.output]
        tensors = {entry.name: entry.type.tensor_type for entry in entries}
        types = {name: tensor.elem_type for name, tensor in tensors.items()}
        types |= {initializer.name: initializer.data_type for initializer in graph.initializer}
        ranks = {name: len(tensor.shape.dim) for name, tensor in tensors.items() if tensor.HasField("shape")}
        constants = constants_of(graph.node) | {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        return Scope(
            (self.types or {}) | types, self.ranks | ranks, self.constants | constants, self.inputs, self.complete
        )


def constants_of(nodes: Iterable[onnx.NodeProto]) -> dict[str, NDArray[np.generic]]:
    """Numbers that Constant nodes hold, by name."""
    values = ((node.output[0], constant_value(node)) for node in nodes if node.op_type == "Constant")
    return {name: value for name, value in values if value is not None}


def constant_value(node: onnx.NodeProto) -> NDArray[np.generic] | None:
    """What a Constant node holds; None if that is no dense array of numbers."""
    (attribute,) = node.attribute
    if attribute.name == "value":
        return numpy_helper.to_array(attribute.t)
    if attribute.name in _PLAIN:
        return np.asarray(helper.get_attribute_value(attribute), _PLAIN[attribute.name])
    return None


def reasons(node: onnx.NodeProto, scope: Scope, opset: int) -> Iterator[tuple[str, str]]:
    """Why TensorRT does not take a node whose operator it has, and what to do; nothing if it does."""
    if scope.types is not None:
        yield from _types(node, scope, opset)
    yield from _attributes(node)
    yield from _shapes(node, scope)
    yield from _constants(node, scope)
    yield from _special(node, scope)


def _types(node: onnx.NodeProto, scope: Scope, opset: int) -> Iterator[tuple[str, str]]:
    assert scope.types is not None
    for name in _data(node, opset):
        kind = scope.types.get(name, TensorProto.UNDEFINED)
        if kind == TensorProto.UNDEFINED:
            if scope.complete:
                yield f"the type of {name} is not known", _CHANGE
        elif kind == TensorProto.UINT8:
            # The one place for uint8: what a camera gives, made a number of another type before anything else.
            if node.op_type != "Cast" or name not in scope.inputs:
                yield f"{name} is uint8, which only the input may be, with a Cast right behind it", _COMPUTE
        elif kind not in support.TYPES[node.op_type]:
            yield f"{name} is {TensorProto.DataType.Name(kind).lower()}", _COMPUTE


def _data(node: onnx.NodeProto, opset: int) -> Iterator[str]:
    """Names of the inputs and outputs that are a node's data: not its indices, sizes and conditions."""
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    ends = [(node.input, list(schema.inputs)), (node.output, list(schema.outputs))]
    first = next(formal.type_str for _, formals in ends for formal in formals)
    data = support.DATA.get(node.op_type, (first,))
    for names, formals in ends:
        for index, name in enumerate(names):
            if name and formals[min(index, len(formals) - 1)].type_str in data:
                yield name


def _attributes(node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    there = {attribute.name: attribute for attribute in node.attribute}
    for name, allowed in support.ATTRIBUTES.get(node.op_type, ()):
        if name in there and not set(_words(there[name])) <= allowed:
            found = ", ".join(_words(there[name]))
            yield f"{name} is {found}, only {', '.join(sorted(allowed))} will do", _CHANGE


def _words(attribute: AttributeProto) -> list[str]:
    value = helper.get_attribute_value(attribute)
    entries = value if isinstance(value, list) else [value]
    return [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries]


def _shapes(node: onnx.NodeProto, scope: Scope) -> Iterator[tuple[str, str]]:
    allowed = support.RANKS.get(node.op_type)
    rank = scope.ranks.get(node.input[0]) if allowed else None
    if allowed and rank is not None and rank not in allowed:
        yield f"its input has {rank} dimensions, only {' or '.join(map(str, sorted(allowed)))} will do", _CHANGE
    for name in (*node.input, *node.output):
        if scope.ranks.get(name, 0) > support.MOST_DIMENSIONS:
            yield f"{name} has {scope.ranks[name]} dimensions, {support.MOST_DIMENSIONS} at most will do", _CHANGE
    if node.op_type in support.ONE_OUTPUT and any(node.output[1:]):
        yield "its second output is used", _CHANGE


def _constants(node: onnx.NodeProto, scope: Scope) -> Iterator[tuple[str, str]]:
    for index in support.CONSTANT_INPUTS.get(node.op_type, ()):
        name = node.input[index] if index < len(node.input) else ""
        if name and name not in scope.constants and scope.types is not None:
            yield f"its input {name} is known only when it runs", "make it a constant"


def _special(node: onnx.NodeProto, scope: Scope) -> Iterator[tuple[str, str]]:
    if node.op_type == "TopK" and len(node.input) > 1:
        most = scope.constants.get(node.input[1])
        if most is not None and int(most.max()) >= support.MOST_K:
            yield f"K is {int(most.max())}, it must be below {support.MOST_K}", "take fewer"
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        yield from _quantized(node, scope)
    if node.op_type == "If":
        ends = [{value.name for value in attribute.g.output} for attribute in node.attribute]
        if common := set.intersection(*ends):
            yield f"both branches call an output {min(common)}", "give outputs of branches names of their own"


def _quantized(node: onnx.NodeProto, scope: Scope) -> Iterator[tuple[str, str]]:
    zero = scope.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    if zero is None or zero.any():
        yield "its zero point is not 0", _SYMMETRIC
    if node.op_type == "QuantizeLinear" and scope.types is not None:
        kind = scope.types.get(node.output[0], TensorProto.UNDEFINED)
        if kind not in support.QUANTIZED and (kind != TensorProto.UNDEFINED or scope.complete):
            yield f"it quantises to {TensorProto.DataType.Name(kind).lower()}", _SYMMETRIC
