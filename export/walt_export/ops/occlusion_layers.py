"""`OcclusionLayers`: what each object shows, what of it is hidden, how large a part, how surely."""

from __future__ import annotations

from typing import Final

import onnx
import torch
from torch import Tensor

from walt_edge.vision.amodal_ops import AMODAL, OCCLUDER, THRESHOLD
from walt_export.ops import lattice
from walt_export.ops.body import Body

NAME: Final = "OcclusionLayers_v1"
INPUTS: Final = ("maps",)


@torch.library.custom_op("walt::occlusion_layers", mutates_args=())
def occlusion_layers(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `walt_edge.vision.amodal_ops.occlusion_layers` gives.

    Args:
        maps: (N, 3, h, w): amodal, occluder, occluded.

    Returns:
        visible: (N, h, w) bool.
        hidden: (N, h, w) bool.
        fractions: (N,) float32, 0..1.
        uncertainties: (N,) float32, 0..1.
    """
    whole, front = maps[:, AMODAL], maps[:, OCCLUDER]
    there, covered = whole >= THRESHOLD, front >= THRESHOLD
    hidden = there & covered
    least = there.sum(dim=(1, 2)).clamp(min=1)
    chosen = torch.where(there, whole * torch.where(covered, front, 1 - front), 1 - whole)
    wrong = (1 - chosen).sum(dim=(1, 2))
    return there & ~covered, hidden, hidden.sum(dim=(1, 2)) / least, (wrong / least).clamp(max=1)


@occlusion_layers.register_fake
def _(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cells = maps.new_empty(maps.shape[0], *maps.shape[2:], dtype=torch.bool)
    figures = maps.new_empty(maps.shape[0])
    return cells, torch.empty_like(cells), figures, torch.empty_like(figures)


def function(opset: int) -> onnx.FunctionProto:
    """The operator in standard ones."""
    body = Body()
    half, one = body.number(THRESHOLD), body.number(1)
    whole, front = (lattice.write_layer(body, "maps", layer) for layer in (AMODAL, OCCLUDER))
    there, covered = (body("GreaterOrEqual", layer, half) for layer in (whole, front))
    visible, hidden = body("And", there, body("Not", covered)), body("And", there, covered)
    least = body("Max", lattice.write_counts(body, there), one)
    split = body("Where", covered, front, body("Sub", one, front))
    chosen = body("Where", there, body("Mul", whole, split), body("Sub", one, whole))
    wrong = body("ReduceSum", body("Sub", one, chosen), body.places(1, 2), keepdims=0)
    fractions = body("Div", lattice.write_counts(body, hidden), least)
    uncertainties = body("Min", body("Div", wrong, least), one)
    return body.function(NAME, INPUTS, [visible, hidden, fractions, uncertainties], opset=opset)
