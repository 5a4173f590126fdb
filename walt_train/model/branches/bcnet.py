"""BCNet: two overlapping layers, each with a graph convolution (Ke, Tai, Tang, CVPR 2021).

The first layer finds the occluder's mask and contour. What it has found is added to the RoI's features, from which
the second layer finds the occludee's: knowing where the occluder ends, it need not take that for the object's own
end. In each layer a graph convolution joins cells that lie apart, as an object's parts on both sides of a pole do.

What differs from the original, and why:
- The occludee is always taught as the whole object, as the original is only on amodal data.
- The occluder is taught on all boxes; the original draws as many free ones as occluded ones, as few boxes of its data
  are occluded. Composites are occluded about half the time.
- Contours come from soft masks by the same morphology; see `contours`.
- Layers may be narrower than the features; a 1x1 convolution then leads the occluder's back to their width.
- A contour's cross-entropy counts once, at the published weight; the released code adds it twice.
- Normalisation, channels and soft targets are those of `mask_rcnn`, for the reasons told there.
There is no layer for what the object itself hides: the point in which WALT-Net differs.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from walt_train.model.branches.branch import Branch, Layer, Maps, Raw
from walt_train.model.branches.mask_rcnn import TOWER, MapPredictor, binary_cross_entropy, conv_tower, covered
from walt_train.recipes.parts import BcnetBranch

OCCLUDER_WEIGHT: Final = 0.25
"""Of the occluder's mask in the loss, as the authors have it; the occludee's is 1."""
CONTOUR_WEIGHT: Final = 0.5
"""Of either contour."""


class BcnetHeads(Branch):
    """The occluder's layer, the occludee's, and a mask and a contour of each; classes are not told apart.

    Args:
        config: Channels.
        inside: Channels of the features.
    """

    def __init__(self, config: BcnetBranch, inside: int) -> None:
        super().__init__()
        width = config.width
        self.occluder = GraphLayer(inside, width)
        self.handed_on = nn.Identity() if width == inside else nn.Conv2d(width, inside, 1)
        self.occludee = GraphLayer(inside, width)
        names = ("occluder", "occluder_contour", "amodal", "amodal_contour")
        self.predictors = nn.ModuleDict({name: MapPredictor(width, 1) for name in names})

    def forward(self, features: Tensor, context: Tensor) -> Raw:
        """Logits (R, 28, 28): `occluder`, `occluder_contour`, `amodal`, `amodal_contour`."""
        before = self.occluder(features)
        behind = self.occludee(features + self.handed_on(before))
        return {
            name: predictor(before if name.startswith("occluder") else behind).squeeze(1)
            for name, predictor in self.predictors.items()
        }

    def losses(self, raw: Raw, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`loss_amodal`, `loss_occluder`, `loss_amodal_contour` and `loss_occluder_contour`."""
        amodal, occluder = covered(targets, Layer.AMODAL), covered(targets, Layer.OCCLUDER)
        taught = {
            "amodal": (1.0, amodal),
            "occluder": (OCCLUDER_WEIGHT, occluder),
            "amodal_contour": (CONTOUR_WEIGHT, contours(amodal)),
            "occluder_contour": (CONTOUR_WEIGHT, contours(occluder)),
        }
        return {
            f"loss_{name}": weight * binary_cross_entropy(raw[name], shares)
            for name, (weight, shares) in taught.items()
        }

    def maps(self, raw: Raw, labels: Tensor) -> Maps:
        """The object and its occluder."""
        amodal, occluder = raw["amodal"].sigmoid(), raw["occluder"].sigmoid()
        return Maps(torch.stack([amodal, occluder, torch.zeros_like(amodal)], dim=1))


class GraphLayer(nn.Module):
    """Two convolutions, a graph convolution, two convolutions."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.near = conv_tower(inside, width, TOWER // 2)
        self.graph = GraphConvolution(width)
        self.after = conv_tower(width, width, TOWER - TOWER // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, 14, 14) to (R, width, 14, 14)."""
        joined: Tensor = self.after(self.graph(self.near(x)))
        return joined


class GraphConvolution(nn.Module):
    """A graph convolution over all cells: Z = X + norm(A X W), with A the softmax of the cells' likeness.

    Nodes are cells; the edge from cell i to cell j weighs softmax_j of theta(x_i) . phi(x_j) / sqrt(channels). This
    is the non-local operator (Wang et al. 2018) with a residual, as BCNet has it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(width, width, 1, bias=False)
        self.phi = nn.Conv2d(width, width, 1, bias=False)
        self.value = nn.Conv2d(width, width, 1, bias=False)
        self.out = nn.Conv2d(width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.scale = 1 / math.sqrt(width)

    def affinity(self, x: Tensor) -> Tensor:
        """(R, C, h, w) to (R, h * w, h * w): rows add up to 1."""
        from_cell, to_cell = self.theta(x).flatten(2), self.phi(x).flatten(2)
        likeness: Tensor = from_cell.transpose(1, 2) @ to_cell * self.scale
        return likeness.softmax(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        gathered = self.value(x).flatten(2) @ self.affinity(x).transpose(1, 2)
        joined: Tensor = x + self.norm(self.out(gathered.view(x.shape)))
        return joined


def contours(shares: Tensor) -> Tensor:
    """The morphological gradient of soft masks: the contour, one cell to each side.

    The largest share of a cell and its four neighbours, minus the smallest (Beucher's gradient: dilation minus
    erosion; Rivest, Soille, Beucher 1993). For masks of 0 and 1 this is BCNet's contour, the cells in which a mask
    grown by a cross and one shrunk by it differ. For a straight soft edge along the grid it is exactly the share of
    each cell that lies within one cell's side of the edge. The box's own border is no contour: what lies outside it
    is not looked at.

    Args:
        shares: (R, h, w), 0..1.

    Returns:
        The same shape, 0..1.
    """
    maps = shares.unsqueeze(1)
    return (_largest_around(maps) + _largest_around(-maps)).squeeze(1)


def _largest_around(maps: Tensor) -> Tensor:
    """The maximum over a cross of five cells: (R, 1, h, w)."""
    upright = functional.max_pool2d(maps, (3, 1), 1, (1, 0))
    level = functional.max_pool2d(maps, (1, 3), 1, (0, 1))
    return torch.maximum(upright, level)
