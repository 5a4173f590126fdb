from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crops import moment_at
from walt_edge.contract.messages import Clock, Moment
from walt_edge.selecting.timeline import AWAY_MAX_S, Timeline

_DAY_S = 86_400.0
_UNSURE = Clock.UNSYNCHRONISED


@pytest.mark.parametrize(
    ("then", "passed_s"),
    [
        (moment_at(160), 60.0),
        (moment_at(40), 0.0),
        (moment_at(160, utc_s=400 * _DAY_S), 60.0),
        (moment_at(160, utc_s=-400 * _DAY_S), 60.0),
        (moment_at(5, boot="next", utc_s=700), 600.0),
        (moment_at(5, boot="next", utc_s=400 * _DAY_S), AWAY_MAX_S),
        (moment_at(5, boot="next", utc_s=-400 * _DAY_S), 0.0),
        (moment_at(5, boot="next", clock=_UNSURE, utc_s=700), 0.0),
    ],
    ids=[
        "goes on",
        "an older frame",
        "set forward a year",
        "set back a year",
        "off for ten minutes",
        "off for a year, or the clock lies",
        "off, and the clock set back",
        "off, and nobody knows how long",
    ],
)
def test_only_time_that_passed_counts(then: Moment, passed_s: float) -> None:
    line = Timeline()
    line.advance(moment_at(100))
    assert line.advance(then) == pytest.approx(passed_s)


def test_after_a_boot_without_a_date_time_goes_on_by_its_own_clock() -> None:
    line = Timeline()
    line.advance(moment_at(100))
    line.advance(moment_at(5, boot="next", clock=_UNSURE))
    assert line.advance(moment_at(65, boot="next", clock=_UNSURE)) == pytest.approx(60.0)


def test_what_runs_side_by_side_is_not_counted_twice() -> None:
    line = Timeline()
    for at_s in range(100):
        line.advance(moment_at(at_s, boot="one", clock=_UNSURE))
        line.advance(moment_at(5000 + at_s, boot="other", clock=_UNSURE))
    assert line.now_s == pytest.approx(99.0)


_MOMENTS = st.builds(
    moment_at,
    st.floats(0, 1e6),
    boot=st.sampled_from(["a", "b", "c"]),
    clock=st.sampled_from(Clock),
    utc_s=st.floats(-1e8, 1e8),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(_MOMENTS, max_size=30))
def test_it_never_goes_back_and_is_the_same_after_a_restart(moments: list[Moment]) -> None:
    line = Timeline()
    for captured in moments:
        before_s = line.now_s
        assert line.advance(captured) == pytest.approx(line.now_s - before_s)
        assert line.now_s >= before_s
        line = msgspec.json.decode(msgspec.json.encode(line), type=Timeline)


def test_boots_do_not_pile_up() -> None:
    line = Timeline()
    for number in range(1000):
        line.advance(moment_at(1.0, boot=f"boot-{number}"))
    assert len(msgspec.json.encode(line)) < 2000
