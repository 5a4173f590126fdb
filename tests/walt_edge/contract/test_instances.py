from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from walt_edge.contract.instances import AmodalInstances, InstancesError
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.predictions import (
    Predictions,
    PredictionsError,
    frame_instances,
    frame_prediction,
    read_predictions,
    write_predictions,
)

W, H = 40, 30


def _block(x0: int, y0: int, x1: int, y1: int) -> PatchMask:
    return PatchMask(x0, y0, np.ones((y1 - y0, x1 - x0), bool))


def _instances(scores: list[float] | None = None, boxes: object = None) -> AmodalInstances:
    return AmodalInstances(
        (W, H),
        np.array([[0, 0, 10, 10], [5, 0, 25, 10]] if boxes is None else boxes, np.float32),
        np.array([1, 2]),
        np.array(scores or [0.9, 0.5], np.float32),
        (_block(0, 0, 10, 10), _block(5, 0, 25, 10)),
        (_block(0, 0, 0, 0), _block(5, 0, 10, 10)),
        (_block(5, 0, 10, 10), _block(0, 0, 0, 0)),
    )


def test_layers_are_views_of_one_truth() -> None:
    found = _instances()
    assert found.amodal_masks.shape == (2, H, W)
    assert (found.visible_masks == (found.amodal_masks & ~found.occluder_masks)).all()
    assert found.occlusion_fractions.tolist() == [0.0, 0.25]
    assert found.occlusion_fractions.dtype == np.float32
    assert found.occluded_masks[0].sum() == 50


def test_boxes_of_what_is_seen_are_tight() -> None:
    found = _instances()
    assert found.visible_boxes_xyxy.tolist() == [[0, 0, 10, 10], [10, 0, 25, 10]]
    whole = found.amodal[:1]
    hidden = AmodalInstances(
        (W, H), found.boxes_xyxy[:1], found.labels[:1], found.scores[:1], whole, whole, found.occluded[:1]
    )
    assert hidden.visible_boxes_xyxy.tolist() == [[0, 0, 0, 0]]
    assert AmodalInstances.empty((W, H)).visible_boxes_xyxy.shape == (0, 4)


def test_none_is_a_value_too() -> None:
    none = AmodalInstances.empty((W, H))
    assert len(none) == 0
    assert none.amodal_masks.shape == none.visible_masks.shape == (0, H, W)
    assert none.occlusion_fractions.shape == (0,)
    assert len(_instances().select([])) == 0


def test_some_are_selected_in_order() -> None:
    swapped = _instances().select([1, 0])
    assert swapped.labels.tolist() == [2, 1]
    assert swapped.amodal[0].box_xyxy == (5, 0, 25, 10)
    assert swapped.occlusion_fractions.tolist() == [0.25, 0.0]


@pytest.mark.parametrize(
    ("scores", "boxes", "words"),
    [
        ([1.5, 0.5], None, "scores from"),
        ([float("nan"), 0.5], None, "not finite"),
        ([0.9], None, "1 scores"),
        (None, [[0, 0, 10, 10], [5, 0, W + 1, 10]], "leaves the frame"),
        (None, [[-1, 0, 10, 10], [5, 0, 10, 10]], "leaves the frame"),
    ],
)
def test_contradictions_are_refused(scores: list[float] | None, boxes: object, words: str) -> None:
    with pytest.raises(InstancesError, match=words):
        _instances(scores, boxes)


@given(st.integers(0, 2**32 - 1))
def test_a_prediction_comes_back_as_it_was(seed: int) -> None:
    random = np.random.default_rng(seed)

    def layer(share: float) -> NDArray[np.bool_]:
        return random.random((3, H, W)) < share

    patches = [tuple(PatchMask.from_full(mask) for mask in layer(share)) for share in (0.6, 0.3, 0.0)]
    boxes = np.tile(np.array([1.25, 2.5, 30, 20], np.float32), (3, 1))
    before = AmodalInstances((W, H), boxes, np.array([1, 2, 1]), np.full(3, 0.25, np.float32), *patches)
    after = frame_instances(frame_prediction(before, 7, "7.png"))
    assert (after.boxes_xyxy == before.boxes_xyxy).all()
    for name in ("amodal_masks", "visible_masks", "occluder_masks", "occluded_masks"):
        assert (getattr(after, name) == getattr(before, name)).all(), name


def test_a_file_of_predictions(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    frames = [frame_prediction(_instances(), 0, "0.jpg"), frame_prediction(AmodalInstances.empty((W, H)), 1)]
    write_predictions(path, Predictions(model="demo-1", frames=frames))
    back = read_predictions(path)
    assert back.frames == frames
    assert [c["name"] for c in back.categories] == ["person", "vehicle"]
    path.write_text('{"model": 3}')
    with pytest.raises(PredictionsError, match="no predictions file"):
        read_predictions(path)
    with pytest.raises(PredictionsError, match="walt-edge detect"):
        read_predictions(tmp_path / "none.json")


def test_a_mask_of_another_size_is_refused() -> None:
    wrong = msgspec.structs.replace(frame_prediction(_instances(), 0), width=W + 1)
    with pytest.raises(PredictionsError, match="not of the frame's size"):
        frame_instances(wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"category_id": 2**70}, {"score": 7.0}, {"bbox": (0.0, 0.0, float("nan"), 1.0)}],
    ids=["label", "score", "box"],
)
def test_a_number_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    prediction = frame_prediction(_instances(), 0)
    first = msgspec.structs.replace(prediction.instances[0], **wrong)
    with pytest.raises(PredictionsError, match="frame 0: "):
        frame_instances(msgspec.structs.replace(prediction, instances=[first]))


def test_a_file_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_bytes(b'{"x":' + b"[" * 500_000)
    with pytest.raises(PredictionsError, match="is no predictions file"):
        read_predictions(tmp_path / "deep.json")


def test_predictions_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(PredictionsError, match="give another --out"):
        write_predictions(tmp_path / "taken", Predictions(model="m", frames=[]))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_outlines_alone_are_whole_and_hide_nothing() -> None:
    patches = [PatchMask(3, 2, np.ones((4, 5), bool)), PatchMask(0, 0, np.eye(3, dtype=bool))]
    found = AmodalInstances.of_masks((20, 10), [1, 2], [0.5, 1.0], patches)
    np.testing.assert_array_equal(found.boxes_xyxy, [[3, 2, 8, 6], [0, 0, 3, 3]])
    np.testing.assert_array_equal(found.visible_masks, found.amodal_masks)
    assert found.occlusion_fractions.tolist() == [0, 0]
    assert len(AmodalInstances.of_masks((20, 10), [], [], [])) == 0
