"""Average precision, in all and by bin of occlusion.

COCO's: the surest prediction of a class chooses first, precision is made to fall with recall and read at 101 recalls
(Lin et al. 2014 and COCOeval). Predictions are paired with truth once, whatever the bin. A prediction that finds
nothing is a false positive in every bin; one that finds another bin's truth, or an object that is no case, is ignored
there. So truths and hits add up over the bins; AP does not.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_train.data.sample import AmodalSample
from walt_train.metrics.amodal_iou import ALL, BIN_EDGES, BINS, Band
from walt_train.metrics.matching import Truth, box_ious, canonical_order

IOUS = np.linspace(0.5, 0.95, 10)
"""Least IoU of a hit; the first is AP50's."""
RECALLS = np.linspace(0, 1, 101)
PER_FRAME_MAX = 100
"""Predictions of a class in a frame: the surest, as in COCO."""

Kind = Literal["box", "mask"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_FALSE, _IGNORED = -1, -2


class PrecisionRow(msgspec.Struct, frozen=True):
    """AP x 100 of one class in one band of occlusion; None where there is no truth.

    Attributes:
        label: The class, or "all": the mean over the classes that have truth there, with their counts' sums.
        band: Of occlusion fractions.
        truths: How many objects are to be found.
        box_hits: How many were, at box IoU 0.5.
        mask_hits: How many were, at mask IoU 0.5.
        box_ap50: At IoU 0.5.
        box_ap: Mean over IoU 0.50, 0.55, ..., 0.95.
        mask_ap50: As for the boxes.
        mask_ap: As for the boxes.
    """

    label: str
    band: Band
    truths: int
    box_hits: int
    mask_hits: int
    box_ap50: float | None
    box_ap: float | None
    mask_ap50: float | None
    mask_ap: float | None


@dataclass(slots=True)
class _Pile:
    """Everything about one class: what was said with which score, and what it found.

    Attributes:
        truths: (len(BINS),) how many objects are to be found.
        scores: By frame, (D,).
        codes: By kind and frame, (len(IOUS), D): the bin of what was found, `_FALSE` or `_IGNORED`.
    """

    truths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(BINS), np.int64))
    scores: list[NDArray[np.float64]] = field(default_factory=list)
    codes: dict[Kind, list[NDArray[np.int8]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


class PrecisionCollector:
    """Collects frame by frame; holds scores and what they found, no pictures."""

    def __init__(self) -> None:
        self._piles: dict[Label, _Pile] = defaultdict(_Pile)

    def add(self, found: AmodalInstances, sample: AmodalSample) -> None:
        """Looks at one frame; predictions of any score are welcome, and needed for the whole curve."""
        truth = Truth.of(sample)
        bins = np.where(truth.counted, _bin_of(truth.occlusions), _IGNORED)
        order = canonical_order(found)
        boxes = box_ious(truth, found)
        masks = _mask_ious(truth, found, boxes)
        for label in Label:
            things, said = np.flatnonzero(truth.labels == label), order[found.labels[order] == label][:PER_FRAME_MAX]
            if not (len(things) or len(said)):
                continue
            pile = self._piles[label]
            pile.truths += np.bincount(bins[things][bins[things] >= 0], minlength=len(BINS))
            pile.scores.append(found.scores[said].astype(np.float64))
            for kind, ious in zip(KINDS, (boxes, masks), strict=True):
                pile.codes[kind].append(pair_greedily(ious[np.ix_(things, said)], bins[things]))

    def result(self) -> tuple[PrecisionRow, ...]:
        """For each class and for all: in all, and in each bin."""
        present = [label for label in Label if label in self._piles]
        tables = [[_row(label.title, self._piles[label], band) for band in (ALL, *BINS)] for label in present]
        if not tables:
            return ()
        together = [_mean_row(rows) for rows in zip(*tables, strict=True)]
        return tuple(row for rows in (together, *tables) for row in rows)


def pair_greedily(ious: NDArray[np.float64], bins: NDArray[np.integer]) -> NDArray[np.int8]:
    """What each prediction finds, at each of `IOUS`.

    Args:
        ious: (M, D) of objects with predictions, these surest first.
        bins: (M,) the bin of each object, negative for objects that are no cases: these are found only by
            predictions that find no other.

    Returns:
        (len(IOUS), D) the bin of what was found, `_IGNORED` for what is no case, or `_FALSE`.
    """
    codes = np.full((len(IOUS), ious.shape[1]), _FALSE, np.int8)
    if not len(bins):
        return codes
    preferred = bins >= 0
    for level, iou_min in zip(codes, IOUS, strict=True):
        free = np.ones(len(bins), bool)
        for index in np.flatnonzero(ious.max(axis=0) >= iou_min):
            able = free & (ious[:, index] >= iou_min)
            if (able & preferred).any():
                able &= preferred
            elif not able.any():
                continue
            best = int(np.argmax(np.where(able, ious[:, index], -1.0)))
            free[best] = False
            level[index] = max(int(bins[best]), _IGNORED)
    return codes


def interpolated_ap(hits: NDArray[np.bool_], truths: int) -> float:
    """Area under precision, made to fall with recall, read at `RECALLS`: 0..1.

    Args:
        hits: (D,) whether each prediction is right, surest first.
        truths: How many objects are to be found, at least 1.
    """
    right = np.cumsum(hits)
    recall = right / truths
    precision = right / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(falling, 0.0)[place].mean())


def _row(label: str, pile: _Pile, band: Band) -> PrecisionRow:
    chosen = np.arange(len(BINS)) if band == ALL else np.array([BINS.index(band)])
    truths = int(pile.truths[chosen].sum())
    scores = np.concatenate(pile.scores)
    order = np.argsort(-scores, kind="stable")
    hits, aps = {}, {}
    for kind in KINDS:
        codes = np.concatenate(pile.codes[kind], axis=1)[:, order]
        right = np.isin(codes, chosen)
        hits[kind] = int(right[0].sum())
        asked = right | (codes == _FALSE)
        each = (
            [interpolated_ap(level[ask], truths) for level, ask in zip(right, asked, strict=True)] if truths else []
        )
        aps[kind] = (100 * each[0], 100 * float(np.mean(each))) if each else (None, None)
    return PrecisionRow(label, band, truths, hits["box"], hits["mask"], *aps["box"], *aps["mask"])


def _mean_row(rows: tuple[PrecisionRow, ...]) -> PrecisionRow:
    def mean(name: str) -> float | None:
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        return float(np.mean(values)) if values else None

    return PrecisionRow(
        label="all",
        band=rows[0].band,
        truths=sum(row.truths for row in rows),
        box_hits=sum(row.box_hits for row in rows),
        mask_hits=sum(row.mask_hits for row in rows),
        box_ap50=mean("box_ap50"),
        box_ap=mean("box_ap"),
        mask_ap50=mean("mask_ap50"),
        mask_ap=mean("mask_ap"),
    )


def _bin_of(occlusions: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place in `BINS` of each occlusion fraction; what is beyond the last edge is no case anyway."""
    place = np.searchsorted(BIN_EDGES, occlusions, side="right") - 1
    return np.asarray(np.clip(place, 0, len(BINS) - 1), np.int64)


def _mask_ious(truth: Truth, found: AmodalInstances, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, N) IoU of amodal masks, 0 between classes."""
    ious = np.zeros_like(boxes)
    # A mask may leave its predicted box: pairs are told by the classes, far ones are quick to compare.
    for row, column in np.argwhere(truth.labels[:, None] == found.labels[None]).tolist():
        ious[row, column] = truth.amodal[row].iou(found.amodal[column])
    return ious
