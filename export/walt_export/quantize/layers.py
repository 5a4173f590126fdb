"""Which nodes of a WALT-Net's graph compute with integers, and which parts can be left out of that.

A layer is a node with weights. What joins layers (sums, rectifiers, enlarging) computes with integers where all that
it takes comes from layers that do; so box decoding, suppression, pooling of regions and all that follows them stay in
float without being named, and so do functions of a domain of our own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import onnx

LAYERS: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""ONNX Runtime computes ConvTranspose in float even so, but is faster where integers come before and after it."""
JOINTS: Final = ("Add", "Relu", "Resize", "MaxPool")

OUTPUTS: Final = "outputs"
ENTRANCE: Final = "entrance"
FINEST: Final = ("backbone.bottom_up.stages.0", "backbone.bottom_up.stages.1")
"""Of the backbone's way up, the stages that see most."""
PARTS: Final = (OUTPUTS, "backbone.top_down", "proposal_head", ENTRANCE, *FINEST, "box_head", "branch")
"""What is left in float one after another, until the gate passes.

Ordered by what INT8 loses in a part against what float costs there, as measured on the general network: the layers
that give scores, boxes and maps themselves; the pyramid's way down; what proposes; the first layer, which sees the
picture and the empty scene, and is large; the finest stages, of which all others see; then whole heads. The rest of
the backbone's way up never is.
"""


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a graph that can compute with integers.

    Attributes:
        weights: By node name, the name of the initialiser with its weights; in the graph's order.
        parts: Names of the nodes of each part; a node may be in several.
    """

    weights: dict[str, str]
    parts: dict[str, frozenset[str]]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> Layers:
        """Finds them; weights are initialisers, named as in the network: `net.box_head.first.weight`."""
        constants = {initializer.name for initializer in graph.initializer}
        weights = {
            node.name: node.input[1] for node in graph.node if node.op_type in LAYERS and node.input[1] in constants
        }
        parts = {name: frozenset(n for n, w in weights.items() if w.startswith(f"net.{name}.")) for name in PARTS}
        parts[OUTPUTS] = _outputs(graph, frozenset(weights))
        parts[ENTRANCE] = frozenset(list(weights)[:1])
        return cls(weights, parts)

    def without(self, parts: Iterable[str]) -> frozenset[str]:
        """The names of all layers but those of some parts."""
        return frozenset(self.weights).difference(*(self.parts[part] for part in parts))


def with_joints(graph: onnx.GraphProto, layers: frozenset[str]) -> list[str]:
    """The names of the nodes that compute with integers where `layers` do, in the graph's order."""
    names: list[str] = []
    made: set[str] = set()
    for node in graph.node:
        taken = node.input[:1] if node.op_type == "Resize" else node.input  # the others say how large
        if node.name in layers or (node.op_type in JOINTS and made.issuperset(taken)):
            names.append(node.name)
            made.update(node.output)
    return names


def _outputs(graph: onnx.GraphProto, layers: frozenset[str]) -> frozenset[str]:
    """Layers whose answer reaches no other layer directly or through joints: logits and offsets."""
    reaching: set[str] = set()
    found = set()
    for node in reversed(graph.node):
        is_layer = node.name in layers
        if is_layer and reaching.isdisjoint(node.output):
            found.add(node.name)
        if is_layer or (node.op_type in JOINTS and not reaching.isdisjoint(node.output)):
            reaching.update(node.input)
    return frozenset(found)
