from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from walt_export.errors import ExportError
from walt_export.quantize import check_quantized

from walt_edge.runtimes.network import Candidates

SIZE_WH = (128, 96)
THRESHOLD = 0.4
PICTURES = {"a.png": np.zeros((96, 128, 3), np.uint8), "b.png": np.zeros((192, 256, 3), np.uint8)}


class Thing(NamedTuple):
    x0: float
    score: float = 0.9
    label: int = 1
    width: float = 20.0


class Fixed:
    """Gives the same answer to every picture: full masks of boxes in a row."""

    def __init__(self, things: Sequence[Thing]) -> None:
        self._things = sorted(things, key=lambda thing: -thing.score)

    def __call__(self, image: NDArray[np.uint8]) -> Candidates:
        assert image.shape == (96, 128, 3)
        count = len(self._things)
        maps = np.zeros((count, 3, 28, 28), np.float32)
        maps[:, 0] = 0.99
        boxes = np.array([[one.x0, 10, one.x0 + one.width, 60] for one in self._things], np.float32).reshape(-1, 4)
        scores = np.array([one.score for one in self._things], np.float32)
        return Candidates(boxes, scores, np.array([one.label for one in self._things], np.int64), maps)


THREE = [Thing(4), Thing(44), Thing(84, label=2)]


@pytest.mark.parametrize(
    ("found", "f1"),
    [
        pytest.param(THREE, 1.0, id="the-same"),
        pytest.param([*THREE, Thing(64, 0.415, width=16)], 1.0, id="more-by-a-hair"),
        pytest.param([*THREE, Thing(64, 0.39, width=16)], 1.0, id="below-the-threshold"),
    ],
)
def test_what_agrees_passes(found: list[Thing], f1: float) -> None:
    parity = check_quantized(Fixed(THREE), Fixed(found), PICTURES, size_wh=SIZE_WH, score_threshold=THRESHOLD)
    assert parity.f1 == f1
    assert parity.mask_iou == 1.0
    assert len(parity.ious) == 6
    assert parity.figures() == {"int8_mask_iou": 1.0, "int8_f1": 1.0}


def test_a_lost_instance_within_a_hair_of_the_threshold_does_not_count() -> None:
    before = [*THREE, Thing(64, 0.419, width=16)]
    parity = check_quantized(Fixed(before), Fixed(THREE), PICTURES, size_wh=SIZE_WH, score_threshold=THRESHOLD)
    assert (parity.lost, parity.extra, parity.f1) == (0, 0, 1.0)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(THREE[1:], r"F1 0\.800 .*, 2 lost, 0 added; worst: .\.png, person .*\(\d+, .*: lost", id="lost"),
        pytest.param(
            [*THREE, Thing(64, 0.5, width=16)], r"0 lost, 2 added; worst: .*score 0\.50.*: added", id="added"
        ),
        pytest.param([*THREE[:2], Thing(84)], r"2 lost, 2 added; worst: .\.png", id="another-label"),
        pytest.param(
            [*THREE[:2], Thing(89, label=2)], r"IoU 0\.86. .*; worst: .\.png, vehicle .*IoU 0\.6", id="moved"
        ),
        pytest.param([], r"F1 0\.000", id="nothing"),
    ],
)
def test_what_differs_is_refused_with_picture_and_object(found: list[Thing], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        check_quantized(Fixed(THREE), Fixed(found), PICTURES, size_wh=SIZE_WH, score_threshold=THRESHOLD)


def test_pictures_without_objects_prove_nothing() -> None:
    with pytest.raises(ExportError, match="finds nothing in the 2 pictures"):
        check_quantized(Fixed([]), Fixed([]), PICTURES, size_wh=SIZE_WH, score_threshold=THRESHOLD)
