"""Rows of each class, of objects that are large enough."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.walt_train.metrics.boards import PERSON, VEHICLE, Box, found, truth
from walt_train.metrics.amodal_iou import MetricsError, compare, evaluate_frames
from walt_train.metrics.by_class import class_differences, class_rows, is_large
from walt_train.metrics.evaluation import Evaluation, read_evaluation, table, write_evaluation

TALL: Box = (0, 0, 30, 96)
SHORT: Box = (40, 0, 80, 95)
CAR: Box = (100, 0, 180, 48)
FLAT: Box = (100, 100, 180, 147)
ALL = ((PERSON, TALL), (PERSON, SHORT), (VEHICLE, CAR), (VEHICLE, FLAT))


def test_only_what_is_large_is_asked_for() -> None:
    result = evaluate_frames([(found(*ALL), truth(*ALL))])
    assert [is_large(case) for case in result.cases] == [True, False, True, False]
    rows = class_rows(result.cases, result.false_by_label)
    assert [(row.label, row.total.cases, row.total.mask_iou) for row in rows] == [
        ("person", 1, 100),
        ("vehicle", 1, 100),
    ]
    assert rows[0].asked == "height >= 96 px"


def test_false_boxes_are_those_of_the_class() -> None:
    result = evaluate_frames([(found((VEHICLE, FLAT), (VEHICLE, (200, 0, 240, 40))), truth((PERSON, TALL)))])
    assert result.false_by_label == {1: 0, 2: 2}
    assert result.false_boxes == 2
    (row,) = class_rows(result.cases, result.false_by_label)
    assert (row.label, row.total.false_boxes) == ("person", 0)
    partial = evaluate_frames([(found((VEHICLE, FLAT)), truth((PERSON, TALL)))], complete=False)
    assert (partial.false_boxes, partial.total.precision) == (0, None)


def test_differences_by_class() -> None:
    frames = [truth(*ALL, tracks=(0, 1, 2, 3), name="0"), truth(*ALL, tracks=(4, 5, 6, 7), name="1")]
    good = evaluate_frames([(found(*ALL), frame) for frame in frames])
    poor = evaluate_frames([(found((VEHICLE, CAR)), frame) for frame in frames])
    differences = class_differences(good.cases, poor.cases)
    assert differences["person"][0].mask_points == pytest.approx(100)
    assert differences["vehicle"][0].mask_points == pytest.approx(0)
    assert differences["vehicle"][0].cases == 2
    with pytest.raises(MetricsError):
        class_differences(good.cases, poor.cases[:2])
    assert compare(good.cases, poor.cases)[0].cases == 8


def test_evaluations_of_format_1_are_still_read(tmp_path: Path) -> None:
    result = evaluate_frames([(found(*ALL), truth(*ALL))])
    new = Evaluation(
        model="m",
        model_sha256="",
        data="d",
        data_sha256="a" * 64,
        every=1,
        threshold=0.5,
        result=result,
        by_class=class_rows(result.cases, result.false_by_label),
    )
    write_evaluation(new, tmp_path / "new.json")
    assert read_evaluation(tmp_path / "new.json") == new
    old = msgspec.json.decode(msgspec.json.encode(new))
    for name in ("by_class", "class_differences", "average_precision", "calibration"):
        del old[name]
    del old["result"]["false_by_label"]
    old["result"]["cases"] = [case[:-1] for case in old["result"]["cases"]]
    old["format"] = 1
    (tmp_path / "old.json").write_bytes(msgspec.json.encode(old))
    before = read_evaluation(tmp_path / "old.json")
    after = new.minus(before)
    assert set(after.class_differences) == {"person", "vehicle"}
    assert "m - m, vehicle, points" in table(after)
    assert "person, height >= 96 px" in table(after)
    old["format"] = 3
    (tmp_path / "old.json").write_bytes(msgspec.json.encode(old))
    with pytest.raises(MetricsError, match="format 3"):
        read_evaluation(tmp_path / "old.json")
