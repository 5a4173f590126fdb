from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.walt_train.loop.gate.parts import (
    CANDIDATE,
    CHAMPION,
    EYES,
    cost,
    evaluation,
    holdout,
    jitter,
    learnt,
    provenance,
    trial,
)
from walt_train.loop.gate.evaluation import GateError, read_evaluation
from walt_train.loop.gate.gate import Trial, judge
from walt_train.loop.gate.holdout import Source
from walt_train.loop.gate.rules import Rules
from walt_train.loop.gate.verdict import Decision, Effect, Entrant, Kind, Parity, Verdict, unjudged

PASSED, REFUSED, UNJUDGED = Decision.PASSED, Decision.REFUSED, Decision.UNJUDGED
SOUND = Parity(figures={"mask_iou": 0.999, "box_px": 0.01}, checkpoint_sha256="1", trained_sha256="1")


def verdict(*trials: Trial, champion: Entrant = CHAMPION, candidate: Entrant = CANDIDATE, **more: object) -> Verdict:
    return judge(candidate, champion, trials, provenance(), **more)  # type: ignore[arg-type]


def kinds(found: Verdict) -> list[Kind]:
    return [one.kind for one in found.findings]


@pytest.mark.parametrize(
    ("gain", "champion", "decision"),
    [
        (5.0, EYES, PASSED),
        (4.99, EYES, REFUSED),
        (-3.0, EYES, REFUSED),
        (3.0, CHAMPION, PASSED),
        (0.2, CHAMPION, REFUSED),
        (-1.0, CHAMPION, REFUSED),
    ],
)
def test_what_has_to_be_beaten(gain: float, champion: Entrant, decision: Decision) -> None:
    found = verdict(trial(holdout(), gain, champion=champion), champion=champion)
    assert (found.decision, found.against, kinds(found)) == (decision, champion.name, [])
    assert found.points == pytest.approx(gain)
    assert found.line.startswith(f"{decision}: mask IoU at γ=0.5 ")
    assert "\n" not in found.line


def test_the_line_says_why() -> None:
    found = verdict(trial(holdout(), 7.25, champion=EYES), champion=EYES, rules=Rules(gain_points=8.0))
    assert re.fullmatch(
        r"refused: mask IoU at γ=0\.5 57\.2 against 50\.0 of motion, \+7\.2 points \[\+5\.\d, \+[89]\.\d\] "
        r"on 24 cases of 24 objects; expected \+8 or more",
        found.line,
    )
    assert found.candidate == pytest.approx(57.25)
    assert (found.needed_points, found.baseline) == (8.0, 50)


def test_it_is_a_pure_function() -> None:
    first, again = (verdict(trial(holdout(), 3.0)) for _ in range(2))
    assert first == again
    assert msgspec.json.decode(msgspec.json.encode(first), type=Verdict) == first


def test_one_object_tells_nothing_of_a_champion() -> None:
    found = verdict(trial(holdout(objects=1), 9.0))
    assert (found.decision, found.line) == (
        UNJUDGED,
        "unjudged: the truth's 1 cases at γ=0.5 show one object, expected several",
    )


def test_a_truth_in_which_nothing_is_hidden() -> None:
    found = verdict(trial(holdout(), 9.0, occlusion=lambda _: 0.2))
    assert (found.decision, found.points) == (UNJUDGED, None)
    assert unjudged("no truth").line == "unjudged: no truth"


def test_all_holdouts_judge_together() -> None:
    one = holdout()
    other = holdout("crossing", scene=msgspec.structs.replace(one.scene, seed=8))  # type: ignore[type-var]
    found = verdict(trial(one, 10.0), trial(other, -2.0))
    assert found.points == pytest.approx(4.0)
    assert (found.cases, found.objects) == (48, 48)
    assert [(held.name, held.cases, held.independent) for held in found.holdouts] == [
        ("street", 24, True),
        ("crossing", 24, True),
    ]


def test_harm_in_a_slice_refuses_whoever_is_better_on_the_whole() -> None:
    def gain(number: int) -> float:
        return 25.0 if number % 2 else -8.0

    found = verdict(trial(holdout(objects=48), gain))
    assert (found.decision, kinds(found)) == (REFUSED, [Kind.HARM])
    assert found.points is not None
    assert found.points > 5
    assert found.findings[0].line.startswith("class person: -8.3 points [")
    assert {one.name: one.decision for one in found.slices} == {
        "all": Effect.BETTER,
        "person": Effect.WORSE,
        "vehicle": Effect.BETTER,
    }
    assert found.line.startswith("refused: harm: class person")


