"""WALT-Net in plain torch: proposals, amodal boxes with a class, three layer maps for each.

Training wraps these parts as mmdet's (`mm_adapter`); what a checkpoint holds and what is exported is this module
alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms, roi_align

from walt_train.model.backbone import Backbone, PictureInput
from walt_train.model.branches import build_branch
from walt_train.model.branches.branch import ROI_SIDE, Maps
from walt_train.recipes.recipe import Network

STRIDE = 4
"""Of the feature map, pixels of the input."""
BOX_SIDE = 7
"""Cells of the RoI that the box head reads."""
SAMPLES = 2
"""Points a side that RoIAlign averages in each cell."""
CLASSES = 2
"""Person and vehicle: class c is Label c + 1; in the box head's scores the background comes last, as mmdet has it."""
BOX_SPREAD = (0.1, 0.1, 0.2, 0.2)
"""Standard deviations by which the box head's deltas are divided in training."""
LARGEST_LOG_GROWTH = abs(math.log(16 / 1000))
"""Deltas beyond this do not grow a box further, as mmdet has it."""


class ProposalHead(nn.Module):
    """Objectness and box deltas of every anchor, at every cell of the one feature map or every `step` cells."""

    def __init__(self, inside: int, anchors: int, step: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, inside, 3, step, padding=1)
        self.objectness = nn.Conv2d(inside, anchors, 1)
        self.deltas = nn.Conv2d(inside, anchors * 4, 1)
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to logits (B, A, h / step, w / step) and deltas (B, 4A, h / step, w / step)."""
        x = functional.relu(self.conv(feature))
        return self.objectness(x), self.deltas(x)


class BoxHead(nn.Module):
    """Class and box deltas of RoI features, and where told so those of the visible box."""

    def __init__(self, inside: int, width: int, *, visible: bool) -> None:
        super().__init__()
        self.first = nn.Linear(inside * BOX_SIDE * BOX_SIDE, width)
        self.second = nn.Linear(width, width)
        self.classes = nn.Linear(width, CLASSES + 1)
        self.deltas = nn.Linear(width, 4)
        self.visible_deltas = nn.Linear(width, 4) if visible else None
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (self.classes, self.deltas):
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, 7, 7) to logits (R, CLASSES + 1) and deltas (R, 4)."""
        x = self._read(features)
        return self.classes(x), self.deltas(x)

    def visible(self, features: Tensor) -> Tensor:
        """(R, C, 7, 7) of amodal boxes to the deltas (R, 4) that lead from them to what is seen."""
        assert self.visible_deltas is not None
        deltas: Tensor = self.visible_deltas(self._read(features))
        return deltas

    def _read(self, features: Tensor) -> Tensor:
        return functional.relu(self.second(functional.relu(self.first(features.flatten(1)))))


