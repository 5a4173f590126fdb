"""ONNX files whose bytes depend on the weights and on nothing else."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import onnx
import torch

from walt_edge.runtimes.walt_onnx import INPUT
from walt_export.errors import ExportError
from walt_export.narrow import narrow
from walt_export.ops.body import DOMAIN
from walt_export.ops.translations import attach_functions, translation_table
from walt_export.restate import restated
from walt_export.traceable import TraceableWaltNet
from walt_train.model.waltnet import WaltNet

OPSET: Final = 20
OPSETS: Final = range(18, 22)
"""The exporter writes none older; of 22 ONNX Runtime 1.32 has no RoiAlign."""
_CHATTY = ("onnxscript", "onnx_ir", "torch.onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphOptions:
    """What a graph can be asked for.

    Attributes:
        opset: Of the standard operators.
        batch: Whether it takes any number of pictures; each instance then names its picture.
        paste: Whether it gives masks of the whole input too.
    """

    opset: int = OPSET
    batch: bool = False
    paste: bool = False


def export_onnx(net: WaltNet, options: GraphOptions | None = None) -> bytes:
    """An ONNX file: input `image`; outputs as `TraceableWaltNet.outputs` says, N = 0 included.

    Beside standard operators the graph calls the functions of domain `walt`, which the file brings along.

    Raises:
        ExportError: The graph that came out is not valid, or needs other operators.
    """
    options = options or GraphOptions()
    traceable = TraceableWaltNet(restated(net), batch=options.batch, paste=options.paste)
    model = _trace(traceable, options)
    attach_functions(model, options.opset)
    _strip(model, options)
    narrow(model)
    _check(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _trace(traceable: TraceableWaltNet, options: GraphOptions) -> onnx.ModelProto:
    with _quiet(), torch.no_grad(), _explained():
        program = torch.onnx.export(
            traceable,
            (traceable.example(),),
            dynamo=True,
            opset_version=options.opset,
            input_names=[INPUT],
            output_names=traceable.outputs,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},) if options.batch else None,
            custom_translation_table=translation_table(),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _explained() -> Iterator[None]:
    """The exporter wraps what went wrong in pages of advice: the innermost error names the operator."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        inner: BaseException = error
        while inner.__cause__ is not None:
            inner = inner.__cause__
        words = next(iter(str(inner).splitlines()), type(inner).__name__)
        raise ExportError(
            f"the network has no ONNX form ({words[:200]}): use a backbone and branch of ours"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's libraries warn of each other's deprecated functions and log every step: neither is ours."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in _CHATTY}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in loggers.items():
                logger.setLevel(level)


def _strip(model: onnx.ModelProto, options: GraphOptions) -> None:
    """Takes out where the graph came from: paths, line numbers and names of sizes, which differ from run to run."""
    graph = model.graph
    del graph.value_info[:]
    for part in _parts(model):
        part.doc_string = ""
        del part.metadata_props[:]
    if options.batch:
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = "B"
    for output in graph.output:
        sides = output.type.tensor_type.shape.dim
        for side in sides[:2] if output.name == "order" else sides[:1]:
            side.dim_param = "N"


def _parts(model: onnx.ModelProto) -> Iterable[Any]:
    graph = model.graph
    return [model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer]


def _check(model: onnx.ModelProto) -> None:
    domains = {entry.domain for entry in model.opset_import} | {node.domain for node in model.graph.node}
    foreign = sorted(domains - {"", DOMAIN})
    if foreign:
        raise ExportError(f"the graph needs operators of {foreign}, which not every runtime has: report it")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ({str(error).splitlines()[0]}): report it") from error
