"""Which part of a graph computes in halves: its types say so, and no builder may choose otherwise.

Areas of boxes reach a quarter of a million square pixels, which float16 does not hold, and corners of boxes want more
than its 11 bits. A builder that is merely allowed to use halves may use them there too. So convolutions and matrices
with learned weights are in halves, and what lies between them; everything that reckons with boxes stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from walt_export.errors import ExportError

_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm"})
_BETWEEN = frozenset({"Add", "AveragePool", "Concat", "Flatten", "GlobalAveragePool", "Identity", "MaxPool", "Relu"})
"""They go along if all that they are given is in halves."""
_FIRST_ALONE = frozenset({"Resize"})
"""The same, of which the other inputs are not data."""
_MOST = float(np.finfo(np.float16).max)


def in_halves(graph: onnx.GraphProto) -> None:
    """Gives learned layers, and what lies between them, types and weights of float16.

    Args:
        graph: With whole float32 constants; changed in place. Inputs and outputs keep their types.

    Raises:
        ExportError: A weight is larger than float16 holds.
    """
    weights = {one.name: one for one in graph.initializer if one.data_type == TensorProto.FLOAT}
    chosen = _chosen(graph, weights)
    made = {name for place in chosen for name in graph.node[place].output}
    nodes: list[onnx.NodeProto] = []
    there: set[str] = set()
    for place, node in enumerate(graph.node):
        if place not in chosen:
            nodes.append(node)
            continue
        for index, name in _data(node):
            half = f"{name}.half"
            if name not in made and half not in there:
                there.add(half)
                if name in weights:
                    graph.initializer.append(_halved(weights[name], half))
                else:
                    nodes.append(helper.make_node("Cast", [name], [half], to=TensorProto.FLOAT16))
            node.input[index] = half
        nodes.append(node)
        for index, name in enumerate(node.output):
            node.output[index] = f"{name}.half"
            nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(_read(nodes, graph))


def _chosen(graph: onnx.GraphProto, weights: Iterable[str]) -> set[int]:
    """Places of the nodes that compute in halves."""
    chosen: set[int] = set()
    fitting = set(weights)
    for place, node in enumerate(graph.node):
        names = [name for _, name in _data(node)]
        is_learned = node.op_type in _HEAVY and len(names) > 1 and names[1] in weights
        goes_along = node.op_type in _BETWEEN | _FIRST_ALONE and fitting.issuperset(names)
        if is_learned or (goes_along and not set(names) <= set(weights)):
            chosen.add(place)
            fitting.update(node.output)
    return chosen


def _data(node: onnx.NodeProto) -> list[tuple[int, str]]:
    inputs = [(index, name) for index, name in enumerate(node.input) if name]
    return inputs[:1] if node.op_type in _FIRST_ALONE else inputs


def _halved(weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(weight)
    if values.size and float(np.abs(values).max()) > _MOST:
        raise ExportError(f"the weights {weight.name} are larger than float16 holds: export with --fp32")
    return numpy_helper.from_array(values.astype(np.float16), name)


def _read(nodes: list[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Without the casts back that nobody reads."""
    read = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    return [node for node in nodes if not read.isdisjoint(node.output)]
