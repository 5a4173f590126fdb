"""Boxes against hand-made boxes, on frames computed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.walt_train.metrics import boards
from walt_edge.contract.labels import Label
from walt_edge.contract.predictions import Predictions, frame_prediction
from walt_train.metrics.box_truth import (
    BoxTruth,
    BoxTruthError,
    ScoredBoxes,
    box_table,
    judge_boxes,
    predicted_boxes,
    read_box_truth,
)

FRAME_WH = (300, 300)
A, B, C = (0.0, 0, 20, 60), (200.0, 0, 220, 60), (100.0, 220, 120, 280)


def written(folder: Path, *frames: Sequence[dict[str, Any]]) -> BoxTruth:
    path = folder / "truth.json"
    path.write_text(json.dumps({"frames": [{"frame": 10 * i, "boxes": list(f)} for i, f in enumerate(frames)]}))
    return read_box_truth(path)


def scored(*boxes: tuple[float, ...], scores: Sequence[float] = ()) -> ScoredBoxes:
    return ScoredBoxes(np.array(boxes, np.float64).reshape(-1, 4), np.array(scores or [1.0] * len(boxes)), FRAME_WH)


def test_by_hand(tmp_path: Path) -> None:
    truth = written(
        tmp_path,
        [
            {"id": 1, "box_xyxy": A},
            {"id": 2, "box_xyxy": B, "hidden": 0.4},
            {"id": 3, "box_xyxy": C, "hidden": 0.6, "ignore": True},
        ],
        [{"id": 2, "box_xyxy": B, "hidden": 0.5}],
    )
    half_b = (200, 0, 220, 30)
    found = {
        0: scored(A, half_b, C, (50, 200, 70, 260), (0, 0, 20, 50), scores=[1, 1, 1, 1, 0.1]),
        5: scored((0, 0, 300, 300)),  # not drawn
        10: scored((200, 0, 220, 20)),
    }
    judged = judge_boxes(truth, found, threshold=0.5)
    assert (judged.frames, judged.predictions, judged.false_boxes) == (2, 5, 2)  # half of B is 0.5: not false
    assert (judged.full_view.boxes, judged.full_view.iou) == (1, 1.0)
    assert (judged.hidden[0.3].boxes, judged.hidden[0.3].people) == (2, 1)
    assert judged.hidden[0.3].iou == pytest.approx((0.5 + 1 / 3) / 2)
    assert judged.hidden[0.5].iou == pytest.approx(1 / 3)
    assert judged.everybody.interval is not None
    assert judged.regions["upper right"].row.boxes == 2
    assert judged.regions["upper right"].false_boxes == 1
    assert judged.regions["bottom"].false_boxes == 1
    assert judged.regions["bottom"].row.iou is None
    low = judge_boxes(truth, found, threshold=0.0)
    assert (low.predictions, low.false_boxes) == (6, 2)  # a second box over A is not false: it has IoU >= 0.5
    assert "hidden >= 0.3" in box_table(judged)


def test_a_box_is_one_persons_only(tmp_path: Path) -> None:
    truth = written(tmp_path, [{"id": 1, "box_xyxy": A}, {"id": 2, "box_xyxy": (5, 0, 25, 60), "hidden": 0.7}])
    judged = judge_boxes(truth, {0: scored(A)}, threshold=0.0)
    assert (judged.full_view.iou, judged.hidden[0.5].iou) == (1.0, 0.0)
    nothing = judge_boxes(truth, {0: scored()}, threshold=0.0)
    assert (nothing.everybody.iou, nothing.everybody.found, nothing.false_boxes) == (0.0, 0, 0)


def test_predictions_files_and_instances_give_the_same() -> None:
    instances = boards.found((boards.PERSON, (0, 0, 40, 40)), (boards.VEHICLE, (50, 0, 90, 40)), scores=[0.5, 0.25])
    read = predicted_boxes(Predictions(model="m", frames=[frame_prediction(instances, 7)]))[7]
    direct = ScoredBoxes.of(instances)
    np.testing.assert_array_equal(read.boxes_xyxy, direct.boxes_xyxy)
    np.testing.assert_array_equal(read.scores, direct.scores)
    assert read.frame_wh == direct.frame_wh
    assert ScoredBoxes.of(instances, Label.VEHICLE).scores.tolist() == [0.25]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([{"id": 1, "box_xyxy": (5, 5, 5, 9)}], "frame 0, 1"),
        ([{"id": 1, "box_xyxy": A, "hidden": 3}], "hidden 3"),
        ([{"id": 1, "box_xyxy": A}, {"id": "1", "box_xyxy": B}], "twice"),
        ([{"box_xyxy": A}], "holds no hand-made boxes"),
    ],
)
def test_malformed_truth_is_one_line(tmp_path: Path, boxes: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BoxTruthError, match=message) as caught:
        written(tmp_path, boxes)
    assert "\n" not in str(caught.value)


def test_missing_frames_and_files(tmp_path: Path) -> None:
    with pytest.raises(BoxTruthError, match="frame 0"):
        judge_boxes(written(tmp_path, []), {}, threshold=0.5)
    with pytest.raises(BoxTruthError, match=r"none\.json"):
        read_box_truth(tmp_path / "none.json")
