"""Constants of a graph in the narrowest type that holds them exactly: a smaller file that computes the same.

A `Cast` (and where values repeat along a side, an `Expand`) in the graph widens them again. Runtimes fold both when
they open the model, so that neither time nor memory changes.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_LEAST_VALUES = 1024
"""Below it a node costs more than it saves."""
_TYPES = (np.uint8, np.float16)

_Values = NDArray[np.float32]


def narrow(model: onnx.ModelProto) -> None:
    """Rewrites the float32 initialisers of a graph: 8-bit levels as uint8, halves as float16, repeats once.

    Args:
        model: It is changed in place; what it computes stays the same to the last bit.
    """
    graph = model.graph
    nodes = []
    for initializer in graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype == np.float32 and values.size >= _LEAST_VALUES:
            nodes += _stored(initializer, values, graph)
    former = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *former])


def _stored(initializer: onnx.TensorProto, values: _Values, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Makes the initialiser small; returns the nodes that give its name to the whole of it again."""
    once = _once(values)
    small = once.astype(next((kind for kind in _TYPES if _holds(once, kind)), np.float32))
    if small.nbytes == values.nbytes:
        return []
    name, stored = initializer.name, f"{initializer.name}.stored"
    initializer.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(small), stored))
    nodes = []
    if small.dtype != np.float32:
        wide = name if small.size == values.size else f"{name}.wide"
        nodes.append(helper.make_node("Cast", [stored], [wide], to=onnx.TensorProto.FLOAT))
        stored = wide
    if small.size != values.size:
        shape = numpy_helper.from_array(np.array(values.shape, np.int64), f"{name}.shape")
        graph.initializer.append(shape)
        nodes.append(helper.make_node("Expand", [stored, shape.name], [name]))
    return nodes


def _once(values: _Values) -> _Values:
    """Without the sides along which nothing changes."""
    for axis, length in enumerate(values.shape):
        first = values.take([0], axis)
        if length > 1 and (values == first).all():
            values = first
    return values


def _holds(values: _Values, kind: type[np.uint8 | np.float16]) -> bool:
    """Whether a type has every one of the values."""
    limits = np.iinfo(kind) if issubclass(kind, np.integer) else np.finfo(kind)
    if not (values >= limits.min).all() or not (values <= limits.max).all():
        return False
    return np.array_equal(values.astype(kind).astype(np.float32), values)
