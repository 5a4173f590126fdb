"""Which prediction is which object: one to one, class-aware, so that box IoU is largest over the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import PatchMask
from walt_edge.watching.tracking import iou_matrix
from walt_train.data.layers import sample_layers
from walt_train.data.sample import AmodalSample

IOU_MIN = 0.1
"""Boxes that overlap less are not a prediction of that object."""
OCCLUSION_MAX = 0.9
"""What is hidden further is not asked for: nobody could say."""
VISIBLE_MIN_PX = 64
AMODAL_MIN_PX = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The objects of one sample, nearest first.

    Attributes:
        boxes_xyxy: (M, 4) float64, tight amodal boxes, pixels.
        labels: (M,) int64, `Label` values.
        amodal: Their full extent.
        amodal_areas: (M,) int64, pixels.
        visible_areas: (M,) int64, pixels: amodal minus whatever lies nearer, static things included.
        objects: The physical object that each shows: camera and track.
    """

    boxes_xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]
    amodal: tuple[PatchMask, ...]
    amodal_areas: NDArray[np.int64]
    visible_areas: NDArray[np.int64]
    objects: tuple[str, ...]

    @classmethod
    def of(cls, sample: AmodalSample) -> Truth:
        """Reads a sample; its layers follow from the order."""
        amodal = [thing.amodal for thing in sample.objects]
        return cls(
            boxes_xyxy=np.array([tight_box(mask) for mask in amodal], np.float64).reshape(-1, 4),
            labels=np.array([int(thing.label) for thing in sample.objects], np.int64),
            amodal=tuple(amodal),
            amodal_areas=np.array([mask.area for mask in amodal], np.int64),
            visible_areas=np.array([layers.visible.area for layers in sample_layers(sample)], np.int64),
            objects=tuple(f"{sample.camera}/{thing.track_id}" for thing in sample.objects),
        )

    def __len__(self) -> int:
        return len(self.amodal)

    @property
    def occlusions(self) -> NDArray[np.float64]:
        """(M,) hidden area / amodal area, 0..1, correctly rounded: 9/10 is `0.9`."""
        fractions: NDArray[np.float64] = (self.amodal_areas - self.visible_areas) / np.maximum(self.amodal_areas, 1)
        return fractions

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(M,) which objects are cases at all, whatever γ."""
        return (
            (self.occlusions <= OCCLUSION_MAX)
            & (self.visible_areas >= VISIBLE_MIN_PX)
            & (self.amodal_areas >= AMODAL_MIN_PX)
        )


def tight_box(mask: PatchMask) -> tuple[int, int, int, int]:
    """The smallest half-open pixel box around a mask; an empty mask gives an empty box at its corner."""
    rows, columns = np.flatnonzero(mask.mask.any(axis=1)), np.flatnonzero(mask.mask.any(axis=0))
    if rows.size == 0:
        return mask.x, mask.y, mask.x, mask.y
    left, right = int(columns[0]), int(columns[-1]) + 1
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return mask.x + left, mask.y + top, mask.x + right, mask.y + bottom


def box_ious(truth: Truth, found: AmodalInstances) -> NDArray[np.float64]:
    """(M, N) IoU of amodal boxes, 0 between classes."""
    same = truth.labels[:, None] == found.labels[None]
    ious: NDArray[np.float64] = iou_matrix(truth.boxes_xyxy, found.boxes_xyxy.astype(np.float64)) * same
    return ious


def assign(truth: Truth, found: AmodalInstances) -> dict[int, int]:
    """The assignment {object: prediction} with the largest sum of box IoU, each at least `IOU_MIN`.

    All objects take part, those too small or too hidden to count as well: who finds them is not wrong. The order of
    the predictions does not matter: equal sums are settled by score, box and mask. What fits nothing takes no part,
    so that it cannot settle them otherwise.
    """
    order = canonical_order(found)
    gain = box_ious(truth, found)[:, order]
    gain[gain < IOU_MIN] = 0.0
    objects, predictions = np.flatnonzero(gain.any(axis=1)), np.flatnonzero(gain.any(axis=0))
    gain = gain[np.ix_(objects, predictions)]
    return {
        int(objects[row]): int(order[predictions[column]])
        for row, column in zip(*linear_sum_assignment(gain, maximize=True), strict=True)
        if gain[row, column] > 0
    }


def canonical_order(found: AmodalInstances) -> NDArray[np.intp]:
    """Surest first; what is equally sure by label, box, area and place of the mask."""
    keys = [
        (-float(found.scores[i]), int(found.labels[i]), *found.boxes_xyxy[i].tolist(), mask.area, *mask.box_xyxy)
        for i, mask in enumerate(found.amodal)
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)


def judge(found: AmodalInstances, truth: Truth, iou_min: float) -> list[tuple[int, bool]]:
    """Every prediction, surest first, with whether it hits a counted object; without those that hit another one.

    As in COCO, the surest chooses first, the object of its class that its box covers best, by `iou_min` at least.
    """
    ious = box_ious(truth, found)
    counted = truth.counted
    free = np.ones(len(truth), bool)
    judged = []
    for index in canonical_order(found).tolist():
        open_ = free & (ious[:, index] >= iou_min)
        if not open_.any():
            judged.append((index, False))
            continue
        # A counted object is preferred to one that is not: covering both is no reason to be ignored.
        best = int(np.argmax(np.where(open_, ious[:, index] + counted, -1.0)))
        free[best] = False
        if counted[best]:
            judged.append((index, True))
    return judged
