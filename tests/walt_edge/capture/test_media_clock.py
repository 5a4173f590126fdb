from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from walt_edge.capture.media_clock import MediaClock, with_times

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class _Picture:
    time: float | None


def test_media_time_is_the_streams_even_if_its_beginning_was_missed() -> None:
    clock = MediaClock()
    clock.begin_session()
    assert clock.stamp(12.5, 5 * SECOND_NS) == 12.5
    assert clock.stamp(12.6, 6 * SECOND_NS) == 12.6
    assert clock.fps == 10


def test_a_reconnection_goes_on_by_the_time_that_passed() -> None:
    clock = MediaClock()
    clock.begin_session()
    clock.stamp(3.0, 10 * SECOND_NS)
    clock.begin_session()
    assert clock.stamp(0.0, 14 * SECOND_NS) == pytest.approx(7.0)
    assert clock.stamp(0.1, 15 * SECOND_NS) == pytest.approx(7.1)


def test_a_new_decoder_goes_on_where_the_old_one_was() -> None:
    clock = MediaClock(media_time_s=30.0, arrived_ns=SECOND_NS)
    clock.begin_session()
    assert clock.stamp(0.0, 3 * SECOND_NS) == pytest.approx(32.0)


def test_timestamps_that_jump_back_go_on_instead() -> None:
    clock = MediaClock()
    clock.stamp(100.0, SECOND_NS)
    assert clock.stamp(0.0, 2 * SECOND_NS) == pytest.approx(101.0)


def test_a_stream_without_timestamps_runs_by_the_clock() -> None:
    clock = MediaClock()
    assert clock.stamp(None, SECOND_NS) == 0
    assert clock.stamp(None, 3 * SECOND_NS) == pytest.approx(2.0)


_STEPS = st.lists(
    st.tuples(st.one_of(st.none(), st.floats(0, 1e5)), st.integers(1, 10 * SECOND_NS), st.booleans()), max_size=40
)


@given(_STEPS)
@example([(None, 1, False), (None, 1, False), (0.0, 1, False)])
def test_media_time_never_runs_backwards(steps: list[tuple[float | None, int, bool]]) -> None:
    clock, now_ns, last_s = MediaClock(), 0, -1.0
    for pts_s, passed_ns, again in steps:
        now_ns += passed_ns
        if again:
            clock.begin_session()
        media_time_s = clock.stamp(pts_s, now_ns)
        assert media_time_s >= max(last_s, 0.0)
        last_s = media_time_s


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([None, 0.04, 0.08, 0.12], [0.0, 0.04, 0.08, 0.12]),
        ([None, None, 8.2, 8.3], [8.0, 8.1, 8.2, 8.3]),
        ([0.0, 0.1], [0.0, 0.1]),
        ([None, 5.0], [None, 5.0]),
        ([None] * 6, [None] * 6),
        ([None], [None]),
        ([], []),
    ],
)
def test_what_is_missing_at_the_beginning_is_worked_out(
    times: list[float | None], expected: list[float | None]
) -> None:
    frames = [(_Picture(time), arrived) for arrived, time in enumerate(times)]
    found = list(with_times(frames))
    assert [(frame, arrived) for frame, _, arrived in found] == frames
    assert [time for _, time, _ in found] == pytest.approx(expected)
