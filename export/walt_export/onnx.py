"""ONNX files whose bytes depend on the weights and on nothing else."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import onnx
import torch

from walt_edge.runtimes.walt_onnx import INPUT
from walt_export.errors import ExportError
from walt_export.narrow import narrow
from walt_export.traceable import TraceableWaltNet
from walt_train.model.waltnet import WaltNet

OPSET: Final = 20
_CHATTY = ("onnxscript", "onnx_ir", "torch.onnx")


def export_onnx(net: WaltNet) -> bytes:
    """An ONNX file: input `image`; outputs `boxes`, `scores`, `labels` and `maps` of N candidates, N = 0 included.

    Raises:
        ExportError: The graph that came out is not valid, or needs more than standard operators.
    """
    traceable = TraceableWaltNet(net)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            traceable,
            (traceable.example(),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=traceable.outputs,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    narrow(model)
    _check(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


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


def _strip(model: onnx.ModelProto) -> None:
    """Takes out where the graph came from: paths, line numbers and names of sizes, which differ from run to run."""
    graph = model.graph
    del graph.value_info[:]
    for part in _parts(model):
        part.doc_string = ""
        del part.metadata_props[:]
    for output in graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "N"


def _parts(model: onnx.ModelProto) -> Iterable[Any]:
    graph = model.graph
    return [model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer]


def _check(model: onnx.ModelProto) -> None:
    domains = {entry.domain for entry in model.opset_import} | {node.domain for node in model.graph.node}
    if domains != {""} or model.functions:
        raise ExportError(f"the graph needs operators of {sorted(domains)}, which not every runtime has: report it")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ({str(error).splitlines()[0]}): report it") from error
