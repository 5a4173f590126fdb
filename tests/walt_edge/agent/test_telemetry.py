"""A lane's meter: what it counts is told exactly, lately and since the start, while another thread reads."""

from __future__ import annotations

import threading
import time
import timeit
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.waiting import wait_for
from walt_edge.agent.telemetry import LaneFigures, Meter, Rate, Skip, Stage, Times
from walt_edge.camera import CameraStats
from walt_edge.contract.messages import SpoolCounts


def figures(meter: Meter, camera: CameraStats | None = None, **rejected: int) -> LaneFigures:
    return meter.figures(camera or CameraStats(), objects_seen=0, crops_chosen=0, rejected_by_reason=rejected)


@given(st.lists(st.floats(0, 1e6), max_size=3000))
def test_a_spread_is_of_the_newest_samples_and_its_sum_of_all(samples: list[float]) -> None:
    times = Times()
    for sample in samples:
        times.add(sample)
    spread = times.spread()
    newest = samples[-1024:] or [0.0]
    assert spread.p50_ms == pytest.approx(np.percentile(newest, 50))
    assert spread.p99_ms == pytest.approx(np.percentile(newest, 99))
    assert spread.count == times.count == len(samples)
    assert spread.total_s == pytest.approx(sum(samples) / 1e3)


def test_a_stage_is_timed_and_one_that_fails_is_not() -> None:
    meter = Meter("boot-1")
    with meter.timed(Stage.SELECT):
        time.sleep(0.003)
    with pytest.raises(ValueError, match="no"), meter.timed(Stage.SPOOL):
        raise ValueError("no")
    told = figures(meter).stages
    assert list(told) == ["select"]
    assert told["select"].count == 1
    assert told["select"].p50_ms >= 3


@pytest.mark.parametrize(
    ("own", "camera_skipped", "expected"),
    [
        ({}, 0, {}),
        ({}, 7, {"superseded": 7}),
        ({Skip.GATED: 3, Skip.FAILED: 1}, 2, {"superseded": 2, "gated": 3, "failed": 1}),
    ],
)
def test_every_frame_that_was_not_processed_has_one_reason(
    own: dict[Skip, int], camera_skipped: int, expected: dict[str, int]
) -> None:
    meter = Meter("boot-1", skipped=Counter(own))
    assert figures(meter, CameraStats(frames_skipped=camera_skipped)).frames_skipped == expected


def test_what_was_refused_is_joined_by_reason() -> None:
    meter = Meter("boot-1", refused_by_reason=Counter({"disk full": 2, "border": 1}))
    assert figures(meter, border=4, small=1).refused == {"disk full": 2, "border": 5, "small": 1}


def test_a_processed_frame_is_counted_aged_and_rated() -> None:
    meter = Meter("boot-1", "gate")
    assert figures(meter).since_frame_s == -1
    for _ in range(3):
        meter.turn()
        meter.received()
        meter.processed(time.monotonic_ns() - 40_000_000)
    told = figures(meter)
    assert (told.camera, told.frames_processed, told.frame_age.count) == ("gate", 3, 3)
    assert 40 <= told.frame_age.p50_ms <= told.frame_age.p99_ms < 60_000
    assert told.fps > 0
    assert 0 <= told.since_frame_s < 60
    assert 0 <= told.since_turn_s < 60


def test_failures_in_a_row_end_with_a_success() -> None:
    meter = Meter("boot-1")
    meter.failed()
    meter.failed()
    assert figures(meter).failures_in_a_row == 2
    meter.processed(time.monotonic_ns())
    told = figures(meter)
    assert (told.failures_in_a_row, told.anonymiser_failures, told.frames_skipped) == (0, 2, {"failed": 2})


def test_the_rate_is_that_of_the_events_and_fades_when_they_cease() -> None:
    rate = Rate()
    assert rate.per_s() == 0
    start_s = time.monotonic()
    for _ in range(2000):
        rate.note()
    took_s = time.monotonic() - start_s
    assert rate.per_s() > 500 / (took_s + 1)
    before = rate.per_s()
    wait_for(lambda: rate.per_s() < before / 2, what="a rate that fades")


def test_telemetry_for_home_says_the_same_as_the_figures() -> None:
    meter = Meter("boot-1", "gate", refused_by_reason=Counter({"disk full": 1}))
    with meter.timed(Stage.STEP):
        meter.processed(time.monotonic_ns())
    camera = CameraStats(frames_received=9, frames_skipped=8, reconnects=2)
    home = meter.report(camera, SpoolCounts(), objects_seen=5, crops_chosen=1, rejected_by_reason={"border": 2})
    here = meter.figures(camera, objects_seen=5, crops_chosen=1, rejected_by_reason={"border": 2})
    assert (home.step_ms_p99, home.frame_age_ms_p99) == (here.stages["step"].p99_ms, here.frame_age.p99_ms)
    assert home.rejected_by_reason == here.refused == {"disk full": 1, "border": 2}
    assert home.camera_reconnects == here.reconnects == 2
    assert msgspec.json.decode(msgspec.json.encode(here), type=LaneFigures) == here


def test_a_reader_in_another_thread_never_breaks_and_never_sees_a_number_go_back() -> None:
    meter, stop = Meter("boot-1"), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            meter.step_ms.add(1.0)
            meter.processed(time.monotonic_ns())
            meter.refused_by_reason[f"reason {number % 5000}"] += 1
            meter.skipped[Skip.GATED] += 1
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        last = figures(meter)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline or last.frames_processed < 2000:
            told = figures(meter)
            assert told.frames_processed >= last.frames_processed
            assert told.frame_age.count >= last.frame_age.count
            if told.stages:
                assert told.stages["step"].p50_ms == 1.0
            last = told
    finally:
        stop.set()
        writer.join()


def test_adding_a_sample_costs_next_to_nothing() -> None:
    times = Times()
    best_s = min(timeit.repeat(lambda: times.add(1.0), number=2000, repeat=20)) / 2000
    assert best_s < 2e-6


def test_looks_are_told_with_how_sure_they_were() -> None:
    """Home makes the mean score of any stretch of time from two messages."""
    meter = Meter("boot-1")
    for scores in ([0.9, 0.5], [], [1.0]):
        meter.looked(40.0, np.array(scores, np.float32))
    told = meter.report(CameraStats(), SpoolCounts(), objects_seen=0, crops_chosen=0, rejected_by_reason={})
    assert (told.looks, told.scored, told.score_milli, told.infer_ms_p50) == (3, 3, 2400, 40.0)
