"""The body of an ONNX function, written down node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import onnx
from onnx import helper

DOMAIN: Final = "walt"
DOMAIN_VERSION: Final = 1
FLOAT, BOOL, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL, onnx.TensorProto.INT64


class Body:
    """Nodes in the order in which they are asked for; values are known by name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[Any, ...], str] = {}

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name."""
        (name,) = self.several(operator, 1, *inputs, **attributes)
        return name

    def several(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node with so many outputs; returns their names."""
        place = len(self._nodes)
        names = [f"{operator.lower()}_{place}" + (f"_{index}" if count > 1 else "") for index in range(count)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def number(self, value: float) -> str:
        """A float32 constant without dimensions."""
        return self._constant("value_float", float(value))

    def numbers(self, values: Sequence[float]) -> str:
        """A float32 constant of one dimension."""
        return self._constant("value_floats", tuple(map(float, values)))

    def place(self, value: int) -> str:
        """An int64 constant without dimensions."""
        return self._constant("value_int", value)

    def places(self, *values: int) -> str:
        """An int64 constant of one dimension."""
        return self._constant("value_ints", values)

    def _constant(self, kind: str, value: Any) -> str:
        key = (kind, value)
        if key not in self._constants:
            self._constants[key] = self("Constant", **{kind: value})
        return self._constants[key]

    def function(self, name: str, inputs: Sequence[str], outputs: Sequence[str], *, opset: int) -> onnx.FunctionProto:
        """The whole of it.

        Args:
            name: With its version.
            inputs: Names that the body uses without having made them.
            outputs: Names that it has made.
            opset: Of the standard operators.
        """
        return helper.make_function(
            DOMAIN, name, list(inputs), list(outputs), self._nodes, [helper.make_opsetid("", opset)]
        )
