"""Two objects on one lattice: their maps sampled at the same points, in torch and in ONNX.

`walt_edge.vision.amodal_ops` defines it. A sample is a product of three matrices: how much each row of cells counts
at each point, the map, how much each column counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from walt_edge.vision.amodal_ops import POINTS
from walt_export.ops.body import FLOAT, Body
from walt_train.model.branches.branch import MAP_SIDE

_PARTS = tuple((index + 0.5) / POINTS for index in range(POINTS))


def pair_lattice(low: Tensor, high: Tensor) -> Tensor:
    """Points (P, POINTS) of sides from `low` (P,) to `high` (P,)."""
    return low[:, None] + low.new_tensor(_PARTS) * (high - low)[:, None]


def sample(boxes: Tensor, maps: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Maps (P, L, h, w) of boxes (P, 4) at points across (P, S) and down (P, S'): (P, L, S', S)."""
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    rows = _hats(y0, y1, down, maps.shape[2])
    columns = _hats(x0, x1, across, maps.shape[3])
    return rows[:, None] @ maps @ columns.transpose(1, 2)[:, None]


def _hats(low: Tensor, high: Tensor, points: Tensor, cells: int) -> Tensor:
    at = ((points - low[:, None]) * (cells / (high - low))[:, None] - 0.5).clamp(0, cells - 1)
    weights = (1 - (at[:, :, None] - torch.arange(cells, device=at.device)).abs()).clamp(min=0)
    inside = (points >= low[:, None]) & (points < high[:, None])
    return weights * inside[:, :, None]


def common_areas(boxes: Tensor) -> Tensor:
    """(N, N) areas of the intersections of every two of (N, 4) boxes."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    return (high - low).clamp(min=0).prod(dim=2)


def write_common_areas(body: Body, boxes: str) -> str:
    """The same in a function's body."""
    x0, y0, x1, y1 = write_sides(body, boxes)
    width, height = (
        body("Relu", body("Sub", body("Min", high, _across(body, high)), body("Max", low, _across(body, low))))
        for low, high in ((x0, x1), (y0, y1))
    )
    return body("Mul", width, height)


def write_sides(body: Body, boxes: str) -> list[str]:
    """The columns x0, y0, x1, y1 (N, 1) of boxes (N, 4)."""
    return body.several("Split", 4, boxes, axis=1, num_outputs=4)


def write_areas(body: Body, boxes: str) -> str:
    """(N, 1) areas of boxes (N, 4)."""
    x0, y0, x1, y1 = write_sides(body, boxes)
    return body("Mul", body("Sub", x1, x0), body("Sub", y1, y0))


def write_same(body: Body, values: str) -> str:
    """(N, N) bool: which two of int64 values (N,) are equal."""
    return body("Equal", body("Unsqueeze", values, body.places(1)), body("Unsqueeze", values, body.places(0)))


def write_pairs(body: Body, wanted: str, boxes: str) -> tuple[str, str, str]:
    """Pairs of places i < j for which (N, N) bool `wanted` holds: places (P, 2), and those of either side (P,)."""
    count = body("Squeeze", body("Shape", boxes, start=0, end=1), body.places(0))
    places = body("Range", body.place(0), count, body.place(1))
    rows, columns = body("Unsqueeze", places, body.places(1)), body("Unsqueeze", places, body.places(0))
    pairs = body("NonZero", body("And", wanted, body("Less", rows, columns)))
    first, second = (body("Gather", pairs, body.place(side), axis=0) for side in (0, 1))
    return body("Transpose", pairs, perm=[1, 0]), first, second


def write_lattice(body: Body, low: str, high: str) -> str:
    """`pair_lattice` of sides (P, 1)."""
    return body("Add", low, body("Mul", body.numbers(_PARTS), body("Sub", high, low)))


def write_sample(body: Body, boxes: str, maps: str, across: str, down: str) -> str:
    """`sample` of maps of MAP_SIDE cells a side."""
    x0, y0, x1, y1 = write_sides(body, boxes)
    rows = body("Unsqueeze", _write_hats(body, y0, y1, down), body.places(1))
    columns = body("Transpose", _write_hats(body, x0, x1, across), perm=[0, 2, 1])
    return body("MatMul", body("MatMul", rows, maps), body("Unsqueeze", columns, body.places(1)))


def write_counts(body: Body, cells: str) -> str:
    """How many of the bool values (R, h, w) are set: (R,) float32."""
    return body("ReduceSum", body("Cast", cells, to=FLOAT), body.places(1, 2), keepdims=0)


def write_layer(body: Body, maps: str, layer: int) -> str:
    """One layer (R, h, w) of maps (R, L, h, w)."""
    return body("Gather", maps, body.place(layer), axis=1)


def _write_hats(body: Body, low: str, high: str, points: str) -> str:
    gain = body("Div", body.number(MAP_SIDE), body("Sub", high, low))
    at = body("Sub", body("Mul", body("Sub", points, low), gain), body.number(0.5))
    at = body("Clip", at, body.number(0), body.number(MAP_SIDE - 1))
    apart = body("Sub", body("Unsqueeze", at, body.places(2)), body.numbers(range(MAP_SIDE)))
    weights = body("Relu", body("Sub", body.number(1), body("Abs", apart)))
    inside = body("And", body("GreaterOrEqual", points, low), body("Less", points, high))
    return body("Mul", weights, body("Unsqueeze", body("Cast", inside, to=FLOAT), body.places(2)))


def _across(body: Body, column: str) -> str:
    return body("Transpose", column, perm=[1, 0])
