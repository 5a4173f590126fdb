"""`AmodalPaste`: every map as a mask of the whole picture; for who wants pictures of masks straight from the graph.

By default a graph does without it: an agent pastes the few objects that it keeps, each in its own box.
"""

from __future__ import annotations

from typing import Final

import onnx
import torch
from torch import Tensor

from walt_edge.vision.amodal_ops import THRESHOLD
from walt_export.ops import lattice
from walt_export.ops.body import FLOAT, Body

NAME: Final = "AmodalPaste_v1"
INPUTS: Final = ("boxes", "maps", "size_hw")


@torch.library.custom_op("walt::amodal_paste", mutates_args=())
def amodal_paste(boxes: Tensor, maps: Tensor, height: int, width: int) -> Tensor:
    """What `walt_edge.vision.amodal.amodal_paste` gives.

    Args:
        boxes: (N, 4) amodal boxes of positive sides, pixels.
        maps: (N, L, 28, 28).
        height: Of the picture, pixels.
        width: The same.

    Returns:
        (N, L, height, width) bool.
    """
    across, down = (
        (torch.arange(side, device=boxes.device) + 0.5).expand(len(boxes), side) for side in (width, height)
    )
    return lattice.sample(boxes, maps, across, down) >= THRESHOLD


@amodal_paste.register_fake
def _(boxes: Tensor, maps: Tensor, height: int, width: int) -> Tensor:
    return maps.new_empty(*maps.shape[:2], height, width, dtype=torch.bool)


def function(opset: int) -> onnx.FunctionProto:
    """The operator in standard ones; the size is an int64 input (2,)."""
    body = Body()
    down, across = (_write_centres(body, side) for side in (0, 1))
    masks = lattice.write_sample(body, "boxes", "maps", across, down)
    return body.function(NAME, INPUTS, [body("GreaterOrEqual", masks, body.number(THRESHOLD))], opset=opset)


def _write_centres(body: Body, side: int) -> str:
    """(1, S): the centres of pixels along one side."""
    length = body("Gather", "size_hw", body.place(side))
    places = body("Range", body.place(0), length, body.place(1))
    centres = body("Add", body("Cast", places, to=FLOAT), body.number(0.5))
    return body("Unsqueeze", centres, body.places(0))