def test_silhouettes_promise_nothing_by_parts() -> None:
    gains = trial(holdout(objects=48), lambda number: 30.0 if number % 2 else -8.0, champion=EYES)
    assert verdict(gains, champion=EYES).decision is PASSED


def test_harm_where_little_is_hidden_refuses_too() -> None:
    def hidden(number: int) -> float:
        return 0.7 if number % 2 else 0.0

    found = verdict(trial(holdout(objects=48), lambda number: 9.0 if number % 2 else -5.0, occlusion=hidden))
    assert Kind.HARM in kinds(found)
    assert found.points == pytest.approx(9.0, abs=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"figures": {"mask_iou": 0.97}}, "mask_iou 0.97, allowed 0.98"),
        ({"figures": {"mask_iou": 1.0, "box_px": 3.0}}, "box_px 3, allowed 0.1"),
        ({"figures": {"mask_iou": float("nan")}}, "mask_iou nan"),
        ({"figures": {"mask_iou": 1.0, "int8_f1": 0.9}}, "int8_f1 0.9"),
        ({"figures": {}}, "does not tell how far it agrees"),
        ({"checkpoint_sha256": "2"}, "its bundle is of checkpoint 2, the trained one is 1"),
        ({"foreign_golden": ("golden/9.png",)}, "golden/9.png in its bundle is no golden picture of its training"),
        ({"trouble": "a mask's IoU is 0.5"}, "does not hold on this machine: a mask's IoU is 0.5"),
    ],
)
def test_an_export_that_is_not_the_trained_network(change: dict[str, object], words: str) -> None:
    assert verdict(trial(holdout()), parity=SOUND).decision is PASSED
    found = verdict(trial(holdout()), parity=msgspec.structs.replace(SOUND, **change))
    assert (found.decision, kinds(found)) == (REFUSED, [Kind.PARITY])
    assert words in found.line


@pytest.mark.parametrize(
    ("ms", "mb", "limits", "expected"),
    [
        (14.9, 100.0, {}, []),
        (15.1, 50.0, {}, [Kind.LATENCY]),
        (10.0, 108.0, {}, [Kind.MEMORY]),
        (10.0, 50.0, {"limit_ms": 11.0}, [Kind.LATENCY]),
        (10.0, 50.0, {"limit_ms": 13.0, "limit_mb": 40.0}, [Kind.MEMORY]),
    ],
)
def test_what_it_costs(ms: float, mb: float, limits: dict[str, float], expected: list[Kind]) -> None:
    candidate = msgspec.structs.replace(CANDIDATE, cost=cost(ms, mb), **limits)
    champion = msgspec.structs.replace(CHAMPION, cost=cost())
    assert kinds(verdict(trial(holdout()), candidate=candidate, champion=champion)) == expected


def test_costs_of_the_eyes_without_weights_are_none() -> None:
    candidate = msgspec.structs.replace(CANDIDATE, cost=cost(5000.0, 5000.0))
    assert verdict(trial(holdout(), champion=EYES), candidate=candidate, champion=EYES).decision is PASSED


@pytest.mark.parametrize(
    ("source", "changes", "passes"),
    [
        (Source.RENDERED, {}, True),
        (Source.HUMAN, {}, True),
        (Source.STATIONARY, {}, False),
        (Source.STATIONARY, {"devices": ("home/walt-other",)}, False),  # it still is the model's camera
        (Source.STATIONARY, {"devices": ("home/walt-other",), "cameras": ("cam-2",)}, True),
    ],
)
def test_truth_never_comes_from_the_device_that_it_protects_alone(
    source: Source, changes: dict[str, Any], passes: bool
) -> None:
    found = verdict(trial(holdout("held", source, **changes)))
    assert (found.decision is PASSED, Kind.OWN_DEVICE in kinds(found)) == (passes, not passes)
    if not passes:
        assert "held is of the devices that the model is for (home/walt-own)" in found.line


def test_a_holdout_from_elsewhere_that_shows_nothing_is_no_judge() -> None:
    own = holdout("own", Source.STATIONARY)
    found = verdict(trial(own), trial(holdout(objects=5)))
    assert kinds(found) == [Kind.OWN_DEVICE]
    assert "only 5 half hidden objects judge that are not of the devices" in found.line
    assert verdict(trial(own), trial(holdout(objects=8))).decision is PASSED


