"""Small graphs to hold against TensorRT."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from walt_edge.runtimes.tensorrt.recipe import Batch, BuildRecipe, encode

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


SIZE_WH = (8, 6)
BRIGHT = 50


def bright_pictures(batch: int | str = "B") -> onnx.ModelProto:
    """Finds the bright pictures of a batch, none if all are dark: no network, but with inputs and outputs of one."""
    node = helper.make_node
    constants: dict[str, NDArray[Any]] = {
        "axes": np.array([1, 2, 3]),
        "limit": np.array(BRIGHT, np.float32),
        "full": np.array(255, np.float32),
        "first": np.array([0]),
        "row": np.array([-1, 1]),
        "four": np.array([1, 4]),
        "map": np.array([-1, 1, 1, 1]),
        "cells": np.array([1, 3, 28, 28]),
        "zero": np.array(0, np.float32),
    }
    nodes = [
        node("Cast", ["image"], ["pixels"], "cast", to=TensorProto.FLOAT),
        node("ReduceMean", ["pixels", "axes"], ["level"], "mean", keepdims=0),
        node("Greater", ["level", "limit"], ["bright"], "bright"),
        node("NonZero", ["bright"], ["places"], "where"),
        node("Squeeze", ["places", "first"], ["pictures"], "which"),
        node("Gather", ["level", "pictures"], ["levels"], "levels"),
        node("Div", ["levels", "full"], ["scores"], "scores"),
        node("Greater", ["scores", "zero"], ["found"], "found"),
        node("Cast", ["found"], ["labels"], "labels", to=TensorProto.INT64),
        node("Reshape", ["levels", "row"], ["column"], "column"),
        node("Tile", ["column", "four"], ["boxes"], "boxes"),
        node("Reshape", ["scores", "map"], ["cell"], "cell"),
        node("Tile", ["cell", "cells"], ["maps"], "maps"),
    ]
    outputs = [
        value("boxes", shape=("N", 4)),
        value("scores", shape=("N",)),
        value("labels", TensorProto.INT64, ("N",)),
        value("maps", shape=("N", 3, 28, 28)),
        value("pictures", TensorProto.INT64, ("N",)),
    ]
    width, height = SIZE_WH
    inputs = [value("image", TensorProto.UINT8, (batch, height, width, 3))]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return graph_model(nodes, inputs, outputs, constants=initializers)


def quantised_pictures() -> bytes:
    """The same, with pixels that are quantised and dequantised to the same numbers, one picture at once."""
    model = bright_pictures(1)
    constants: dict[str, NDArray[Any]] = {"step": np.array(2, np.float32), "nought": np.array(0, np.int8)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    model.graph.node[1].input[0] = "coarse"
    model.graph.node.insert(
        1, helper.make_node("QuantizeLinear", ["pixels", "step", "nought"], ["steps"], "quantise")
    )
    model.graph.node.insert(2, helper.make_node("DequantizeLinear", ["steps", "step", "nought"], ["coarse"], "back"))
    data: bytes = model.SerializeToString()
    return data


def pictures(*levels: int) -> NDArray[np.uint8]:
    """One even picture a level."""
    width, height = SIZE_WH
    return np.array(levels, np.uint8)[:, None, None, None].repeat(height, 1).repeat(width, 2).repeat(3, 3)


def folder_of(folder: Path, model: bytes, **changes: Any) -> Path:
    """A folder to build in: the model as it is, and its recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "sha256": hashlib.sha256(model).hexdigest(),
        "precision": "fp32",
        "size_wh": SIZE_WH,
        "batch": Batch(1, 2, 4),
        "dynamic_batch": True,
    }
    (folder / "model.onnx").write_bytes(model)
    (folder / "build.json").write_bytes(encode(BuildRecipe(**{**fields, **changes})))
    return folder
