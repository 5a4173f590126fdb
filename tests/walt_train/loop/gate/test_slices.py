from __future__ import annotations

import numpy as np
import pytest

from walt_train.loop.gate.rules import Rules
from walt_train.loop.gate.slices import Pair, sliced
from walt_train.loop.gate.verdict import Effect, Slice
from walt_train.metrics.bootstrap import mean_intervals

CHANCE = np.random.default_rng(3)


def pairs(objects: int, points: float, *, camera: str = "a", cases: int = 3, occlusion: float = 0.6) -> list[Pair]:
    """So many objects on which a candidate is better by so many points, give or take 5."""
    apart = CHANCE.normal(0, 5, objects)
    apart += points - apart.mean()
    return [
        Pair(f"{camera}/{n}/{occlusion}", occlusion, 50 + float(apart[n]), 50.0, "rendered", camera, "person")
        for n in range(objects)
        for _ in range(cases)
    ]


def by_name(found: tuple[Slice, ...]) -> dict[str, Slice]:
    return {one.name: one for one in found}


def test_one_value_is_no_slice() -> None:
    assert [(one.dimension, one.name) for one in sliced(pairs(20, 1.0), Rules())] == [("all", "all")]
    assert sliced([], Rules()) == ()


@pytest.mark.parametrize(
    ("points", "effect"), [(4.0, Effect.BETTER), (0.0, Effect.EVEN), (-1.5, Effect.EVEN), (-6.0, Effect.WORSE)]
)
def test_what_a_slice_tells(points: float, effect: Effect) -> None:
    found = by_name(sliced(pairs(60, points) + pairs(40, 8.0, camera="b"), Rules()))
    assert (found["a"].decision, found["b"].decision) == (effect, Effect.BETTER)
    assert found["a"].difference == pytest.approx(points)
    assert (found["a"].cases, found["a"].objects) == (180, 60)


def test_small_slices_are_judged_together() -> None:
    small = [pair for name in "bcde" for pair in pairs(4, -9.0, camera=name)]
    found = by_name(sliced(pairs(40, 5.0) + small, Rules()))
    assert set(found) == {"all", "a", "b + c + d + e"}
    assert (found["b + c + d + e"].decision, found["b + c + d + e"].objects) == (Effect.WORSE, 16)


def test_too_few_are_told_and_do_not_decide() -> None:
    found = by_name(sliced(pairs(40, 5.0) + pairs(5, -30.0, camera="b"), Rules()))
    assert found["b"].decision is Effect.TOO_FEW
    assert found["b"].difference == pytest.approx(-30)


def test_bins_share_no_case() -> None:
    many = [pair for hidden in (0.0, 0.009, 0.01, 0.1, 0.49, 0.5, 0.9) for pair in pairs(12, 1.0, occlusion=hidden)]
    found = {one.name: one.objects for one in sliced(many, Rules()) if one.dimension == "occlusion"}
    assert found == {"0..0.01": 24, "0.01..0.1": 12, "0.1..0.5": 24, "0.5..0.9": 24}


def test_more_slices_ask_for_surer_evidence() -> None:
    weak = pairs(14, -2.6)
    few = by_name(sliced(weak + pairs(40, 5.0, camera="b"), Rules()))["a"].interval
    names = [f"b{n}" for n in range(20)]
    many = by_name(sliced(weak + [one for name in names for one in pairs(20, 5.0, camera=name)], Rules()))[
        "a"
    ].interval
    assert few is not None
    assert many is not None
    assert many[1] > few[1]
    assert many[0] < few[0]


def test_an_interval_of_another_level() -> None:
    values, objects = CHANCE.normal(0, 1, (200, 1)), [str(n // 4) for n in range(200)]
    usual, wide = (mean_intervals(values, objects, 0, level) for level in (0.95, 0.999))
    assert usual is not None
    assert wide is not None
    assert wide[0][0] < usual[0][0] < usual[0][1] < wide[0][1]
    assert mean_intervals(values, objects, 0) == usual