def test_labels_that_are_a_models_own_masks() -> None:
    held = holdout()
    own = evaluation(held, CANDIDATE, lambda number: 100.0 if number < 6 else 60.0 + jitter(number))
    found = verdict(Trial(held, own, evaluation(held, CHAMPION, lambda _: 50)))
    assert kinds(found) == [Kind.OWN_LABELS]
    assert "6 of 24 occluded objects in street are demo-2's own masks" in found.line
    few = evaluation(held, CANDIDATE, lambda number: 100.0 if number < 4 else 60.0)
    assert verdict(Trial(held, few, evaluation(held, CHAMPION, lambda _: 50))).decision is PASSED
    champions = evaluation(held, CHAMPION, lambda number: 99.0 if number < 20 else 40.0)
    more = Trial(held, evaluation(held, CANDIDATE, lambda number: 97.0), champions)
    assert "are demo-1's own masks" in verdict(more).line


def test_a_holdout_that_trained() -> None:
    seen = provenance([learnt()], data=("data of street",))
    found = judge(CANDIDATE, CHAMPION, [trial(holdout())], seen)
    assert (found.decision, kinds(found)) == (REFUSED, [Kind.LEAKED_DATA])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": "other"}, "an evaluation is of other"),
        ({"model_sha256": "f" * 64}, "an evaluation is of demo-2 (ffffffffffff), expected demo-2 (cccccccccccc)"),
        ({"data_sha256": "x"}, "were evaluated on different truth"),
    ],
)
def test_evaluations_of_somebody_else(changed: dict[str, object], words: str) -> None:
    good = trial(holdout())
    with pytest.raises(GateError, match=re.escape(words)):
        verdict(Trial(good.holdout, msgspec.structs.replace(good.candidate, **changed), good.champion))


def test_evaluations_of_other_frames_or_cases() -> None:
    good = trial(holdout())
    with pytest.raises(GateError, match=r"on 24 frames, such as images/23\.jpg, expected the 23 of street"):
        verdict(Trial(holdout(objects=23), good.candidate, good.champion))
    half = msgspec.structs.replace(good.candidate.result, cases=good.candidate.result.cases[::2])
    with pytest.raises(GateError, match="do not hold the same cases"):
        verdict(Trial(good.holdout, msgspec.structs.replace(good.candidate, result=half), good.champion))


def test_what_walt_train_evaluate_writes_is_read(tmp_path: Path) -> None:
    amodal_iou = pytest.importorskip("walt_train.metrics.amodal_iou", reason="needs the extra train")
    files = pytest.importorskip("walt_train.metrics.evaluation", reason="needs the extra train")

    def written(model: str, iou: float) -> object:
        rows = [amodal_iou.Case(f"images/{n}.jpg", 0, f"cam/{n % 5}", 1, 2000, 800, iou, iou, 0.9) for n in range(9)]
        result = msgspec.structs.replace(amodal_iou.evaluate_frames([]), cases=tuple(rows), frames=9)
        return files.Evaluation(
            model=model, model_sha256="", data="t", data_sha256="d", every=1, threshold=0.0, result=result
        )

    motion, model = written("motion", 0.4), written("demo-1", 0.6)
    files.write_evaluation(motion, tmp_path / "motion.json")
    files.write_evaluation(model.minus(motion), tmp_path / "candidate.json")  # type: ignore[attr-defined]
    candidate, baseline = (read_evaluation(tmp_path / f"{name}.json") for name in ("candidate", "motion"))
    found = verdict(Trial(holdout(objects=9), candidate, baseline), champion=EYES, candidate=Entrant(name="demo-1"))
    assert found.points == pytest.approx(20)
    assert (found.decision, found.objects) == (PASSED, 5)


@pytest.mark.parametrize(
    "data", ["", "{", '{"model": "m"}', '{"model":"m","data_sha256":"d","result":{"at_gamma":[]}}']
)
def test_what_is_no_evaluation(tmp_path: Path, data: str) -> None:
    (tmp_path / "x.json").write_text(data)
    with pytest.raises(GateError, match=r"x\.json is no evaluation"):
        read_evaluation(tmp_path / "x.json")
    with pytest.raises(GateError, match=r"cannot read .*y\.json: No such file"):
        read_evaluation(tmp_path / "y.json")
