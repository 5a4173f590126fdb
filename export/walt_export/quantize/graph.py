"""Integers into a graph: quantised weights, and what quantises activations before layers and after them.

ONNX Runtime's quantiser does it, on the graph outside of model-local functions, which stay as they are. Weights are
int8 with a scale for each output channel. Two targets want different graphs:

`onnxruntime`: activations are uint8 with a zero point of their own, because its CPU kernels then take a rectifier as
part of the convolution; with symmetric int8 the file ran no faster than float32. Weights use 7 bits: processors with
AVX2 but without VNNI add pairs of 8-bit products in 16 bits, which 8-bit weights overflow, so that the same file
would answer otherwise there.

`tensorrt`: activations are symmetric int8, quantised only before layers, each with a pair of nodes of its own, and
biases stay in float, as TensorRT's explicit quantisation asks for. Weights use 8 bits.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from walt_export.errors import ExportError
from walt_export.narrow import narrow
from walt_export.quantize.layers import JOINTS, LAYERS, Layers, with_joints
from walt_export.quantize.ranges import Activations

Target = Literal["onnxruntime", "tensorrt"]

_LEVELS: Final = 255
_EXTRA: Final[dict[Target, dict[str, Any]]] = {
    "onnxruntime": {"WeightSymmetric": True},
    "tensorrt": {
        "WeightSymmetric": True,
        "ActivationSymmetric": True,
        "DedicatedQDQPair": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": list(LAYERS),
    },
}


def widen(model: onnx.ModelProto) -> None:
    """Takes back what `narrow` did, in place: weights are initialisers again, which the quantiser looks for."""
    graph = model.graph
    stored = {initializer.name: numpy_helper.to_array(initializer) for initializer in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type in ("Cast", "Expand") and all(name in stored for name in node.input):
            stored[node.output[0]] = _computed(node, stored)
            graph.initializer.append(numpy_helper.from_array(stored[node.output[0]], node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input} | {output.name for output in graph.output}
    initializers = [initializer for initializer in graph.initializer if initializer.name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def activations_of(model: onnx.ModelProto) -> list[str]:
    """The tensors whose range must be known to rewrite a model, whichever parts stay in float."""
    graph = model.graph
    constants = {initializer.name for initializer in graph.initializer}
    names = set(with_joints(graph, frozenset(Layers.of(graph).weights)))
    nodes = [node for node in graph.node if node.name in names]
    tensors = (name for node in nodes for name in [*node.input, *node.output])
    return [name for name in dict.fromkeys(tensors) if name and name not in constants]


def rewrite(
    model: onnx.ModelProto, seen: Mapping[str, Activations], *, target: Target, in_float: Iterable[str] = ()
) -> bytes:
    """A model whose layers compute with integers.

    Args:
        model: As `widen` leaves it; it is not changed.
        seen: What `activations_of` it were seen to hold.
        target: What is to run it best.
        in_float: Names of parts to leave as they are: `layers.PARTS`.

    Returns:
        The ONNX file's bytes; the same arguments give the same.

    Raises:
        ExportError: No layer is left to compute with integers.
    """
    is_for_runtime = target == "onnxruntime"
    chosen = Layers.of(model.graph).without(in_float)
    names = with_joints(model.graph, chosen) if is_for_runtime else sorted(chosen)
    if not names:  # which the quantiser would take for all of them
        raise ExportError("no layer of the graph has weights that INT8 can take: export without --int8")
    shaped = onnx.shape_inference.infer_shapes(model)
    quantiser = QDQQuantizer(
        shaped,
        per_channel=True,
        reduce_range=is_for_runtime,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if is_for_runtime else QuantType.QInt8,
        tensors_range=_ranges(seen, is_symmetric=not is_for_runtime),
        nodes_to_quantize=names,
        nodes_to_exclude=[],
        op_types_to_quantize=[*LAYERS, *JOINTS],
        extra_options=_EXTRA[target],
    )
    with _quiet():
        quantised: onnx.ModelProto = quantiser.quantize_model()
    quantiser.model.topological_sort()
    del quantised.graph.value_info[:]
    quantised.producer_name, quantised.producer_version = model.producer_name, model.producer_version
    del quantised.opset_import[:]
    quantised.opset_import.extend(model.opset_import)
    narrow(quantised)
    data: bytes = quantised.SerializeToString(deterministic=True)
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantiser tells the root logger of every bias that two layers share."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)


def _ranges(seen: Mapping[str, Activations], *, is_symmetric: bool) -> Any:
    found = {}
    for name, activations in seen.items():
        low, high = activations.fit(levels=_LEVELS, is_symmetric=is_symmetric)
        found[name] = TensorData(lowest=np.float32(low), highest=np.float32(high))
    return TensorsData(CalibrationMethod.MinMax, found)


def _computed(node: onnx.NodeProto, stored: Mapping[str, Any]) -> Any:
    values = stored[node.input[0]]
    if node.op_type == "Expand":
        return np.ascontiguousarray(np.broadcast_to(values, stored[node.input[1]]))
    kind = next(attribute.i for attribute in node.attribute if attribute.name == "to")
    return values.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
