"""What the report tells of a generation: the table, the curve, the swap, and pictures before and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from tests.walt_train.loop import scene
from tests.walt_train.loop.test_report import CROPS, Page, report_of
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.predictions import FramePrediction, frame_prediction
from walt_train.loop.report.beforeafter import closest, whole_frame
from walt_train.loop.report.evidence import Evidence, Line, ReportError, read_evidence
from walt_train.loop.report.figures import LEAST_STEPS, failing, learning_gates
from walt_train.loop.report.learning import Learning, Point, Swap, compared, curve, curve_path, swap_of
from walt_train.loop.report.page import Learned, write_report
from walt_train.loop.store.store import Store

SWAPPED_AT = 6


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Evidence]:
    """A watch in which a model takes over at frame 6; sampled frames are 0, 4 and 8."""
    sealed = [scene.plate(), *CROPS]
    scene.write_journal(tmp_path / "journal", sealed)
    path = tmp_path / "journal" / "journal.jsonl"
    rows = path.read_bytes().splitlines()
    out = [msgspec.json.decode(row) for row in rows[:-1]]
    for row in out:
        if row["frame"] is not None and row["frame"] >= SWAPPED_AT:
            row["model_release"] = 1
            if "picture" in row:
                row["prediction"] = prediction(row["frame"])
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in out))
    with Store(tmp_path / "store") as store:
        scene.fill_store(store, sealed)
        yield read_evidence(tmp_path / "journal", store, scene.telemetry(4))


def prediction(frame: int) -> FramePrediction:
    """The car seen whole, and the walker below it half hidden."""
    car, walker = (PatchMask.from_full(thing.mask(frame)) for thing in (scene.CAR, scene.HIDDEN))
    none = PatchMask(0, 0, np.zeros((0, 0), bool))
    front = np.zeros_like(walker.mask)
    front[: walker.mask.shape[0] // 2] = True
    instances = AmodalInstances(
        (scene.WIDTH, scene.HEIGHT),
        np.array([car.box_xyxy, walker.box_xyxy], np.float32),
        np.array([2, 1]),
        np.array([0.9, 0.8], np.float32),
        (car, walker),
        (none, PatchMask(walker.x, walker.y, front)),
        (none, none),
    )
    return frame_prediction(instances, frame)


def learning(**changes: object) -> Learning:
    values = {
        "generation": 1,
        "crops": 60,
        "tracks": 25,
        "steps": LEAST_STEPS,
        "recipe": "demo",
        "parameters": 400_000,
        "gflops": 0.93,
        "score_threshold": 0.4,
        "verdict": "passed",
        "says": "passed: mask IoU at γ=0.5",
        "compared": [],
        "curve": [Point(1, 4.0), Point(2, 1.0)],
        "took_s": {"train": 200.0},
        "swap": Swap(release=1, frames_before=6, frames_after=6, frames_lost=0),
    }
    return msgspec.convert(values | changes, Learning)


def evaluation(box: float, mask: float, differences: bool) -> bytes:
    row = {"cases": 40, "objects": 7, "box_iou": box, "mask_iou": mask}
    found = [
        {"band": {"low": 0.0, "high": 0.9}, **dict.fromkeys(("box_points", "mask_points"), 99.0)},
        {"band": {"low": 0.01, "high": 0.1}, **dict.fromkeys(("box_points", "mask_points"), 98.0)},
        {"band": {"low": 0.01, "high": 0.9}, "box_points": 10.0, "mask_points": 20.0},
        {"band": {"low": 0.5, "high": 0.9}, "box_points": 10.0, "mask_points": 20.0},
    ]
    for one in found:
        one |= {"cases": 40, "objects": 7}
        one |= {"box_interval": [1.0, 2.0], "mask_interval": [float(one["band"]["low"]), 30.0]}  # type: ignore[index]
    return msgspec.json.encode(
        {
            "model": "demo",
            "data_sha256": "1" * 64,
            "result": {"at_gamma": {0.01: row, 0.5: row}},
            "differences": found if differences else [],
        }
    )


def test_the_table_is_of_both_evaluations(tmp_path: Path) -> None:
    (tmp_path / "motion.json").write_bytes(evaluation(30.0, 20.0, differences=False))
    (tmp_path / "candidate.json").write_bytes(evaluation(40.0, 40.0, differences=True))
    rows = compared(tmp_path / "motion.json", tmp_path / "candidate.json")
    assert [(row.what, row.gamma, row.before, row.after, row.gain) for row in rows] == [
        ("box", 0.01, 30.0, 40.0, 10.0),
        ("mask", 0.01, 20.0, 40.0, 20.0),
        ("box", 0.5, 30.0, 40.0, 10.0),
        ("mask", 0.5, 20.0, 40.0, 20.0),
    ]
    assert [row.gain_95 for row in rows if row.what == "mask"] == [(0.01, 30.0), (0.5, 30.0)]
    with pytest.raises(ReportError, match=r"none\.json"):
        compared(tmp_path / "none.json", tmp_path / "candidate.json")


def test_a_long_curve_is_averaged(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    path.write_bytes(
        msgspec.json.encode([{"step": i + 1, "loss": float(i % 2), "loss_box": 1.0} for i in range(1000)])
    )
    points = curve(path)
    assert 100 < len(points) <= 160
    assert {round(point.loss, 1) for point in points[:-1]} <= {0.4, 0.5, 0.6}
    assert points[0].step < points[-1].step <= 1000
    assert curve_path([Point(1, 4.0), Point(3, 1.0), Point(5, 0.0)], 100, 40) == "0.0,0.0 50.0,30.0 100.0,40.0"
    assert curve_path([], 100, 40) == ""


def test_the_swap_is_read_off_the_journal(evidence: Evidence) -> None:
    assert swap_of(evidence) == Swap(release=1, frames_before=6, frames_after=6, frames_lost=0)


@pytest.mark.parametrize(
    ("frames", "lost"),
    [
        ([(0, 0), (1, 0), (2, 1), (3, 1)], 0),
        ([(0, 0), (1, 0), (5, 1), (6, 1)], 3),
        ([(0, 0), (1, 0)], 0),
        ([(4, 1), (5, 1)], 0),
    ],
)
def test_frames_lost_at_the_swap_are_counted(evidence: Evidence, frames: list[tuple[int, int]], lost: int) -> None:
    evidence.lines[:] = [Line(frame, [], [], model_release=release) for frame, release in frames]
    assert swap_of(evidence).frames_lost == lost


def test_nothing_is_lost_while_the_plate_is_learned(evidence: Evidence) -> None:
    learned = [Line(frame, [], [], warm_up=True) for frame in (0, 1)]
    evidence.lines[:] = [*learned, *(Line(frame, [], [], model_release=2) for frame in (20, 21, 22))]
    assert swap_of(evidence) == Swap(release=2, frames_before=0, frames_after=3, frames_lost=0)


def test_pictures_before_and_after(evidence: Evidence) -> None:
    pair = whole_frame(evidence, 800)
    assert pair is not None
    before, after = pair
    assert before.shape == after.shape == (450, 800, 3)
    assert (before != after).any()
    [close] = closest(evidence, 6, 120, 90)
    assert close.before.shape == close.after.shape == (90, 120, 3)
    assert (close.label, close.occlusion_fraction) == ("person", 0.5)


def test_without_a_model_there_is_nothing_to_compare(evidence: Evidence) -> None:
    evidence.lines[:] = [msgspec.structs.replace(line, prediction=None) for line in evidence.lines]
    assert whole_frame(evidence, 800) is None
    assert closest(evidence, 6, 120, 90) == []


@pytest.mark.parametrize(
    ("changes", "least", "says"),
    [
        ({}, (3, 2), ""),
        ({"verdict": "unjudged"}, (3, 2), ""),
        ({"steps": LEAST_STEPS - 1}, (3, 2), f"training: {LEAST_STEPS - 1} steps of {LEAST_STEPS} or more"),
        ({"verdict": "refused", "says": "refused: too little"}, (3, 2), "gate: refused: too little"),
        ({"swap": None}, (3, 2), "swap: nothing was published"),
        (
            {"swap": Swap(release=0, frames_before=9, frames_after=0, frames_lost=0)},
            (3, 2),
            "swap: the agent runs no",
        ),
        ({}, (4, 2), "clip art: 3 crops of 2 objects, expected 4 of 2 or more"),
        ({}, (3, 3), "clip art: 3 crops of 2 objects, expected 3 of 3 or more"),
    ],
)
def test_gates_of_the_loop(evidence: Evidence, changes: dict[str, object], least: tuple[int, int], says: str) -> None:
    found = failing(learning_gates(evidence, learning(**changes), least))
    assert found == says or (says and found.startswith(says))


def test_what_never_began_is_named(evidence: Evidence) -> None:
    assert failing(learning_gates(evidence, None, (50, 20))).startswith("clip art: 3 crops of 2 objects")


def test_the_page_tells_of_the_generation(tmp_path: Path, evidence: Evidence) -> None:
    told = msgspec.structs.replace(report_of(evidence, []), learning=learning())
    sheet = np.full((40, 60, 3), 90, np.uint8)
    html = write_report(tmp_path, told, evidence, [], Learned(evidence, sheet)).read_text()
    page = Page(html)
    assert page.open == []
    assert "What it learned" in page.text
    assert "passed: mask IoU at γ=0.5" in page.text
    assert "0 lost at the change" in page.text
    assert "<polyline" in html
    picture = cv2.imread(str(tmp_path / "loop.png"))
    assert picture is not None
    assert picture.shape[1] == 1200
    assert all(source.startswith("data:image/") for source in page.sources)
    assert (
        "What it learned" not in Page(write_report(tmp_path, report_of(evidence, []), evidence, []).read_text()).text
    )
