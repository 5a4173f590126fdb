"""`AmodalNMS`: greedy suppression that spares who stands before or behind another.

Who goes depends on who stayed before it, which is a loop. Without one: with doubles S (S_ji = 1 where j, the better,
would suppress i), repeat kept <- (no kept j has S_ji = 1), beginning with all kept. After t rounds the first t are
right, whatever the others were, so that K rounds are exact for K candidates a picture; each is one product of a row
and a matrix.
"""

from __future__ import annotations

from typing import Final

import onnx
import torch
from torch import Tensor

from walt_edge.vision.amodal_ops import (
    AMODAL,
    LEAST_VISIBLE_PX,
    OCCLUDER,
    SAME_BOX_IOU,
    SAME_VISIBLE_IOU,
    THRESHOLD,
)
from walt_export.ops import lattice
from walt_export.ops.body import FLOAT, Body
from walt_train.model.branches.branch import MAP_SIDE

VERSION: Final = 2
INPUTS: Final = ("boxes", "labels", "pictures", "maps")


def name_for(most: int) -> str:
    """The operator for at most so many candidates a picture."""
    return f"AmodalNMS_v{VERSION}_k{most}"


@torch.library.custom_op("walt::amodal_nms", mutates_args=())
def amodal_nms(boxes: Tensor, labels: Tensor, pictures: Tensor, maps: Tensor, most: int) -> Tensor:
    """What `walt_edge.vision.amodal_ops.amodal_nms` keeps.

    Args:
        boxes: (N, 4) amodal boxes of positive sides, best first in each picture.
        labels: (N,) int64.
        pictures: (N,) int64, which picture of the batch.
        maps: (N, 3, 28, 28).
        most: Candidates of a picture, at most.

    Returns:
        (N,) bool.
    """
    doubles = _doubles(boxes, labels, pictures, maps)
    kept = doubles.new_ones(1, len(boxes))
    for _ in range(most):
        kept = (1 - kept @ doubles).relu()
    return kept[0] > 0


@amodal_nms.register_fake
def _(boxes: Tensor, labels: Tensor, pictures: Tensor, maps: Tensor, most: int) -> Tensor:
    return boxes.new_empty(boxes.shape[0], dtype=torch.bool)


def _doubles(boxes: Tensor, labels: Tensor, pictures: Tensor, maps: Tensor) -> Tensor:
    """(N, N) float32: 1 where the first, if it is kept, suppresses the second."""
    common = lattice.common_areas(boxes)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    near = (common >= SAME_BOX_IOU * (areas[:, None] + areas - common)) & (common > 0)
    rivals = near & (labels[:, None] == labels) & (pictures[:, None] == pictures)
    pairs = rivals.triu(diagonal=1).nonzero()
    visible = (maps[:, AMODAL] >= THRESHOLD) & (maps[:, OCCLUDER] < THRESHOLD)
    faint = visible.sum(dim=(1, 2)) * (areas / MAP_SIDE**2) < LEAST_VISIBLE_PX
    low = boxes[pairs][:, :, :2].amin(dim=1)
    high = boxes[pairs][:, :, 2:].amax(dim=1)
    points = [lattice.pair_lattice(low[:, side], high[:, side]) for side in (0, 1)]
    seen = [lattice.sample(boxes[one], maps[one, : OCCLUDER + 1], *points) for one in pairs.unbind(dim=1)]
    better, worse = ((one[:, AMODAL] >= THRESHOLD) & (one[:, OCCLUDER] < THRESHOLD) for one in seen)
    both, either = (better & worse).sum(dim=(1, 2)), (better | worse).sum(dim=(1, 2))
    double = faint[pairs[:, 1]] | (both >= SAME_VISIBLE_IOU * either.clamp(min=1))
    out = boxes.new_zeros(len(boxes), len(boxes))
    out[pairs[:, 0], pairs[:, 1]] = double.to(out.dtype)
    return out


def function(most: int, opset: int) -> onnx.FunctionProto:
    """The operator in standard ones: boxes, labels, pictures, maps to (N,) bool."""
    body = Body()
    rivals = body("And", _write_near(body), lattice.write_same(body, "labels"))
    rivals = body("And", rivals, lattice.write_same(body, "pictures"))
    places, better, worse = lattice.write_pairs(body, rivals, "boxes")
    double = body("Or", body("Gather", _write_faint(body), worse), _write_alike(body, better, worse))
    count = body("Shape", "boxes", start=0, end=1)
    none = body("Expand", body.number(0), body("Concat", count, count, axis=0))
    doubles = body("ScatterND", none, places, body("Cast", double, to=FLOAT))
    ones = kept = body("Expand", body.number(1), body("Concat", body.places(1), count, axis=0))
    for _ in range(most):
        kept = body("Relu", body("Sub", ones, body("MatMul", kept, doubles)))
    answer = body("Greater", body("Reshape", kept, body.places(-1)), body.number(0))
    return body.function(name_for(most), INPUTS, [answer], opset=opset)


def _write_near(body: Body) -> str:
    common, areas = lattice.write_common_areas(body, "boxes"), lattice.write_areas(body, "boxes")
    union = body("Sub", body("Add", areas, body("Transpose", areas, perm=[1, 0])), common)
    alike = body("GreaterOrEqual", common, body("Mul", union, body.number(SAME_BOX_IOU)))
    return body("And", alike, body("Greater", common, body.number(0)))


def _write_visible(body: Body, maps: str) -> str:
    whole, front = (lattice.write_layer(body, maps, layer) for layer in (AMODAL, OCCLUDER))
    there = body("GreaterOrEqual", whole, body.number(THRESHOLD))
    return body("And", there, body("Less", front, body.number(THRESHOLD)))


def _write_faint(body: Body) -> str:
    """(N,) bool: who shows next to nothing."""
    areas = body("Squeeze", lattice.write_areas(body, "boxes"), body.places(1))
    cell_px = body("Div", areas, body.number(MAP_SIDE**2))
    shown_px = body("Mul", lattice.write_counts(body, _write_visible(body, "maps")), cell_px)
    return body("Less", shown_px, body.number(LEAST_VISIBLE_PX))


def _write_alike(body: Body, better: str, worse: str) -> str:
    """(P,) bool: who shows the same, of pairs by their places (P,)."""
    boxes = [body("Gather", "boxes", side, axis=0) for side in (better, worse)]
    (x0, y0, x1, y1), (u0, v0, u1, v1) = (lattice.write_sides(body, box) for box in boxes)
    points = [
        lattice.write_lattice(body, body("Min", x0, u0), body("Max", x1, u1)),
        lattice.write_lattice(body, body("Min", y0, v0), body("Max", y1, v1)),
    ]
    layers = body("Slice", "maps", body.places(0), body.places(OCCLUDER + 1), body.places(1))
    one, other = (
        _write_visible(body, lattice.write_sample(body, box, body("Gather", layers, side, axis=0), *points))
        for box, side in zip(boxes, (better, worse), strict=True)
    )
    both, either = (lattice.write_counts(body, body(kind, one, other)) for kind in ("And", "Or"))
    least = body("Mul", body("Max", either, body.number(1)), body.number(SAME_VISIBLE_IOU))
    return body("GreaterOrEqual", both, least)
