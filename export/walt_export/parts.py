"""Which part of the network a node of its ONNX graph belongs to.

A part begins at a node that reads weights: the exporter names those after the module that learned them. What comes
after it without weights of its own belongs to it too; of several parts that are read the one furthest down `Part`
counts. Three things begin anew:

- what picks some of many (TopK, NonMaxSuppression, NonZero), and whatever follows it without weights, is `SELECTION`:
  boxes decoded, suppressed, sorted and gathered;
- RoIAlign belongs to whoever reads its cells with weights;
- every function of the domain `walt` is a part by itself, `op NAME`; what follows it is selection.

What the image goes through before the first weights is `INPUT`; what is left over is `REST`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import onnx

DOMAIN: Final = "walt"
"""Of the model-local functions."""
INPUT: Final = "input"
SELECTION: Final = "selection, NMS"
REST: Final = "rest"
_OP: Final = "op "
_HEADS: Final = r"(heads\.)?(amodal|occluder|occluded)\.|quality\."
_WEIGHTS: Final = (
    (r"net\.input\.", INPUT),
    (r"net\.backbone\.bottom_up\.(stem|inner\.conv1|inner\.bn1|inner\.patch_embed)\.", "backbone: stem"),
    (r"net\.backbone\.bottom_up\.", "backbone: stages"),
    (r"net\.backbone\.top_down\.", "backbone: top down"),
    (r"net\.proposal_head\.", "proposals"),
    (r"net\.box_head\.", "box head"),
    (rf"net\.branch\.(?!{_HEADS})", "masks: shared"),
    (r"net\.branch\.(heads\.)?amodal\.", "masks: amodal"),
    (r"net\.branch\.(heads\.)?occluder\.", "masks: occluder"),
    (r"net\.branch\.(heads\.)?occluded\.", "masks: occluded"),
    (r"net\.branch\.quality\.", "masks: quality"),
)
PARTS: Final = (*(part for _, part in _WEIGHTS), SELECTION, REST)
"""In the order of the network; `op NAME` stands before `REST`."""
_REARRANGED: Final = r"^fused |_nchwc$|_token_\d+$"
_PICKS: Final = frozenset({"TopK", "NonMaxSuppression", "NonZero"})


@dataclass(frozen=True, slots=True)
class Parts:
    """What belongs to what.

    Attributes:
        nodes: Part of each node of the graph, in the graph's order.
        names: Part of each node that has a name.
        tensors: Part of the node that makes each tensor.
        initializers: Part of each initialiser.
    """

    nodes: tuple[str, ...]
    names: Mapping[str, str]
    tensors: Mapping[str, str]
    initializers: Mapping[str, str]


def find_parts(graph: onnx.GraphProto) -> Parts:
    """Sorts the nodes and initialisers of a graph; functions are not looked into."""
    tensors: dict[str, str] = {}
    own = [_begun(node) for node in graph.node]
    readers = _readers(graph)
    nodes = []
    for index, node in enumerate(graph.node):
        part = own[index]
        if node.op_type == "RoiAlign":
            part = _first_reader(index, own, readers)
        part = part or max((tensors[name] for name in node.input if name in tensors), key=_rank, default="")
        if part.startswith(_OP) and not own[index]:
            part = SELECTION
        # What follows constants alone follows nothing: it waits for a reader.
        part = part or (INPUT if _reads_image(node, graph) else "")
        nodes.append(part)
        if part:
            tensors |= dict.fromkeys(node.output, part)
    for index in reversed(range(len(nodes))):
        nodes[index] = nodes[index] or next((nodes[one] for one in readers[index] if nodes[one]), REST)
        tensors |= dict.fromkeys(graph.node[index].output, nodes[index])
    names = {node.name: part for node, part in zip(graph.node, nodes, strict=True) if node.name}
    return Parts(tuple(nodes), names, tensors, dict(_initializers(graph, nodes)))


def carry_parts(graph: onnx.GraphProto, parts: Parts) -> list[str]:
    """Parts of the nodes of a graph that was made from the one that `parts` describes.

    Where functions were inlined or a runtime has fused and rearranged nodes, most tensors and nodes keep their names:
    what makes a known tensor or has a known name belongs where that did, and anything else to whoever reads it.

    Args:
        graph: The new one.
        parts: Of the old one.
    """
    readers = _readers(graph)
    nodes = [_carried(node, parts) for node in graph.node]
    for index in reversed(range(len(nodes))):
        nodes[index] = nodes[index] or next((nodes[one] for one in readers[index] if nodes[one]), REST)
    return nodes


def part_of_weight(name: str) -> str:
    """The part that a weight's name tells; "" where it tells none."""
    return next((part for pattern, part in _WEIGHTS if re.match(pattern, name)), "")


def ordered(parts: Iterable[str]) -> list[str]:
    """Names of parts in the network's order, each once."""
    return sorted(set(parts), key=lambda part: (_rank(part), part))


def op_part(function: str) -> str:
    """The part that a function of the domain `walt` is."""
    return f"{_OP}{function}"


def _rank(part: str) -> float:
    return PARTS.index(part) if part in PARTS else PARTS.index(REST) - 0.5


def _begun(node: onnx.NodeProto) -> str:
    """The part that begins at a node, or "" where it goes on with what it reads."""
    if node.domain == DOMAIN:
        return op_part(node.op_type)
    if node.op_type in _PICKS:
        return SELECTION
    # A weight may come through a Cast or DequantizeLinear, whose output has its name.
    named = (part_of_weight(name) for name in (*node.input, *node.output))
    return next((part for part in named if part), "")


def _carried(node: onnx.NodeProto, parts: Parts) -> str:
    kept = (parts.tensors[name] for name in node.output if name in parts.tensors)
    # ONNX Runtime names what it has rearranged after the node before, or after the tensor that this one made.
    name = re.sub(_REARRANGED, "", node.name)
    return next(kept, "") or parts.names.get(name, "") or parts.tensors.get(name, "")


def _readers(graph: onnx.GraphProto) -> list[list[int]]:
    """For each node those that read it."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    readers: list[list[int]] = [[] for _ in graph.node]
    for index, node in enumerate(graph.node):
        for name in node.input:
            if name in maker:
                readers[maker[name]].append(index)
    return readers


def _first_reader(index: int, own: list[str], readers: list[list[int]]) -> str:
    """The nearest part downstream that begins at weights."""
    waiting = [index]
    while waiting:
        found = next((own[one] for one in waiting if own[one] and own[one] != SELECTION), "")
        if found:
            return found
        waiting = sorted({reader for one in waiting for reader in readers[one]})
    return ""


def _reads_image(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    return any(name == entry.name for entry in graph.input for name in node.input)


def _initializers(graph: onnx.GraphProto, nodes: list[str]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for node, part in zip(graph.node, nodes, strict=True):
        for name in node.input:
            first.setdefault(name, part)
    for one in graph.initializer:
        yield one.name, part_of_weight(one.name) or first.get(one.name, REST)
