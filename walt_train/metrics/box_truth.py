"""Boxes judged on real footage, where all that is known are full-body boxes that somebody drew by hand.

One score threshold, one pass over the frame. People are judged by how much of them is hidden; who is missed counts 0.
A false box is one with an IoU below 0.5 with everyone, those included who are drawn but not asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from walt_edge.contract.errors import WaltError
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.predictions import Predictions
from walt_edge.watching.tracking import iou_matrix
from walt_train.metrics.bootstrap import Interval, mean_intervals
from walt_train.metrics.matching import IOU_MIN

FALSE_IOU = 0.5
FULL_VIEW_MAX = 0.05
"""People who are hidden no further are in full view: a hand cannot say it more exactly."""
HIDDEN_MIN = (0.3, 0.5)
_THIRDS = ("top", "middle", "bottom")


class BoxTruthError(WaltError):
    """Hand-made boxes are missing or malformed, or the predictions do not hold their frames."""


class DrawnBox(msgspec.Struct, frozen=True, kw_only=True):
    """One object in one frame, drawn by hand.

    Attributes:
        id: The physical object.
        box_xyxy: Of its full extent, hidden parts included, pixels; may leave the frame.
        hidden: Which part of it cannot be seen, 0..1.
        ignore: It is not asked for, but who finds it is not wrong.
    """

    id: int | str
    box_xyxy: tuple[float, float, float, float]
    hidden: float = 0.0
    ignore: bool = False


class DrawnFrame(msgspec.Struct, frozen=True, kw_only=True):
    """All objects of one frame: its number in the recording, and the boxes."""

    frame: int
    boxes: list[DrawnBox]


class BoxTruth(msgspec.Struct, frozen=True, kw_only=True):
    """What was drawn: everybody in each of these frames. `label` is their class."""

    frames: list[DrawnFrame]
    label: Label = Label.PERSON


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBoxes:
    """The boxes of one frame and one class.

    Attributes:
        boxes_xyxy: (N, 4) float64, pixels.
        scores: (N,) float64, 0..1.
        frame_wh: Size of the frame, pixels.
    """

    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    frame_wh: tuple[int, int]

    @classmethod
    def of(cls, found: AmodalInstances, label: Label = Label.PERSON) -> ScoredBoxes:
        """The amodal boxes of one class."""
        own = found.labels == int(label)
        return cls(found.boxes_xyxy[own].astype(np.float64), found.scores[own].astype(np.float64), found.frame_wh)


class BoxRow(msgspec.Struct, frozen=True):
    """The figures of some of the drawn boxes.

    Attributes:
        boxes: How many.
        people: How many physical objects they show.
        found: How many have a prediction of their own (IoU at least 0.1).
        iou: Mean IoU, 0..1, misses 0; None where there are none.
        interval: Its 95 % interval by physical object; None with fewer than two.
    """

    boxes: int
    people: int
    found: int
    iou: float | None
    interval: Interval | None


class RegionRow(msgspec.Struct, frozen=True):
    """One part of the picture: the row of everybody whose box has its centre there, and the false boxes there."""

    row: BoxRow
    false_boxes: int


class BoxJudgement(msgspec.Struct, frozen=True):
    """What `judge_boxes` found.

    Attributes:
        frames: How many were judged.
        threshold: Least score of a box that counts.
        predictions: How many reached it.
        false_boxes: Those with an IoU below 0.5 with everyone.
        full_view: People hidden by at most `FULL_VIEW_MAX`.
        hidden: People hidden by at least each of `HIDDEN_MIN`, keyed by it.
        everybody: All who are not ignored.
        regions: By parts of the picture: `top`, `middle` and `bottom` thirds, and the four quadrants.
    """

    frames: int
    threshold: float
    predictions: int
    false_boxes: int
    full_view: BoxRow
    hidden: dict[float, BoxRow]
    everybody: BoxRow
    regions: dict[str, RegionRow]


@dataclass(frozen=True, slots=True)
class _Case:
    person: str
    hidden: float
    iou: float
    regions: tuple[str, str]


def read_box_truth(path: Path) -> BoxTruth:
    """Reads hand-made boxes; raises BoxTruthError where they are missing, malformed or contradict themselves."""
    try:
        truth = msgspec.json.decode(path.read_bytes(), type=BoxTruth)
    except OSError as error:
        raise BoxTruthError(f"cannot read {path}: {error.strerror}; give a JSON file of hand-made boxes") from error
    except msgspec.DecodeError as error:
        raise BoxTruthError(f"{path} holds no hand-made boxes: {error}") from error
    if len({frame.frame for frame in truth.frames}) != len(truth.frames):
        raise BoxTruthError(f"{path} names a frame twice: put its boxes together")
    for frame in truth.frames:
        names = [str(box.id) for box in frame.boxes]
        if len(set(names)) != len(names):
            raise BoxTruthError(f"{path}, frame {frame.frame}: an id occurs twice; one box an object")
        for box in frame.boxes:
            x0, y0, x1, y1 = box.box_xyxy
            if not (x0 < x1 and y0 < y1 and 0 <= box.hidden <= 1):
                raise BoxTruthError(f"{path}, frame {frame.frame}, {box.id}: {box.box_xyxy}, hidden {box.hidden}")
    return truth


def predicted_boxes(predictions: Predictions, label: Label = Label.PERSON) -> dict[int, ScoredBoxes]:
    """The boxes of a predictions file by the frame's number; masks are not decoded."""
    out = {}
    for frame in predictions.frames:
        own = [each for each in frame.instances if each.category_id == int(label)]
        boxes = np.array([each.bbox for each in own], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.array([each.score for each in own], np.float64)
        out[frame.frame] = ScoredBoxes(boxes, scores, (frame.width, frame.height))
    return out


def judge_boxes(
    truth: BoxTruth, found: Mapping[int, ScoredBoxes], *, threshold: float, seed: int = 0
) -> BoxJudgement:
    """Judges boxes at one score threshold.

    Args:
        truth: Hand-made boxes.
        found: By the frame's number; frames that were not drawn are left out.
        threshold: Least score, fixed on other frames.
        seed: Of the confidence intervals.

    Raises:
        BoxTruthError: A drawn frame is missing from `found`.
    """
    missing = [frame.frame for frame in truth.frames if frame.frame not in found]
    if missing:
        raise BoxTruthError(f"no predictions for frame {missing[0]} and {len(missing) - 1} more: predict every frame")
    cases: list[_Case] = []
    false_places: list[tuple[str, str]] = []
    predictions = 0
    for frame in truth.frames:
        every = found[frame.frame]
        sure = every.scores >= threshold
        boxes = every.boxes_xyxy[sure]
        drawn = np.array([box.box_xyxy for box in frame.boxes], np.float64).reshape(-1, 4)
        ious = iou_matrix(drawn, boxes)
        cases += _cases(frame.boxes, ious, every.frame_wh)
        wrong = boxes[ious.max(axis=0, initial=0.0) < FALSE_IOU]
        false_places += [_regions(box, every.frame_wh) for box in wrong.tolist()]
        predictions += len(boxes)
    return _judgement(cases, false_places, seed, len(truth.frames), threshold, predictions)


def _cases(drawn: Sequence[DrawnBox], ious: NDArray[np.float64], frame_wh: tuple[int, int]) -> Iterable[_Case]:
    """Everybody who is asked for, with the IoU of the prediction that is theirs; the ignored take theirs, too."""
    gain = np.where(ious >= IOU_MIN, ious, 0.0)
    own = np.zeros(len(drawn))
    rows, columns = linear_sum_assignment(gain, maximize=True)
    own[rows] = gain[rows, columns]
    for box, iou in zip(drawn, own.tolist(), strict=True):
        if not box.ignore:
            yield _Case(str(box.id), box.hidden, iou, _regions(box.box_xyxy, frame_wh))


def _regions(box_xyxy: Sequence[float], frame_wh: tuple[int, int]) -> tuple[str, str]:
    """The third and the quadrant in which a box has its centre."""
    x = (box_xyxy[0] + box_xyxy[2]) / 2 / frame_wh[0]
    y = (box_xyxy[1] + box_xyxy[3]) / 2 / frame_wh[1]
    third = _THIRDS[int(np.clip(3 * y, 0, 2))]
    return third, f"{'upper' if y < 0.5 else 'lower'} {'left' if x < 0.5 else 'right'}"


def _judgement(
    cases: Sequence[_Case],
    false_places: Sequence[tuple[str, str]],
    seed: int,
    frames: int,
    threshold: float,
    predictions: int,
) -> BoxJudgement:
    def row(chosen: Iterable[_Case]) -> BoxRow:
        return _row(list(chosen), seed)

    quadrants = tuple(f"{row} {side}" for row in ("upper", "lower") for side in ("left", "right"))
    return BoxJudgement(
        frames=frames,
        threshold=threshold,
        predictions=predictions,
        false_boxes=len(false_places),
        full_view=row(case for case in cases if case.hidden <= FULL_VIEW_MAX),
        hidden={least: row(case for case in cases if case.hidden >= least) for least in HIDDEN_MIN},
        everybody=row(cases),
        regions={
            name: RegionRow(
                row(case for case in cases if name in case.regions), sum(name in place for place in false_places)
            )
            for name in (*_THIRDS, *quadrants)
        },
    )


def _row(cases: Sequence[_Case], seed: int) -> BoxRow:
    ious = np.array([[case.iou] for case in cases], np.float64).reshape(-1, 1)
    people = [case.person for case in cases]
    intervals = mean_intervals(ious, people, seed)
    return BoxRow(
        boxes=len(cases),
        people=len(set(people)),
        found=int(np.count_nonzero(ious)),
        iou=float(ious.mean()) if len(cases) else None,
        interval=None if intervals is None else intervals[0],
    )


def box_table(judgement: BoxJudgement) -> str:
    """The figures as text, a line for each kind of people and each part of the picture."""
    lines = [
        f"{judgement.frames} frames, {judgement.predictions} boxes at score >= {judgement.threshold:.3g}, "
        f"{judgement.false_boxes} false",
        f"{'people':<14}{'boxes':>7}{'people':>8}{'found':>7}{'false':>7}  IoU, misses 0",
    ]
    named = [("full view", judgement.full_view)]
    named += [(f"hidden >= {least:g}", row) for least, row in judgement.hidden.items()]
    named += [("everybody", judgement.everybody)]
    lines += [_line(name, row, "") for name, row in named]
    lines += [_line(name, region.row, str(region.false_boxes)) for name, region in judgement.regions.items()]
    return "\n".join(lines) + "\n"


def _line(name: str, row: BoxRow, false_boxes: str) -> str:
    sure = "" if row.interval is None else f" [{row.interval[0]:.3f}, {row.interval[1]:.3f}]"
    mean = "-" if row.iou is None else f"{row.iou:.3f}"
    return f"{name:<14}{row.boxes:>7}{row.people:>8}{row.found:>7}{false_boxes:>7}  {mean}{sure}"
