from __future__ import annotations

import numpy as np
import onnx
import pytest
from walt_export.quantize.layers import ENTRANCE, OUTPUTS, Layers, with_joints

WEIGHTS = {
    "a": "net.backbone.a",
    "b": "net.backbone.b",
    "c": "net.proposal_head.c",
    "d": "net.box_head.d",
    "e": "net.box_head.e",
    "u": "net.branch.up",
    "shape": "shape",
    "one": "one",
}
GRAPH = """
net (float[1,3,8,8] image) => (float[N,4] boxes, float[N,2] scores)
{
    [A] conv = Conv <pads = [1, 1, 1, 1]> (image, a)
    [ra] ra = Relu (conv)
    [B] back = Conv (ra, b)
    [sum] sum = Add (back, ra)
    [rs] rs = Relu (sum)
    [larger] larger = Resize (rs, , shape)
    [C] logits = Conv (larger, c)
    [shift] shifted = Add (logits, one)
    [off] off = Add (image, one)
    [suppress] kept = walt.Suppress (shifted, off)
    [flat] flat = Reshape (kept, shape)
    [D] hidden = Gemm <transB = 1> (flat, d)
    [rd] rd = Relu (hidden)
    [E] scores = Gemm <transB = 1> (rd, e)
    [exp] boxes = Exp (hidden)
    [up] up = ConvTranspose (rs, u)
}
"""


@pytest.fixture(scope="module")
def graph() -> onnx.GraphProto:
    """Weights whose names say where in the network they are, which the parser's names cannot."""
    parsed = onnx.parser.parse_graph(GRAPH)
    for node in parsed.node:
        for index, name in enumerate(node.input):
            node.input[index] = WEIGHTS.get(name, name)
    parsed.initializer.extend(
        onnx.numpy_helper.from_array(np.zeros(1, np.float32), name) for name in WEIGHTS.values()
    )
    return parsed


def test_layers_are_found_with_their_parts(graph: onnx.GraphProto) -> None:
    layers = Layers.of(graph)
    assert list(layers.weights) == ["A", "B", "C", "D", "E", "up"]
    assert layers.parts[OUTPUTS] == {"C", "E", "up"}
    assert layers.parts[ENTRANCE] == {"A"}
    assert layers.parts["proposal_head"] == {"C"}
    assert layers.parts["box_head"] == {"D", "E"}
    assert layers.parts["backbone.top_down"] == frozenset()
    assert layers.without([OUTPUTS, ENTRANCE]) == {"B", "D"}


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ([], ["A", "ra", "B", "sum", "rs", "larger", "C", "D", "rd", "E", "up"]),
        ([OUTPUTS], ["A", "ra", "B", "sum", "rs", "larger", "D", "rd"]),
        ([ENTRANCE], ["B", "C", "D", "rd", "E", "up"]),
        (["box_head"], ["A", "ra", "B", "sum", "rs", "larger", "C", "up"]),
    ],
)
def test_what_joins_layers_goes_with_them(graph: onnx.GraphProto, without: list[str], expected: list[str]) -> None:
    assert with_joints(graph, Layers.of(graph).without(without)) == expected
