"""The arithmetic of amodal maps: who is a double of whom, what is hidden, who stands before whom.

These are the references of the operators that an exported graph holds (domain `walt`): plain loops over pairs, told
as they are defined. Maps are those of a network, (N, 3, h, w) in 0..1 in the order amodal, occluder, occluded; their
cells cover the object's amodal box exactly. Between the centres of cells a map is bilinear, beyond the outermost ones
constant, outside of its box zero. Something is there at 0.5.

Two objects are compared at 28x28 points, the centres of the cells of a lattice over the box that holds both (or, for
who stands before whom, over what both boxes have in common): as finely for small objects as for large ones, and
without a picture of masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

THRESHOLD: Final = 0.5
SAME_BOX_IOU: Final = 0.5
SAME_VISIBLE_IOU: Final = 0.5
LIKE_VISIBLE_IOU: Final = 0.2
LEAST_TRUST: Final = 0.3
LEAST_VISIBLE_PX: Final = 16.0
POINTS: Final = 28
"""Of the lattice, along each side."""
AMODAL, OCCLUDER, OCCLUDED = range(3)

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]


class Sameness(NamedTuple):
    """From where on two objects of one label are one.

    Attributes:
        box_iou: Of their amodal boxes.
        visible_iou: Of what they show.
    """

    box_iou: float
    visible_iou: float


SAME: Final = Sameness(SAME_BOX_IOU, SAME_VISIBLE_IOU)
"""What a graph suppresses (`AmodalNMS_v2`): only who surely is a double."""
WEIGHED: Final = Sameness(0.3, SAME_VISIBLE_IOU)
"""What is suppressed where `trust` weighs who is left: it reaches further, to boxes that overlap less."""
STRICTLY_SAME: Final = Sameness(0.5, 0.3)
"""Hardly a double is left, and few of those whom somebody hides (`AmodalNMS_v1`)."""


@dataclass(frozen=True, slots=True, eq=False)
class OcclusionLayers:
    """What each object shows and hides, by the cells of its box.

    Attributes:
        visible: (N, h, w) bool: of the object, with nothing before it.
        hidden: (N, h, w) bool: of the object, with something before it; visible and hidden are the amodal mask.
        fractions: (N,) float32, 0..1: hidden cells over cells of the object; 0 where it has none.
        uncertainties: (N,) float32, 0..1: the share of the object's cells that is expected to be given to the wrong
            one of background, visible and hidden, if the maps are true probabilities.
    """

    visible: Bools
    hidden: Bools
    fractions: Floats
    uncertainties: Floats


def amodal_nms(
    boxes_xyxy: Floats, labels: Indices, maps: Floats, pictures: Indices | None = None, same: Sameness = SAME
) -> Bools:
    """Greedy suppression that spares who stands before or behind another: (N,) bool, what is kept.

    An object goes if one that came before it, was kept, lies in the same picture and has the same label

    - has a box of IoU >= `same.box_iou` with its own, and
    - shows the same (IoU of the visible masks >= `same.visible_iou`), or the object itself shows less than 16 px.

    Args:
        boxes_xyxy: (N, 4) amodal boxes of positive sides, pixels of the network's input, best first.
        labels: (N,) `Label` values.
        maps: (N, 3, h, w).
        pictures: (N,) which picture of a batch each lies in; None: all in one.
        same: Who is a double.
    """
    return suppress(visible_ious(boxes_xyxy, labels, maps, pictures, same.box_iou), same.visible_iou)


def suppress(likeness: Floats, visible_iou: float) -> Bools:
    """Greedy suppression by the likeness (N, N) that `visible_ious` gives: (N,) bool, what is kept."""
    kept = np.zeros(len(likeness), bool)
    for index in range(len(kept)):
        kept[index] = not (likeness[:index, index][kept[:index]] >= visible_iou).any()
    return kept


def trust(likeness: Floats) -> Floats:
    """How far a score is believed beside those of better ones: (N,) float32, LEAST_TRUST..1.

    Between being a double and being somebody else there is no edge: with v the largest IoU of what an object shows
    and what a better one of its label shows, the boxes' IoU being >= 0.3, the trust falls from 1 at v <= 0.2 to 0.3
    at v >= 0.5, linearly (as Soft-NMS lets scores fall with the IoU of boxes; Bodla et al. 2017).

    Args:
        likeness: (N, N) as `visible_ious` gives it, of those that were kept.
    """
    most = likeness.max(axis=0, initial=0)
    return np.asarray(np.interp(most, (LIKE_VISIBLE_IOU, SAME_VISIBLE_IOU), (1, LEAST_TRUST)), np.float32)


def visible_ious(
    boxes_xyxy: Floats,
    labels: Indices,
    maps: Floats,
    pictures: Indices | None = None,
    box_iou: float = WEIGHED.box_iou,
) -> Floats:
    """(N, N) float32 0..1: IoU of what the better (row) and the worse (column) show, where they could be doubles.

    It is 0 for others and 1 where the worse shows less than 16 px: so little is nobody of its own.
    """
    likeness = np.zeros((len(boxes_xyxy),) * 2, np.float32)
    rivals = np.triu(rival_pairs(boxes_xyxy, labels, pictures, box_iou), 1)
    for better, worse in np.argwhere(rivals).tolist():
        likeness[better, worse] = _likeness(boxes_xyxy, maps, better, worse)
    return likeness


def rival_pairs(boxes_xyxy: Floats, labels: Indices, pictures: Indices | None, box_iou: float) -> Bools:
    """(N, N) symmetric: of one label, in one picture, with at least that box IoU."""
    common = common_areas(boxes_xyxy)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    union = areas[:, None] + areas - common
    # Without a division: two boxes without area are nobody's rivals.
    near = (common >= box_iou * union) & (common > 0)
    return np.asarray(near & (labels[:, None] == labels) & _together(pictures, len(labels)))


def common_areas(boxes_xyxy: Floats) -> Floats:
    """(N, N) areas of the intersections of every two of (N, 4) boxes."""
    low = np.maximum(boxes_xyxy[:, None, :2], boxes_xyxy[:, :2])
    high = np.minimum(boxes_xyxy[:, None, 2:], boxes_xyxy[:, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=2), np.float32)


def occlusion_layers(maps: Floats) -> OcclusionLayers:
    """What maps (N, 3, h, w) say is seen, is hidden, and how surely."""
    whole, front = maps[:, AMODAL], maps[:, OCCLUDER]
    there, covered = whole >= THRESHOLD, front >= THRESHOLD
    cells = there.sum(axis=(1, 2))
    hidden = there & covered
    # Background, visible or hidden: what each cell is given to has this probability.
    chosen = np.where(there, whole * np.where(covered, front, 1 - front), 1 - whole)
    wrong = (1 - chosen).sum(axis=(1, 2), dtype=np.float32)
    least = np.maximum(cells, 1).astype(np.float32)
    return OcclusionLayers(
        there & ~covered,
        hidden,
        (hidden.sum(axis=(1, 2)) / least).astype(np.float32),
        np.minimum(wrong / least, 1).astype(np.float32),
    )


def occlusion_order(boxes_xyxy: Floats, maps: Floats, pictures: Indices | None = None) -> Floats:
    """Who stands before whom: (N, N) float32, how surely i hides j, 0..1.

    Where the amodal masks of two objects overlap, the occluder map of the one behind and the occluded map of the one
    before are set. With their means over those points,

        p_ij = 1/2 + (occluder_j - occluder_i + occluded_i - occluded_j) / 4,

    so that p_ij + p_ji = 1; both are 0 where the two do not overlap.

    Args:
        boxes_xyxy: (N, 4) amodal boxes of positive sides, pixels of the network's input.
        maps: (N, 3, h, w).
        pictures: As in `amodal_nms`.
    """
    order = np.zeros((len(boxes_xyxy),) * 2, np.float32)
    meeting = (common_areas(boxes_xyxy) > 0) & _together(pictures, len(order))
    for one, other in np.argwhere(np.triu(meeting, 1)).tolist():
        pair = boxes_xyxy[[one, other]]
        points = _lattice(pair[:, :2].max(axis=0), pair[:, 2:].min(axis=0))
        first, second = (sample(boxes_xyxy[index], maps[index], *points) for index in (one, other))
        both = (first[AMODAL] >= THRESHOLD) & (second[AMODAL] >= THRESHOLD)
        if both.any():
            lead = second[OCCLUDER] - first[OCCLUDER] + first[OCCLUDED] - second[OCCLUDED]
            order[one, other] = 0.5 + lead[both].mean() / 4
            order[other, one] = 1 - order[one, other]
    return order


def sample(box_xyxy: Floats, maps: Floats, across: Floats, down: Floats) -> Floats:
    """Maps (L, h, w) of a box at the points of a grid, (L, len(down), len(across)).

    Args:
        box_xyxy: (4,) pixels.
        maps: Their cells cover the box.
        across: x of the points, pixels.
        down: y of the points.
    """
    x0, y0, x1, y1 = box_xyxy
    rows = _hats(y0, y1, down, maps.shape[1])
    columns = _hats(x0, x1, across, maps.shape[2])
    return np.asarray(rows @ maps @ columns.T, np.float32)


def _likeness(boxes: Floats, maps: Floats, better: int, worse: int) -> float:
    shown = _visible(maps[worse])
    cell_px = (boxes[worse, 2:] - boxes[worse, :2]).prod() / shown.size
    if shown.sum() * cell_px < LEAST_VISIBLE_PX:
        return 1.0
    pair = boxes[[better, worse]]
    points = _lattice(pair[:, :2].min(axis=0), pair[:, 2:].max(axis=0))
    one, two = (_visible(sample(boxes[which], maps[which], *points)) for which in (better, worse))
    return float((one & two).sum() / max(1, (one | two).sum()))


def _visible(maps: Floats) -> Bools:
    return np.asarray((maps[AMODAL] >= THRESHOLD) & (maps[OCCLUDER] < THRESHOLD))


def _lattice(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Across and down: the points between two corners (2,)."""
    parts = (np.arange(POINTS, dtype=np.float32) + np.float32(0.5)) / np.float32(POINTS)
    return low[0] + parts * (high[0] - low[0]), low[1] + parts * (high[1] - low[1])


def _hats(low: np.float32, high: np.float32, points: Floats, cells: int) -> Floats:
    """(len(points), cells): how much each cell between `low` and `high` counts at each point; nothing outside."""
    at = ((points - low) * (cells / (high - low)) - np.float32(0.5)).clip(0, cells - 1)
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(cells, dtype=np.float32)), 0)
    weights[(points < low) | (points >= high)] = 0
    return np.asarray(weights, np.float32)


def _together(pictures: Indices | None, count: int) -> Bools:
    """(N, N): in one picture."""
    return np.ones((count, count), bool) if pictures is None else np.asarray(pictures[:, None] == pictures)