class WaltNet(nn.Module):
    """The whole network.

    Attributes:
        network: Its shape.
        anchors: (h * w * A, 4) float32 xyxy, pixels of the input; rows, then columns, then shapes.
    """

    anchors: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        assert network.anchors_wh, "anchors are fitted before a network is built"
        self.network = network
        width = network.feature_channels
        self.input = PictureInput(network.input_wh, background=network.background, position=network.position)
        self.backbone = Backbone(self.input.channels, network.backbone, width)
        self.proposal_head = ProposalHead(width, len(network.anchors_wh), network.proposal_stride // STRIDE)
        self.box_head = BoxHead(width, network.box_width, visible=network.visible_box)
        self.branch = build_branch(network.branch, width)
        self.register_buffer("anchors", _anchor_grid(network), persistent=False)

    def features(self, pictures: Tensor, scenes: Tensor | None = None, windows: Tensor | None = None) -> Tensor:
        """(B, H, W, 3) uint8 BGR to the feature map (B, C, H / 4, W / 4).

        In training a picture may be moved; then `scenes`, of the same shape, are the empty scene moved alike, and
        `windows` say where in the frame they lie (`PictureInput`).
        """
        feature: Tensor = self.backbone(self.input(pictures, scenes, windows))
        return feature

    def propose(self, feature: Tensor) -> Tensor:
        """Proposals (P, 4) xyxy, best first, of one picture's feature map (1, C, h, w)."""
        network = self.network
        objectness, deltas = self.proposal_head(feature)
        scores = objectness[0].permute(1, 2, 0).reshape(-1)
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        scores, best = scores.topk(min(network.proposals_before_nms, scores.shape[0]))
        boxes = self.clip(decode_boxes(self.anchors[best], deltas[best]))
        return boxes[nms(boxes, scores, network.nms_iou)[: network.proposals]]

    def classify(self, feature: Tensor, proposals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates, best first: boxes (N, 4), scores (N,), labels (N,) int64 Label values."""
        network = self.network
        logits, deltas = self.box_head(pool_rois(feature, _rois(proposals), BOX_SIDE))
        deltas = deltas * deltas.new_tensor(BOX_SPREAD)
        boxes = self.clip(decode_boxes(proposals, deltas)).repeat_interleave(CLASSES, dim=0)
        scores = logits.softmax(dim=1)[:, :CLASSES].reshape(-1)
        labels = torch.arange(1, CLASSES + 1, device=boxes.device).repeat(proposals.shape[0])
        sure = scores > network.score_floor
        boxes, scores, labels = boxes[sure], scores[sure], labels[sure]
        # Classes moved apart never overlap: one plain suppression does for all of them.
        apart = labels.to(boxes.dtype)[:, None] * (2.0 * max(network.input_wh))
        kept = nms(boxes + apart, scores, network.nms_iou)[: network.candidates]
        return boxes[kept], scores[kept], labels[kept]

    def masks(
        self, feature: Tensor, boxes: Tensor, labels: Tensor, pictures: Tensor | None = None
    ) -> tuple[Maps, Tensor | None]:
        """Layer maps and quality of boxes (N, 4) with Label values (N,); visible boxes (N, 4).

        `pictures` (N,) int64 says which of the feature maps each box is of; without it there is one picture.
        """
        rois = _rois(boxes) if pictures is None else torch.cat([pictures[:, None].to(boxes.dtype), boxes], dim=1)
        context = pool_rois(feature, rois, BOX_SIDE)
        maps = self.branch.maps(self.branch(pool_rois(feature, rois, ROI_SIDE), context), labels)
        if not self.network.visible_box:
            return maps, None
        deltas = self.box_head.visible(context)
        return maps, self.clip(decode_boxes(boxes, deltas * deltas.new_tensor(BOX_SPREAD)))

    def forward(self, image: Tensor, scene: Tensor | None = None) -> tuple[Tensor, ...]:
        """What `predict` does, in a way that can be traced."""
        feature = self.features(image, scene)
        boxes, scores, labels = self.classify(feature, self.propose(feature))
        (layers, quality), visible = self.masks(feature, boxes, labels)
        answer = [boxes, scores, labels, layers, *([] if visible is None else [visible])]
        if quality is None:
            return tuple(answer)
        # How surely it is there, times how well it is drawn.
        answer[1], order = (scores * quality).sort(descending=True)
        return tuple(part if part is answer[1] else part[order] for part in answer)

    @torch.no_grad()
    def predict(self, image: Tensor, scene: Tensor | None = None) -> tuple[Tensor, ...]:
        """What is in one letterboxed picture; call it in eval mode.

        Args:
            image: (1, H, W, 3) uint8 BGR.
            scene: The empty scene, of the same shape, in the place of the one that the network keeps.

        Returns:
            boxes: (N, 4) float32 amodal xyxy, pixels of the input, clipped to it.
            scores: (N,) float32, 0..1, falling.
            labels: (N,) int64 Label values.
            maps: (N, 3, 28, 28) float32, 0..1: amodal, occluder, occluded.
            visible_boxes: (N, 4) float32 xyxy of what is seen; only where the recipe says so.
        """
        return self.forward(image, scene)

    def clip(self, boxes: Tensor) -> Tensor:
        """Boxes (N, 4) xyxy without what leaves the input."""
        width, height = self.network.input_wh
        return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def _rois(boxes: Tensor) -> Tensor:
    """(N, 5) of the only picture's boxes (N, 4)."""
    return torch.cat([boxes.new_zeros(boxes.shape[0], 1), boxes], dim=1)


def pool_rois(feature: Tensor, rois: Tensor, side: int) -> Tensor:
    """RoIAlign of rois (R, 5), picture and xyxy in pixels of the input: (R, C, side, side)."""
    pooled: Tensor = roi_align(feature, rois, (side, side), 1 / STRIDE, SAMPLES, aligned=True)
    return pooled


def decode_boxes(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Moves and grows boxes (N, 4) xyxy by (dx, dy, dlogw, dlogh) in parts of their sides (Girshick et al. 2014)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + deltas[:, :2] * sides
    half = sides * deltas[:, 2:].clamp(-LARGEST_LOG_GROWTH, LARGEST_LOG_GROWTH).exp() / 2
    return torch.cat([centre - half, centre + half], dim=1)


def encode_boxes(boxes: Tensor, goals: Tensor) -> Tensor:
    """The deltas (N, 4) by which `decode_boxes` leads from boxes (N, 4) to goals (N, 4), xyxy of positive sides."""
    sides, wanted = boxes[:, 2:] - boxes[:, :2], goals[:, 2:] - goals[:, :2]
    moves = (goals[:, :2] + goals[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / (2 * sides)
    return torch.cat([moves, (wanted / sides).log()], dim=1)


def _anchor_grid(network: Network) -> Tensor:
    width, height = network.input_wh
    stride = network.proposal_stride
    rows = torch.arange(height // stride).view(-1, 1, 1) * stride + stride / 2
    columns = torch.arange(width // stride).view(1, -1, 1) * stride + stride / 2
    half = torch.tensor(network.anchors_wh) / 2
    half_w, half_h = half[:, 0].view(1, 1, -1), half[:, 1].view(1, 1, -1)
    sides = (columns - half_w, rows - half_h, columns + half_w, rows + half_h)
    shape = (height // stride, width // stride, len(network.anchors_wh))
    return torch.stack([side.expand(shape) for side in sides], dim=-1).reshape(-1, 4)
