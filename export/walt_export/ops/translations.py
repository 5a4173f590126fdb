"""How torch's exporter writes the custom operators, and the functions that a model of them has to carry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import onnx
import torch
from onnxscript import opset18 as standard
from onnxscript.values import Op, Opset

from walt_export.errors import ExportError
from walt_export.ops import amodal_nms, amodal_paste, box_nms, occlusion_layers, occlusion_order
from walt_export.ops.body import DOMAIN, DOMAIN_VERSION

_FLOATS, _BOOLS, _INTS = "tensor(float)", "tensor(bool)", "tensor(int64)"
_TYPES = {"boxes": _FLOATS, "maps": _FLOATS, "labels": _INTS, "pictures": _INTS, "size_hw": _INTS}


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=...)`: the operators as calls of their functions."""
    layers = _operator(occlusion_layers.NAME, occlusion_layers.INPUTS, _BOOLS, _BOOLS, _FLOATS, _FLOATS)
    order = _operator(occlusion_order.NAME, occlusion_order.INPUTS, _FLOATS)
    paste = _operator(amodal_paste.NAME, amodal_paste.INPUTS, _BOOLS)

    def suppress(boxes: Any, labels: Any, pictures: Any, maps: Any, most: int) -> Any:
        return _operator(amodal_nms.name_for(most), amodal_nms.INPUTS, _BOOLS)(boxes, labels, pictures, maps)

    def fill(boxes: Any, maps: Any, height: int, width: int) -> Any:
        return paste(boxes, maps, standard.Constant(value_ints=[height, width]))

    walt = torch.ops.walt
    return {
        walt.box_nms.default: box_nms.translate,
        walt.amodal_nms.default: suppress,
        walt.occlusion_layers.default: lambda maps: layers(maps),
        walt.occlusion_order.default: lambda boxes, pictures, maps: order(boxes, pictures, maps),
        walt.amodal_paste.default: fill,
    }


def attach_functions(model: onnx.ModelProto, opset: int) -> None:
    """Gives a model the functions that its nodes call; in place.

    Raises:
        ExportError: A node of our domain that this version does not know.
    """
    called = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    model.functions.extend(_function(name, opset) for name in sorted(called))


def _function(name: str, opset: int) -> onnx.FunctionProto:
    written: Mapping[str, Callable[[int], onnx.FunctionProto]] = {
        occlusion_layers.NAME: occlusion_layers.function,
        occlusion_order.NAME: occlusion_order.function,
        amodal_paste.NAME: amodal_paste.function,
    }
    if name in written:
        return written[name](opset)
    most = re.fullmatch(re.escape(amodal_nms.name_for(0)[:-1]) + r"(\d+)", name)
    if most is None:
        raise ExportError(f"the graph calls {DOMAIN}.{name}, which is not written down: report it")
    return amodal_nms.function(int(most[1]), opset)


def _operator(name: str, inputs: tuple[str, ...], *outputs: str) -> Op:
    schema = onnx.defs.OpSchema
    given = [schema.FormalParameter(one, _TYPES[one]) for one in inputs]
    made = [schema.FormalParameter(f"out{index}", kind) for index, kind in enumerate(outputs)]
    return Op(Opset(DOMAIN, DOMAIN_VERSION), name, schema(name, DOMAIN, DOMAIN_VERSION, inputs=given, outputs=made))
