"""What a bundle's network costs, part by part: parameters, bytes in the file, operations, time on this machine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, inliner

from walt_edge.contract.bundle import MODEL, Bundle, BundleError
from walt_edge.runtimes.onnx_detector import letterbox
from walt_export.flops import node_flops
from walt_export.parts import REST, Parts, carry_parts, find_parts, ordered, part_of_weight
from walt_export.profiling import Profile, profile

_MULTIPLIED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True)
class PartCost:
    """Of one part of the network.

    Attributes:
        part: Its name (`walt_export.parts`).
        parameters: Weights in the file; normalisation is folded into them.
        size_bytes: In the file: weights and other constants as they are stored. What is left, the nodes themselves,
            is the size of `rest`.
        gflops: Of one picture with as much in it as there can be; a product and a sum count two.
        ms: Measured on pictures, with what is in them; None where nothing was measured.
    """

    part: str
    parameters: int
    size_bytes: int
    gflops: float
    ms: float | None


def read_model(bundle: Bundle) -> onnx.ModelProto:
    """The graph in a bundle; raises BundleError where there is none."""
    try:
        model = onnx.load_from_string(bundle.files[MODEL])
    except DecodeError as error:
        raise BundleError(f"{MODEL} of {bundle.manifest.name} is no ONNX file: export it again") from error
    if not model.graph.node:
        raise BundleError(f"{MODEL} of {bundle.manifest.name} has no graph in it: export it again")
    return model


def golden_images(bundle: Bundle) -> list[NDArray[np.uint8]]:
    """The golden pictures as the network is shown them, (H, W, 3) uint8 BGR; raises BundleError."""
    width, height = bundle.manifest.size_wh
    images = []
    for name in bundle.manifest.golden:
        data = bundle.files[name]
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if picture is None:
            raise BundleError(f"{name} of {bundle.manifest.name} is no picture: export it again")
        images.append(letterbox(np.asarray(picture, np.uint8), (height, width))[0])
    return images


def measure_cost(bundle: Bundle, *, threads: int, runs: int) -> tuple[list[PartCost], Profile | None]:
    """Costs in the network's order, and what was measured on the golden pictures.

    Args:
        bundle: It is run on the CPU.
        threads: For one picture.
        runs: Of each picture; 0 measures nothing.

    Raises:
        BundleError: Its model or its pictures are none.
        ExportError: Its graph contradicts itself.
        UsageError: ONNX Runtime is not installed.
        SessionError: It cannot run the model.
    """
    model = read_model(bundle)
    parts = find_parts(model.graph)
    images = golden_images(bundle)
    measured = profile(model, parts, images, threads=threads, runs=runs) if runs and images else None
    static = _static(model, parts, bundle.manifest.candidates, len(bundle.files[MODEL]))
    return _joined(static, None if measured is None else measured.ms), measured


def static_cost(model: onnx.ModelProto, candidates: int) -> list[PartCost]:
    """Costs without any time; raises ExportError where the graph contradicts itself."""
    return _joined(_static(model, find_parts(model.graph), candidates, model.ByteSize()), None)


class _Static(NamedTuple):
    parameters: int = 0
    size_bytes: int = 0
    gflops: float = 0.0


def _joined(static: Mapping[str, _Static], ms: Mapping[str, float] | None) -> list[PartCost]:
    return [
        PartCost(part, *static.get(part, _Static()), None if ms is None else ms.get(part, 0.0))
        for part in ordered([*static, *(ms or {})])
    ]


def _static(model: onnx.ModelProto, parts: Parts, candidates: int, file_bytes: int) -> dict[str, _Static]:
    parameters, sizes, flops = Counter[str](), Counter[str](), Counter[str]()
    weights = _weights(model.graph)
    for one in model.graph.initializer:
        part = parts.initializers[one.name]
        sizes[part] += one.ByteSize()
        parameters[part] += math.prod(one.dims) if one.name in weights else 0
    sizes[REST] += file_bytes - sizes.total()
    plain = inliner.inline_local_functions(model) if model.functions else model
    for part, count in zip(carry_parts(plain.graph, parts), node_flops(plain, candidates), strict=True):
        flops[part] += count
    return {
        part: _Static(parameters[part], sizes[part], flops[part] / 1e9) for part in {*parts.nodes, *sizes, *flops}
    }


def _weights(graph: onnx.GraphProto) -> set[str]:
    """Names of initialisers that were learned: by their names, or because something is multiplied by them.

    Scales and zero points of quantised tensors have their weight's name too, but few values; the empty scene and the
    places of pixels, which the input reads, were not learned.
    """
    stored = {one.name for one in graph.initializer}
    source = {node.output[0]: node.input[0] for node in graph.node if node.input and node.input[0] in stored}
    read = {name for node in graph.node if node.op_type in _MULTIPLIED for name in node.input[1:3]}
    multiplied = {source.get(name, name) for name in read}
    named = {one.name for one in graph.initializer if _learned(one)}
    return (multiplied & stored) | named


def _learned(one: TensorProto) -> bool:
    return part_of_weight(one.name) not in ("", "input") and one.name.endswith((".weight", ".bias", ".stored"))
