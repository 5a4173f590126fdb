"""Box and mask IoU by how much of an object is hidden.

A case is an object in a frame that is large enough and not hidden further than anybody could say. It counts at γ when
γ <= occlusion fraction. Misses count 0, so that a model cannot do well by saying little; false boxes are counted
beside it. Bins share no case: their counts add up to the total's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_train.data.sample import AmodalSample
from walt_train.metrics.bootstrap import Interval, mean_intervals
from walt_train.metrics.matching import OCCLUSION_MAX, Truth, assign, box_ious

GAMMAS = (0.01, 0.5)
BIN_EDGES = (0.0, 0.01, 0.1, 0.5, OCCLUSION_MAX)


class MetricsError(WaltError):
    """Two evaluations that cannot be compared."""


class Case(msgspec.Struct, frozen=True, array_like=True):
    """One object in one frame.

    Attributes:
        image: The frame's name.
        place: Of the object in the frame's depth order, 0 = nearest.
        object: The physical object: camera/track.
        label: `Label` value.
        amodal_area: Pixels.
        visible_area: Pixels.
        box_iou: 0..1; 0 = missed.
        mask_iou: Of the amodal masks, 0..1.
        score: Of the prediction, 0 where there is none.
        size_wh: Of the tight amodal box, pixels; (0, 0) in evaluations of format 1.
    """

    image: str
    place: int
    object: str
    label: int
    amodal_area: int
    visible_area: int
    box_iou: float = 0.0
    mask_iou: float = 0.0
    score: float = 0.0
    size_wh: tuple[int, int] = (0, 0)

    @property
    def occlusion(self) -> float:
        """Hidden area / amodal area, 0..1."""
        return (self.amodal_area - self.visible_area) / self.amodal_area

    @property
    def truth(self) -> tuple[str, int, str, int, int, int]:
        """What does not depend on the model."""
        return self.image, self.place, self.object, self.label, self.amodal_area, self.visible_area


class Band(msgspec.Struct, frozen=True):
    """Occlusion fractions from `low` up to `high`, which belongs to it only where it is `OCCLUSION_MAX`.

    Attributes:
        low: Least fraction.
        high: Greatest.
    """

    low: float
    high: float = OCCLUSION_MAX

    def __contains__(self, case: Case) -> bool:
        return self.low <= case.occlusion and (case.occlusion < self.high or self.high == OCCLUSION_MAX)


ALL = Band(0.0)
AT_GAMMA = tuple(Band(gamma) for gamma in GAMMAS)
BINS = tuple(Band(low, high) for low, high in pairwise(BIN_EDGES))


class Row(msgspec.Struct, frozen=True):
    """The figures of the cases in one band; None where there are none.

    Attributes:
        band: Of occlusion fractions.
        cases: How many.
        objects: How many physical objects they show.
        hits: How many were found.
        false_boxes: Predictions that match nothing: the same in every band.
        recall: hits / cases.
        precision: hits / (hits + false boxes); what matches another band's object is ignored.
        box_iou: Mean of the amodal boxes' IoU x 100, misses 0.
        box_interval: Its 95 % interval by physical object; None with fewer than two.
        mask_iou: Mean of the amodal masks' IoU x 100, misses 0.
        mask_interval: As for the boxes.
        matched_box_iou: Mean over the hits alone, x 100.
        matched_mask_iou: Mean over the hits alone, x 100.
    """

    band: Band
    cases: int
    objects: int
    hits: int
    false_boxes: int
    recall: float | None
    precision: float | None
    box_iou: float | None
    box_interval: Interval | None
    mask_iou: float | None
    mask_interval: Interval | None
    matched_box_iou: float | None
    matched_mask_iou: float | None


class AmodalIou(msgspec.Struct, frozen=True):
    """What `evaluate_frames` found.

    Attributes:
        frames: How many were looked at.
        predictions: How many reached the score threshold.
        false_boxes: Predictions that match no object at all.
        uncounted: Predictions that match an object too small or too hidden to be a case.
        total: All cases.
        at_gamma: A row for each of `GAMMAS`, keyed by it.
        by_occlusion: One row for each bin; they add up to the total.
        cases: Every case, in the order of the frames.
        false_by_label: The false boxes of each class, keyed by `Label` value.
    """

    frames: int
    predictions: int
    false_boxes: int
    uncounted: int
    total: Row
    at_gamma: dict[float, Row]
    by_occlusion: tuple[Row, ...]
    cases: tuple[Case, ...]
    false_by_label: dict[int, int] = {}


class Difference(msgspec.Struct, frozen=True):
    """One method minus another on the same cases, in points (IoU x 100).

    Attributes:
        band: Of occlusion fractions.
        cases: How many.
        objects: How many physical objects they show.
        box_points: Difference of the mean box IoU; None without cases.
        box_interval: Its 95 % interval, paired, by physical object; None with fewer than two objects.
        mask_points: Difference of the mean mask IoU.
        mask_interval: As for the boxes.
    """

    band: Band
    cases: int
    objects: int
    box_points: float | None
    box_interval: Interval | None
    mask_points: float | None
    mask_interval: Interval | None


def evaluate_frames(
    pairs: Iterable[tuple[AmodalInstances, AmodalSample]],
    *,
    score_threshold: float = 0.0,
    seed: int = 0,
    complete: bool = True,
) -> AmodalIou:
    """Evaluates predictions frame by frame; holds one frame at a time.

    Args:
        pairs: Predictions and truth of each frame; the frames' names differ.
        score_threshold: Predictions with a lower score are left out.
        seed: Of the confidence intervals.
        complete: Whether the truth holds all objects of a frame. If not, what matches none of them is no false box.
    """
    cases: list[Case] = []
    false_by_label = dict.fromkeys(map(int, Label), 0)
    frames = predictions = matched = counted = 0
    for found, sample in pairs:
        kept = found.select(np.flatnonzero(found.scores >= score_threshold).tolist())
        truth = Truth.of(sample)
        pairing = assign(truth, kept)
        cases += _cases(sample.name, truth, kept, pairing)
        frames += 1
        predictions += len(kept)
        matched += len(pairing)
        counted += sum(1 for place in pairing if truth.counted[place])
        if complete:
            for label in np.delete(kept.labels, list(pairing.values())).tolist():
                false_by_label[label] += 1
    false_boxes = sum(false_by_label.values())

    def row(band: Band) -> Row:
        return row_of(band, cases, false_boxes, seed)

    return AmodalIou(
        frames=frames,
        predictions=predictions,
        false_boxes=false_boxes,
        uncounted=matched - counted,
        total=row(ALL),
        at_gamma={band.low: row(band) for band in AT_GAMMA},
        by_occlusion=tuple(map(row, BINS)),
        cases=tuple(cases),
        false_by_label=false_by_label,
    )


def compare(a: Sequence[Case], b: Sequence[Case], *, seed: int = 0) -> tuple[Difference, ...]:
    """`a` minus `b`: in all, at each γ, and in each bin of occlusion.

    Args:
        a: Cases of one method.
        b: Cases of another one, on the same frames.
        seed: Of the confidence intervals.

    Raises:
        MetricsError: The cases are not the same ones.
    """
    others = {case.truth: case for case in b}
    if others.keys() != {case.truth for case in a} or len(a) != len(b):
        raise MetricsError(
            f"the two evaluations do not hold the same cases ({len(a)} and {len(b)}): "
            "evaluate both models on the same data with the same --every"
        )
    pairs = [(case, others[case.truth]) for case in a]
    return tuple(_difference(band, [p for p in pairs if p[0] in band], seed) for band in (ALL, *AT_GAMMA, *BINS))


def _cases(name: str, truth: Truth, found: AmodalInstances, pairing: dict[int, int]) -> Iterator[Case]:
    ious = box_ious(truth, found)
    for place in np.flatnonzero(truth.counted).tolist():
        case = Case(
            image=name,
            place=place,
            object=truth.objects[place],
            label=int(truth.labels[place]),
            amodal_area=int(truth.amodal_areas[place]),
            visible_area=int(truth.visible_areas[place]),
            size_wh=_size(truth.boxes_xyxy[place]),
        )
        if (index := pairing.get(place)) is not None:
            box, mask = float(ious[place, index]), truth.amodal[place].iou(found.amodal[index])
            hit = {"box_iou": box, "mask_iou": mask, "score": float(found.scores[index])}
            case = msgspec.structs.replace(case, **{name: round(value, 6) for name, value in hit.items()})
        yield case


def _size(box_xyxy: NDArray[np.float64]) -> tuple[int, int]:
    return int(box_xyxy[2] - box_xyxy[0]), int(box_xyxy[3] - box_xyxy[1])


def row_of(band: Band, cases: Sequence[Case], false_boxes: int, seed: int) -> Row:
    """The figures of those cases that are in the band."""
    return _row(band, [case for case in cases if case in band], false_boxes, seed)


def _row(band: Band, cases: Sequence[Case], false_boxes: int, seed: int) -> Row:
    hits = [case for case in cases if case.box_iou > 0]
    means, intervals = _means(_ious(cases), [case.object for case in cases], seed)
    matched, _ = _means(_ious(hits), [], seed)
    return Row(
        band=band,
        cases=len(cases),
        objects=len({case.object for case in cases}),
        hits=len(hits),
        false_boxes=false_boxes,
        recall=len(hits) / len(cases) if cases else None,
        precision=len(hits) / (len(hits) + false_boxes) if hits or false_boxes else None,
        box_iou=means[0],
        box_interval=intervals[0],
        mask_iou=means[1],
        mask_interval=intervals[1],
        matched_box_iou=matched[0],
        matched_mask_iou=matched[1],
    )


def _difference(band: Band, pairs: Sequence[tuple[Case, Case]], seed: int) -> Difference:
    apart = _ious([one for one, _ in pairs]) - _ious([other for _, other in pairs])
    objects = [one.object for one, _ in pairs]
    means, intervals = _means(apart, objects, seed)
    return Difference(band, len(pairs), len(set(objects)), means[0], intervals[0], means[1], intervals[1])


def _ious(cases: Sequence[Case]) -> NDArray[np.float64]:
    """(K, 2) box and mask IoU x 100."""
    return np.array([(case.box_iou, case.mask_iou) for case in cases], np.float64).reshape(-1, 2) * 100


def _means(
    values: NDArray[np.float64], objects: Sequence[str], seed: int
) -> tuple[tuple[float | None, float | None], tuple[Interval | None, Interval | None]]:
    """Means of two columns and their intervals; without objects, no intervals."""
    if not len(values):
        return (None, None), (None, None)
    box, mask = values.mean(axis=0).tolist()
    intervals = mean_intervals(values, objects, seed) if objects else None
    return (box, mask), (None, None) if intervals is None else (intervals[0], intervals[1])
