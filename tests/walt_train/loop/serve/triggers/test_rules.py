from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from walt_train.loop.serve.triggers.coverage import Gain
from walt_train.loop.serve.triggers.rules import Facts, Rules, Threshold, Trend, judge

DAY_US = 86_400_000_000
NOW_US = 1_000 * DAY_US
LEARNED = Facts(stored=Gain(300, 90), covered=200, learned_us=NOW_US - 3 * DAY_US, begun_us=NOW_US - 3 * DAY_US)
DRIFTED = (Trend("objects a frame", 0.4, 0.15),)
PLENTY = Gain(60, 30)


def line(facts: Facts, **rules: Any) -> str:
    found = judge(facts, Rules(**rules), NOW_US)
    assert found.is_ready == bool(found.why)
    return ("begins: " if found.is_ready else "waits: ") + found.line


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(), "waits: no model yet: 0 of 50 crops, 0 of 20 objects"),
        (Facts(stored=Gain(49, 30)), "waits: no model yet: 49 of 50 crops, 30 of 20 objects"),
        (Facts(stored=Gain(500, 19)), "waits: no model yet: 500 of 50 crops, 19 of 20 objects"),
        (Facts(stored=Gain(50, 20)), "begins: no model yet (50 crops of 20 objects)"),
        (LEARNED, "waits: new places and poses: 0 of 50 crops, 0 of 20 objects"),
        (replace(LEARNED, fresh=PLENTY), "begins: new places and poses (60 crops of 30 objects)"),
        # A fifth of what it knew.
        (
            replace(LEARNED, fresh=PLENTY, covered=400),
            "waits: new places and poses: 60 of 80 crops, 30 of 20 objects",
        ),
        # The same parked lane.
        (replace(LEARNED, since=Gain(9000, 800)), "waits: new places and poses: 0 of 50 crops, 0 of 20 objects"),
        (
            replace(LEARNED, moved_us=NOW_US, shift_px=31.4, moved=Gain(8, 3), fresh=PLENTY),
            "waits: the camera moved by 31 px: 8 of 50 crops, 3 of 20 objects",
        ),
        (
            replace(LEARNED, moved_us=NOW_US, shift_px=31.4, moved=PLENTY),
            "begins: the camera moved by 31 px (60 crops of 30 objects)",
        ),
        (
            replace(LEARNED, trends=DRIFTED, since=PLENTY),
            "begins: drift: objects a frame 0.15 a week long, 0.4 before (60 crops of 30 objects)",
        ),
        (
            replace(LEARNED, trends=DRIFTED, since=Gain(1, 1)),
            "waits: drift: objects a frame 0.15 a week long, 0.4 before: 1 of 50 crops, 1 of 20 objects",
        ),
    ],
)
def test_what_begins_a_generation(facts: Facts, expected: str) -> None:
    assert line(facts) == expected


@pytest.mark.parametrize(
    ("trend", "has_drifted"),
    [
        (Trend("rate", 0.4, 0.21), False),
        (Trend("rate", 0.4, 0.2), True),
        (Trend("rate", 0.2, 0.4), True),
        (Trend("rate", 0.4, 0.0), True),
        (Trend("rate", 0.0, 0.0), False),
        (Trend("share", 0.8, 0.71, far=0.1), False),
        (Trend("share", 0.8, 0.65, far=0.1), True),
        (Trend("share", 0.1, 0.05, far=0.1), False),
    ],
)
def test_drift(trend: Trend, has_drifted: bool) -> None:
    assert trend.has_drifted is has_drifted


@pytest.mark.parametrize(
    ("every_days", "since", "expected"),
    [
        (None, Gain(1, 1), "waits: new places"),
        (4.0, Gain(1, 1), "waits: new places"),
        (3.0, Gain(1, 1), "begins: the last one is 3 days old (1 crops of 1 objects)"),
        (3.0, Gain(), "waits: the last one is 3 days old: 0 of 1 crops"),
    ],
)
def test_a_schedule(every_days: float | None, since: Gain, expected: str) -> None:
    assert line(replace(LEARNED, since=since), every_days=every_days).startswith(expected)


def test_a_pause_between_two() -> None:
    facts = replace(LEARNED, fresh=PLENTY)
    assert line(facts, pause_s=3 * 86_400.0).startswith("begins: ")
    assert line(facts, pause_s=5 * 86_400.0).endswith("; its last one is young, it pauses for 2 days more")


@pytest.mark.parametrize(
    ("failures", "hours_ago", "expected"),
    [
        (1, 0.9, "waits: no model yet (60 crops of 30 objects); 1 failed in a row, it rests for 6 min more"),
        (1, 1.0, "begins: "),
        (3, 3.9, "waits: no model yet (60 crops of 30 objects); 3 failed in a row, it rests for 6 min more"),
        (3, 4.0, "begins: "),
        (60, 24 * 6.5, "waits: no model yet (60 crops of 30 objects); 60 failed in a row, it rests for 12 h more"),
        (60, 24 * 7.0, "begins: "),
    ],
)
def test_who_fails_rests_longer_each_time(failures: int, hours_ago: float, expected: str) -> None:
    failed_us = round(NOW_US - hours_ago * DAY_US / 24)
    facts = Facts(stored=PLENTY, begun_us=failed_us, failures=failures, failed_us=failed_us)
    assert line(facts).startswith(expected)


def test_who_gains_most_is_first() -> None:
    none = Facts(stored=PLENTY)
    moved = replace(LEARNED, moved_us=NOW_US, moved=PLENTY)
    much, little = replace(LEARNED, fresh=Gain(200, 90)), replace(LEARNED, fresh=PLENTY)
    gains = [judge(one, Rules(Threshold()), NOW_US).gain for one in (none, moved, much, little)]
    assert gains == sorted(gains, reverse=True)
    assert len(set(gains)) == 4
