"""The network's forward pass restated for tracing: a batch of pictures in, instances of all of them out.

The trained module looks at one picture and lets lists grow and shrink. Here every stage keeps a fixed number of
places for each picture until the mask heads, so that a graph holds one suppression for the whole batch; behind it,
objects of all pictures follow one another and `pictures` says whose they are. The operators of `walt_export.ops` say
what is suppressed, what is hidden and what stands before what.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from walt_export.ops.amodal_nms import amodal_nms
from walt_export.ops.amodal_paste import amodal_paste
from walt_export.ops.box_nms import box_nms
from walt_export.ops.occlusion_layers import occlusion_layers
from walt_export.ops.occlusion_order import occlusion_order
from walt_train.model.waltnet import BOX_SIDE, BOX_SPREAD, CLASSES, WaltNet, decode_boxes, pool_rois


class TraceableWaltNet(nn.Module):
    """From letterboxed pictures to instances.

    Args:
        net: In eval mode.
        batch: Whether several pictures come at once; each instance then names its picture.
        paste: Whether masks of the whole input are given too.
    """

    def __init__(self, net: WaltNet, *, batch: bool = False, paste: bool = False) -> None:
        super().__init__()
        self.net = net
        self.batch, self.paste = batch, paste
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, H, W, 3) uint8 BGR to what `outputs` names, N instances, the best first within each picture.

        Pixels are normalised here, so that every runtime takes what a camera gives.
        """
        net = self.net
        feature = net.features(images)
        boxes, scores, labels, pictures, slots = self._candidates(feature, *self._proposals(feature))
        if torch.compiler.is_exporting():
            # The tracer asks whether a convolution will be given anything; the graph is the same for nothing.
            torch._check(boxes.shape[0] != 0)
        (maps, quality), visible = net.masks(feature, boxes, labels, pictures)
        found = {"boxes": boxes, "scores": scores, "labels": labels, "maps": maps, "pictures": pictures}
        if visible is not None:
            found["visible_boxes"] = visible
        if quality is not None:
            # How surely it is there, times how well it is drawn.
            found["scores"] = scores * quality
            found = _pick(found, self._best_first(found["scores"], pictures, slots, images.shape[0]))
        places = [found[name] for name in ("boxes", "labels", "pictures", "maps")]
        found = _pick(found, amodal_nms(*places, net.network.candidates).nonzero()[:, 0])
        _, _, found["fractions"], found["uncertainties"] = occlusion_layers(found["maps"])
        found["order"] = occlusion_order(found["boxes"], found["pictures"], found["maps"])
        if self.paste:
            width, height = net.network.input_wh
            found["masks"] = amodal_paste(found["boxes"], found["maps"], height, width)
        return tuple(found[name] for name in self.outputs)

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` gives; the first four are all that an agent reads.

        boxes (N, 4) float32 xyxy, scores (N,), labels (N,) int64, maps (N, 3, 28, 28); fractions and uncertainties
        (N,), order (N, N); where there are: visible_boxes (N, 4), pictures (N,) int64, masks (N, 3, H, W) bool.
        """
        names = ["boxes", "scores", "labels", "maps", "fractions", "uncertainties", "order"]
        more = {"visible_boxes": self.net.network.visible_box, "pictures": self.batch, "masks": self.paste}
        return [*names, *(name for name, there in more.items() if there)]

    def example(self) -> Tensor:
        """An input of the right size and type; its values do not matter."""
        width, height = self.net.network.input_wh
        return torch.zeros(2 if self.batch else 1, height, width, 3, dtype=torch.uint8)

    def _proposals(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4), the best first, and which of the places hold one, (B, P) bool."""
        net, network = self.net, self.net.network
        objectness, deltas = net.proposal_head(feature)
        scores = objectness.permute(0, 2, 3, 1).flatten(1)
        deltas = deltas.permute(0, 2, 3, 1).reshape(scores.shape[0], -1, 4)
        most = min(network.proposals_before_nms, len(net.anchors))
        best = scores.topk(most, dim=1).indices
        deltas = deltas.gather(1, best[:, :, None].expand(-1, -1, 4))
        boxes = net.clip(decode_boxes(net.anchors[best].flatten(0, 1), deltas.flatten(0, 1)))
        boxes = boxes.view(-1, most, 4)
        # They come best first: their places are scores that are above zero and never tie.
        ranks = torch.arange(most, 0, -1, dtype=boxes.dtype, device=boxes.device).expand(len(boxes), 1, most)
        kept = box_nms(boxes, ranks, min(network.proposals, most), network.nms_iou, 0.0)
        chosen = _chosen(ranks, kept)
        ranks, places = chosen.topk(min(network.proposals, most), dim=1)
        return boxes.gather(1, places[:, :, None].expand(-1, -1, 4)), ranks > 0

    def _candidates(self, feature: Tensor, proposals: Tensor, there: Tensor) -> tuple[Tensor, ...]:
        """Boxes (R, 4), scores, labels, pictures and places among a picture's own (R,), the best of each first."""
        net, network = self.net, self.net.network
        count, places = there.shape
        whose = torch.arange(count, device=there.device)[:, None].expand(count, places)
        rois = torch.cat([whose[:, :, None].to(proposals.dtype), proposals], dim=2).flatten(0, 1)
        logits, deltas = net.box_head(pool_rois(feature, rois, BOX_SIDE))
        deltas = deltas * deltas.new_tensor(BOX_SPREAD)
        boxes = net.clip(decode_boxes(proposals.flatten(0, 1), deltas)).view(-1, places, 4)
        scores = logits.softmax(dim=1)[:, :CLASSES].view(-1, places, CLASSES) * there[:, :, None]
        scores = scores.transpose(1, 2)
        kept = box_nms(boxes, scores, self._most, network.nms_iou, network.score_floor)
        scores, best = _chosen(scores, kept).topk(self._most, dim=1)
        pictures, slots = (scores > 0).nonzero().unbind(dim=1)
        best = best[pictures, slots]
        found = boxes[pictures, best % places], scores[pictures, slots], best // places + 1
        return *found, pictures, slots

    def _best_first(self, scores: Tensor, pictures: Tensor, slots: Tensor, count: int) -> Tensor:
        """(R,) rows in the order that puts the best first within each of `count` pictures."""
        most = self._most
        rows = torch.arange(scores.shape[0], device=scores.device)
        by_slot = scores.new_full((count, most), -1.0).index_put((pictures, slots), scores)
        row_of = rows.new_zeros(count, most).index_put((pictures, slots), rows)
        falling, order = by_slot.topk(most, dim=1)
        return row_of.gather(1, order)[falling >= 0]

    @property
    def _most(self) -> int:
        """Candidates of a picture."""
        network = self.net.network
        return min(network.candidates, CLASSES * min(network.proposals, network.proposals_before_nms))


def _chosen(scores: Tensor, kept: Tensor) -> Tensor:
    """(B, C * M): scores (B, C, M) of what was kept, (S, 3) places; zero elsewhere."""
    mask = torch.zeros_like(scores).index_put(tuple(kept.unbind(dim=1)), scores.new_ones(()))
    return (scores * mask).flatten(1)


def _pick(found: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: values[rows] for name, values in found.items()}
