from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from walt_train.loop.rollout.judging import SIGNALS, Pair, Signal, Totals, compare, compare_past
from walt_train.loop.rollout.model import Limits
from walt_train.loop.rollout.student import quantile

LIMITS = Limits()
BY_NAME = {one.name: one for one in SIGNALS}


def told(scored: float = 5000, score: float = 0.8, infer_ms: float = 40.0, objects: float = 300) -> Totals:
    return Totals(
        count=100,
        frames=10_000,
        objects=round(objects),
        crops=round(objects / 2),
        looks=10_000,
        scored=round(scored),
        score_milli=round(1000 * score * scored),
        infer_ms=100 * infer_ms,
        step_ms=100 * (50 + infer_ms),
    )


def pairs(count: int, seed: int, spread: float = 0.1, **after: float) -> list[Pair]:
    """Devices of different size; what they tell afterwards is changed by these factors, and by chance."""
    chance = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        before = {"scored": 5000 * math.exp(chance.normal(0, 1)), "infer_ms": 40.0, "score": 0.8, "objects": 300.0}
        now = {name: value * after.get(name, 1.0) for name, value in before.items()}
        now |= {name: now[name] * math.exp(chance.normal(0, spread)) for name in ("scored", "objects")}
        made.append(Pair(told(**before), told(**now)))
    return made


def verdict(signal: str, treated: list[Pair], control: list[Pair], stretch: float = 1.0) -> str:
    return compare(BY_NAME[signal], treated, control, LIMITS, looser=1.0, stretch=stretch).verdict


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 20, 300])
@pytest.mark.parametrize("tail", [0.4, 0.1, 0.01, 0.001, 1e-6])
def test_the_quantile_is_students(freedom: int, tail: float) -> None:
    assert quantile(tail, freedom) == pytest.approx(t.isf(tail, freedom), rel=1e-3)


@pytest.mark.parametrize(
    ("signal", "after"),
    [
        ("detections", {"scored": 0.6}),
        ("detections", {"scored": 0.0}),
        ("flood", {"scored": 6.0}),
        ("scores", {"score": 0.7}),
        ("latency", {"infer_ms": 2.0}),
        ("step time", {"infer_ms": 4.0}),
        ("objects", {"objects": 0.4}),
        ("crops", {"objects": 0.2}),
    ],
)
@pytest.mark.parametrize("treated", [1, 6])
def test_what_is_much_worse_is_a_breach(signal: str, after: dict[str, float], treated: int) -> None:
    control = pairs(25, 1)
    assert verdict(signal, pairs(treated, 2, **after), control) == "breach"
    assert verdict(signal, pairs(treated, 3), control) in ("fine", "undecided")


def test_what_befalls_all_is_not_the_release_s() -> None:
    """Night: everybody sees a fifth. A release that sees a third less than that is found all the same."""
    night = pairs(25, 1, scored=0.2)
    assert verdict("detections", pairs(6, 2, scored=0.2), night) == "fine"
    assert verdict("detections", pairs(6, 2, scored=0.2 * 0.6), night) == "breach"


def test_between_the_two_it_is_undecided() -> None:
    wild = pairs(12, 1, spread=0.6)
    assert verdict("detections", pairs(1, 2, spread=0.6, scored=0.7), wild) == "undecided"


def test_a_few_wild_devices_decide_nothing() -> None:
    """Two of twelve treated see nothing for reasons of their own: the trimmed mean does not."""
    treated = pairs(10, 2) + pairs(2, 3, scored=0.01)
    assert verdict("detections", treated, pairs(25, 1)) == "fine"


def test_without_enough_to_compare_with_nothing_is_known() -> None:
    assert verdict("detections", pairs(1, 2), pairs(3, 1)) == "unknown"
    assert verdict("detections", [Pair(told(scored=0), told(scored=0))], pairs(25, 1)) == "unknown"
    fresh = [Pair(Totals(count=100), told())]
    assert {verdict(one.name, fresh, pairs(25, 1)) for one in SIGNALS} == {"unknown"}


def test_what_has_hardly_begun_is_waited_for() -> None:
    """Twelve were seen before; too little time has passed to expect any, and there is more."""
    quiet = [Pair(told(scored=200), Totals(count=5, looks=100, frames=100))]
    assert verdict("detections", quiet, pairs(25, 1), stretch=20.0) == "undecided"


def test_a_camera_alone_is_held_against_its_own_days() -> None:
    chance = np.random.default_rng(5)
    days = [told(scored=5000 * math.exp(chance.normal(0, 0.05))) for _ in range(7)]

    def against(now: Totals, past: list[Totals], signal: Signal = BY_NAME["detections"]) -> str:
        return compare_past(signal, [(now, past)], LIMITS, looser=1.0).verdict

    assert against(told(scored=5000), days) == "fine"
    assert against(told(scored=2500), days) == "breach"
    assert against(told(scored=2500), days[:3]) == "unknown"


def test_false_alarms_are_as_rare_as_the_plan_says() -> None:
    """Of 1,000 comparisons of releases that change nothing, with noise that reaches the limit often."""
    alarms = 0
    for seed in range(1000):
        control, treated = pairs(10, 2 * seed, spread=0.25), pairs(1, 2 * seed + 1, spread=0.25)
        alarms += verdict("detections", treated, control) == "breach"
    assert alarms <= 1000 * LIMITS.significance * 4
