from __future__ import annotations

from pathlib import Path

import pytest

from walt_train.loop.serve.gate import (
    Band,
    Decision,
    Difference,
    Evaluation,
    Figures,
    GateError,
    Row,
    judge,
    read_evaluation,
    unjudged,
)

PASSED, REFUSED, UNJUDGED = Decision.PASSED, Decision.REFUSED, Decision.UNJUDGED


def evaluation(model: str, mask_iou: float | None, **more: object) -> Evaluation:
    figures = Figures({0.01: Row(mask_iou), 0.5: Row(mask_iou)})
    return Evaluation(model=model, data_sha256="d", result=figures, **more)  # type: ignore[arg-type]


def compared(
    points: float | None, interval: tuple[float, float] | None, against: str, objects: int = 7
) -> tuple[Evaluation, Evaluation]:
    """A candidate and what it was compared with."""
    rest = Difference(Band(0.0, 0.9), 99, 20, 50.0, (40.0, 60.0))
    hidden = Difference(Band(0.5, 0.9), 31, objects, points, interval)
    value = None if points is None else 40 + points
    candidate = evaluation("demo-2", value, against=against, differences=(rest, hidden))
    return candidate, evaluation(against, None if points is None else 40)


@pytest.mark.parametrize(
    ("points", "interval", "against", "decision"),
    [
        (5.0, (-1.0, 9.0), "motion", PASSED),
        (4.99, (4.0, 6.0), "motion", REFUSED),
        (-3.0, (-4.0, -1.0), "motion", REFUSED),
        (9.0, None, "motion", PASSED),
        (None, None, "motion", UNJUDGED),
        (0.4, (0.1, 0.9), "demo-1", PASSED),
        (9.0, (-0.1, 20.0), "demo-1", REFUSED),
        (9.0, (0.0, 20.0), "demo-1", REFUSED),
        (-1.0, (-2.0, -0.5), "demo-1", REFUSED),
        (9.0, None, "demo-1", UNJUDGED),
        (None, None, "demo-1", UNJUDGED),
    ],
)
def test_the_gate(
    points: float | None, interval: tuple[float, float] | None, against: str, decision: Decision
) -> None:
    verdict = judge(*compared(points, interval, against), gain=5.0)
    assert verdict.decision is decision
    assert verdict.line.startswith(f"{decision}: ")
    assert "\n" not in verdict.line


def test_the_verdict_says_why() -> None:
    verdict = judge(*compared(7.25, (3.0, 11.5), "motion"), gain=8.0)
    assert verdict.line == (
        "refused: mask IoU at γ=0.5 47.2 against 40.0 of motion, +7.2 points [+3.0, +11.5] "
        "on 31 cases of 7 objects; expected +8 or more"
    )
    assert (verdict.points, verdict.interval, verdict.needed_points) == (7.25, (3.0, 11.5), 8.0)
    assert (verdict.candidate, verdict.baseline, verdict.cases, verdict.objects) == (47.25, 40, 31, 7)


def test_a_truth_in_which_nothing_is_hidden() -> None:
    candidate, baseline = compared(1.0, None, "motion")
    blank = evaluation("demo-2", 1.0, against="motion", differences=candidate.differences[:1])
    assert judge(blank, baseline, gain=5.0).decision is UNJUDGED


def test_evaluations_that_do_not_belong_together() -> None:
    candidate, _ = compared(9.0, (8.0, 10.0), "motion")
    with pytest.raises(GateError, match="demo-2 was compared with 'motion', expected demo-1"):
        judge(candidate, evaluation("demo-1", 40.0), gain=5.0)


def test_unjudged() -> None:
    assert unjudged("no truth").line == "unjudged: no truth"


def test_what_walt_train_evaluate_writes_is_read(tmp_path: Path) -> None:
    amodal_iou = pytest.importorskip("walt_train.metrics.amodal_iou", reason="needs the extra train")
    files = pytest.importorskip("walt_train.metrics.evaluation", reason="needs the extra train")

    def written(model: str, iou: float) -> object:
        rows = [amodal_iou.Case(f"{n}.jpg", 0, f"cam/{n % 3}", 1, 2000, 800, iou, iou, 0.9) for n in range(9)]
        none = amodal_iou.evaluate_frames([])
        row = amodal_iou._row(amodal_iou.AT_GAMMA[1], rows, 0, 0)
        result = amodal_iou.msgspec.structs.replace(none, at_gamma={0.5: row}, cases=tuple(rows))
        return files.Evaluation(
            model=model, model_sha256="", data="t", data_sha256="d", every=1, threshold=0.0, result=result
        )

    motion, model = written("motion", 0.4), written("demo-1", 0.6)
    files.write_evaluation(motion, tmp_path / "motion.json")
    files.write_evaluation(model.minus(motion), tmp_path / "candidate.json")  # type: ignore[attr-defined]
    candidate, baseline = (read_evaluation(tmp_path / f"{name}.json") for name in ("candidate", "motion"))
    verdict = judge(candidate, baseline, gain=5.0)
    assert verdict.decision is PASSED
    assert (verdict.candidate, verdict.baseline) == pytest.approx((60, 40))
    assert verdict.points == pytest.approx(20)


@pytest.mark.parametrize(
    "data", ["", "{", '{"model": "m"}', '{"model":"m","data_sha256":"d","result":{"at_gamma":[]}}']
)
def test_what_is_no_evaluation(tmp_path: Path, data: str) -> None:
    (tmp_path / "x.json").write_text(data)
    with pytest.raises(GateError, match=r"x\.json is no evaluation"):
        read_evaluation(tmp_path / "x.json")
    with pytest.raises(GateError, match=r"cannot read .*y\.json: No such file"):
        read_evaluation(tmp_path / "y.json")
