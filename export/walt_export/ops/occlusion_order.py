"""`OcclusionOrder`: of two objects that overlap, which stands before the other."""

from __future__ import annotations

from typing import Final

import onnx
import torch
from torch import Tensor

from walt_edge.vision.amodal_ops import AMODAL, OCCLUDED, OCCLUDER, THRESHOLD
from walt_export.ops import lattice
from walt_export.ops.body import FLOAT, Body

NAME: Final = "OcclusionOrder_v1"
INPUTS: Final = ("boxes", "pictures", "maps")


@torch.library.custom_op("walt::occlusion_order", mutates_args=())
def occlusion_order(boxes: Tensor, pictures: Tensor, maps: Tensor) -> Tensor:
    """What `walt_edge.vision.amodal_ops.occlusion_order` gives.

    Args:
        boxes: (N, 4) amodal boxes of positive sides.
        pictures: (N,) int64, which picture of the batch.
        maps: (N, 3, 28, 28).

    Returns:
        (N, N) float32: how surely the first hides the second, 0..1.
    """
    meeting = (lattice.common_areas(boxes) > 0) & (pictures[:, None] == pictures)
    pairs = meeting.triu(diagonal=1).nonzero()
    low, high = boxes[pairs][:, :, :2].amax(dim=1), boxes[pairs][:, :, 2:].amin(dim=1)
    points = [lattice.pair_lattice(low[:, side], high[:, side]) for side in (0, 1)]
    one, other = (lattice.sample(boxes[side], maps[side], *points) for side in pairs.unbind(dim=1))
    both = (one[:, AMODAL] >= THRESHOLD) & (other[:, AMODAL] >= THRESHOLD)
    count = both.sum(dim=(1, 2))
    lead = other[:, OCCLUDER] - one[:, OCCLUDER] + one[:, OCCLUDED] - other[:, OCCLUDED]
    first = 0.5 + (lead * both).sum(dim=(1, 2)) / count.clamp(min=1) / 4
    out = boxes.new_zeros(len(boxes), len(boxes))
    out[pairs[:, 0], pairs[:, 1]] = first * (count > 0)
    out[pairs[:, 1], pairs[:, 0]] = (1 - first) * (count > 0)
    return out


@occlusion_order.register_fake
def _(boxes: Tensor, pictures: Tensor, maps: Tensor) -> Tensor:
    return boxes.new_empty(boxes.shape[0], boxes.shape[0])


def function(opset: int) -> onnx.FunctionProto:
    """The operator in standard ones."""
    body = Body()
    touching = body("Greater", lattice.write_common_areas(body, "boxes"), body.number(0))
    meeting = body("And", touching, lattice.write_same(body, "pictures"))
    places, first, second = lattice.write_pairs(body, meeting, "boxes")
    both, lead = _write_overlap(body, first, second)
    count = lattice.write_counts(body, both)
    total = body("ReduceSum", body("Mul", lead, body("Cast", both, to=FLOAT)), body.places(1, 2), keepdims=0)
    mean = body("Div", total, body("Max", count, body.number(1)))
    before = body("Add", body("Div", mean, body.number(4)), body.number(0.5))
    there = body("Cast", body("Greater", count, body.number(0)), to=FLOAT)
    size = body("Shape", "boxes", start=0, end=1)
    order = body("Expand", body.number(0), body("Concat", size, size, axis=0))
    order = body("ScatterND", order, places, body("Mul", before, there))
    reverse = body("Concat", *(body("Unsqueeze", side, body.places(1)) for side in (second, first)), axis=1)
    behind = body("Mul", body("Sub", body.number(1), before), there)
    return body.function(NAME, INPUTS, [body("ScatterND", order, reverse, behind)], opset=opset)


def _write_overlap(body: Body, first: str, second: str) -> tuple[str, str]:
    """Of pairs by their places (P,): where both are, and by how much the first leads there, (P, 28, 28)."""
    boxes = [body("Gather", "boxes", side, axis=0) for side in (first, second)]
    (x0, y0, x1, y1), (u0, v0, u1, v1) = (lattice.write_sides(body, box) for box in boxes)
    points = [
        lattice.write_lattice(body, body("Max", x0, u0), body("Min", x1, u1)),
        lattice.write_lattice(body, body("Max", y0, v0), body("Min", y1, v1)),
    ]
    one, other = (
        lattice.write_sample(body, box, body("Gather", "maps", side, axis=0), *points)
        for box, side in zip(boxes, (first, second), strict=True)
    )
    there = [
        body("GreaterOrEqual", lattice.write_layer(body, maps, AMODAL), body.number(THRESHOLD))
        for maps in (one, other)
    ]
    front = body("Sub", lattice.write_layer(body, other, OCCLUDER), lattice.write_layer(body, one, OCCLUDER))
    behind = body("Sub", lattice.write_layer(body, one, OCCLUDED), lattice.write_layer(body, other, OCCLUDED))
    return body("And", *there), body("Add", front, behind)
