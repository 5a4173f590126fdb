"""Will TensorRT's parser take a graph? Every node is held against what it takes, before a device is asked.

The walk reaches the nodes of branches and of functions. What types a function's values have depends on who calls it,
so types are held in graphs alone: what is written for TensorRT has its functions inlined and is checked whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx
from onnx import AttributeProto

from walt_export.errors import ExportError
from walt_export.tensorrt import support
from walt_export.tensorrt.limits import Scope, constants_of, reasons

_DOMAINS = ("", "ai.onnx")
_NAMED = 8
"""How many nodes an error names."""


@dataclass(frozen=True, slots=True)
class Offence:
    """A node that TensorRT does not take.

    Attributes:
        node: Its name, or where it has none that of its first output.
        operator: With its domain, where that is not ONNX's own.
        where: In which branch or function; empty in the graph itself.
        why: What is wrong.
        remedy: What to do about it.
    """

    node: str
    operator: str
    where: str
    why: str
    remedy: str

    @property
    def place(self) -> str:
        """The node with its operator and its place, for a message."""
        return f"{self.node} ({self.operator}{' in ' + self.where if self.where else ''})"


def check_operators(model: onnx.ModelProto) -> int:
    """Holds every node of a model, of its branches and of its functions against TensorRT's operators.

    Args:
        model: Functions may be in it; calling one is no offence, what is in it may be.

    Returns:
        How many nodes there are.

    Raises:
        ExportError: TensorRT does not take it: names the first nodes, counts them all.
    """
    walk = _Walk(model)
    _refuse([*walk.of_functions(), *walk.of_graph()], walk.nodes)
    return walk.nodes


def check_functions(model: onnx.ModelProto) -> None:
    """Holds the nodes of a model's functions alone: once they are inlined they have no name of a function's.

    Raises:
        ExportError: As `check_operators` does.
    """
    walk = _Walk(model)
    _refuse(list(walk.of_functions()), walk.nodes)


def _refuse(found: list[Offence], nodes: int) -> None:
    if not found:
        return
    first, others = found[0], found[1:]
    also = [one.place for one in others[: _NAMED - 1]]
    rest = [f"{len(others) - len(also)} more"] if len(others) > len(also) else []
    more = "; also " + ", ".join(also + rest) if others else ""
    count = f"{len(found)} of {nodes} nodes"
    raise ExportError(f"TensorRT does not take {count}: {first.place}: {first.why}: {first.remedy}{more}")


class _Walk:
    """One pass over a model, which counts nodes as it goes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = 0
        self._opset = next((entry.version for entry in model.opset_import if entry.domain in _DOMAINS), 0)
        if self._opset not in support.OPSETS:
            first, last = support.OPSETS[0], support.OPSETS[-1]
            raise ExportError(f"the graph is of opset {self._opset}, TensorRT takes {first} to {last}: export again")
        self._model, self._complete = _typed(model)
        self._functions = {(function.domain, function.name) for function in model.functions}

    def of_graph(self) -> Iterator[Offence]:
        graph = self._model.graph
        outside = Scope(inputs=frozenset(entry.name for entry in graph.input), complete=self._complete)
        yield from self._each(graph.node, outside.inside(graph), "")

    def of_functions(self) -> Iterator[Offence]:
        for function in self._model.functions:
            scope = Scope(constants=constants_of(function.node))
            yield from self._each(function.node, scope, f"function {function.domain}::{function.name}")

    def _each(self, nodes: Iterable[onnx.NodeProto], scope: Scope, where: str) -> Iterator[Offence]:
        for node in nodes:
            self.nodes += 1
            name = node.name or next(iter(node.output), "a node without a name")
            operator = node.op_type if node.domain in _DOMAINS else f"{node.domain}::{node.op_type}"
            for why, remedy in self._reasons(node, scope):
                yield Offence(name, operator, where, why, remedy)
                break  # one reason a node: others often follow from the first
            for attribute in node.attribute:
                inner = f"{attribute.name} of {name}" + (f" in {where}" if where else "")
                for branch in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
                    yield from self._each(branch.node, _branch_scope(scope, branch), inner)

    def _reasons(self, node: onnx.NodeProto, scope: Scope) -> Iterator[tuple[str, str]]:
        if (node.domain, node.op_type) in self._functions:
            return
        if node.domain not in _DOMAINS:
            yield f"the domain {node.domain} is not ONNX's own", "restate it in operators of the standard"
        elif node.op_type not in support.TYPES:
            yield f"{support.SOURCE} does not have it", "restate it in operators that TensorRT has"
        else:
            yield from reasons(node, scope, self._opset)


def _branch_scope(scope: Scope, branch: onnx.GraphProto) -> Scope:
    inside = scope.inside(branch)
    if scope.types is None:  # in a function: types stay unknown
        return Scope(constants=inside.constants)
    return inside


def _typed(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """The model with the types of its values, in branches too, and whether they are all known."""
    # Being strict it stops at the first operator that ONNX does not know: the walk names it and knows less behind it.
    for strict in (True, False):
        with contextlib.suppress(onnx.shape_inference.InferenceError):
            inferred = onnx.shape_inference.infer_shapes(
                model, check_type=strict, strict_mode=strict, data_prop=strict
            )
            return inferred, strict
    return model, False
