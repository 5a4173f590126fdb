from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.selection import day, first_come, selected
from tests.crops import crop, moment_at
from tests.envelopes import sealed
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Clock
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import PrivacyError, SealedEnvelope
from walt_edge.selecting.selector import FILE_NAME, Refusal, Selector, SelectorSettings

HOUR_S = 3600.0
SIZE = len(crop(0, moment_at(0)).data)
WIDE = SelectorSettings()
ONE_AN_HOUR = SelectorSettings(bytes_per_hour=int(1.5 * SIZE))


def elsewhere(number: int) -> tuple[int, int]:
    """A corner for each number, over the whole frame."""
    return 20 + 73 * number % 560, 10 + 41 * number % 300


def reasons(selector: Selector, offers: list[SealedEnvelope]) -> list[str | None]:
    return [selector.admit(one).refusal for one in offers]


# -- what is taken and why not --------------------------------------------------------------------------------


def test_while_all_fits_all_that_is_novel_is_taken() -> None:
    selector = Selector()
    answers = [selector.admit(crop(n, moment_at(10.0 * n), corner_xy=elsewhere(n))) for n in range(40)]
    assert all(answer.taken and answer.price == 0.0 and answer.value > 0.0 for answer in answers)
    assert selector.crops_taken == 40
    assert not selector.rejected_by_reason


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"bytes_per_track": int(1.5 * SIZE)}, Refusal.TRACK),
        ({"bytes_per_hour": int(1.5 * SIZE)}, Refusal.HOUR),
        ({"bytes_per_day": int(1.5 * SIZE)}, Refusal.DAY),
        ({"novelty_min": 0.95}, Refusal.NOT_NOVEL),
        ({"bytes_per_hour": 0}, Refusal.HOUR),
        ({"track_gap_s": 1.1}, Refusal.TOO_SOON),
    ],
)
def test_each_refusal_has_its_reason(changed: dict[str, Any], refusal: Refusal) -> None:
    selector = Selector(replace(WIDE, **changed))
    found = reasons(selector, [crop(n, moment_at(float(n)), track=7) for n in range(2)])
    assert found[-1] is refusal
    assert selector.rejected_by_reason[refusal.value] == sum(reason is not None for reason in found)


@pytest.mark.parametrize(("first", "then"), [(False, True), (True, False)])
def test_one_object_does_not_train_and_judge(first: bool, then: bool) -> None:
    selector = Selector()
    found = reasons(
        selector,
        [
            crop(1, moment_at(599.0), track=5, holdout=first),
            crop(2, moment_at(601.0), track=5, holdout=then),
            crop(3, moment_at(602.0), track=6, holdout=then),
        ],
    )
    assert found == [None, Refusal.SPLIT, None]


def test_who_was_refused_has_not_chosen_a_side() -> None:
    selector = Selector(ONE_AN_HOUR)
    selector.admit(crop(0, moment_at(0.0), track=1))
    assert reasons(selector, [crop(1, moment_at(1.0), track=2)]) == [Refusal.HOUR]
    assert reasons(selector, [crop(2, moment_at(1.0 + HOUR_S), track=2, holdout=True)]) == [None]


def test_plates_pass_always_and_count_against_the_day() -> None:
    selector = Selector(replace(WIDE, bytes_per_day=SIZE + 10))
    plates = [sealed(n, Kind.PLATE) for n in range(3)]
    assert reasons(selector, plates) == [None, None, None]
    assert selector.spent_bytes == (0, sum(len(one.data) for one in plates))
    assert reasons(selector, [crop(1, moment_at(1.0))]) == [Refusal.DAY]


def test_sampled_frames_have_a_budget_elsewhere() -> None:
    selector = Selector()
    assert selector.admit(sealed(1, Kind.FRAME)).taken
    assert selector.spent_bytes == (0, 0)


def test_it_takes_what_is_sealed_and_nothing_else() -> None:
    with pytest.raises(PrivacyError, match="SealedEnvelope"):
        Selector().admit(sealed(1).data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed", [{"bytes_per_day": -1}, {"alike": 0.0}, {"half_life_s": -1.0}, {"novelty_min": 1.5}]
)
def test_settings_that_make_no_sense_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(changed))):
        replace(WIDE, **changed)


# -- the best rather than the first ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy_hours() -> list[SealedEnvelope]:
    return day(count=1500, hours=2.0, seed=5)


@pytest.mark.parametrize(("times", "margin"), [(2, 1.2), (8, 1.4)])
def test_for_the_same_bytes_more_is_kept_than_by_who_comes_first(
    busy_hours: list[SealedEnvelope], times: int, margin: float
) -> None:
    offered = sum(len(one.data) for one in busy_hours)
    limits = replace(WIDE, bytes_per_hour=offered // 2 // times)
    ours, first = selected(busy_hours, limits), first_come(busy_hours, limits)
    assert ours.size_bytes <= 2 * limits.bytes_per_hour
    assert ours.size_bytes >= 0.85 * first.size_bytes, "the budget is used"
    assert ours.value > margin * first.value * ours.size_bytes / first.size_bytes


def test_the_price_rises_as_the_budget_drains_and_falls_when_it_is_renewed(
    busy_hours: list[SealedEnvelope],
) -> None:
    offered = sum(len(one.data) for one in busy_hours)
    selector = Selector(replace(WIDE, bytes_per_hour=offered // 20))
    prices = [(one.envelope.header.captured.media_time_s, selector.admit(one).price) for one in busy_hours]
    rush = [price for at_s, price in prices if 300 < at_s < 1200]
    assert prices[0][1] == 0.0
    assert sum(rush) / len(rush) > 0.5
    assert selector.rejected_by_reason[Refusal.OUTBID.value] > len(busy_hours) / 2
    last = busy_hours[-1].envelope.header.captured
    selector.admit(crop(1, moment_at(last.media_time_s + 30 * HOUR_S, boot=last.boot_id)))
    assert selector.price == 0.0


def test_the_same_envelopes_get_the_same_answers(busy_hours: list[SealedEnvelope]) -> None:
    limits = replace(WIDE, bytes_per_hour=200_000)
    answers = [[selector.admit(one) for one in busy_hours] for selector in (Selector(limits), Selector(limits))]
    assert answers[0] == answers[1]


_OFFERS = st.lists(st.tuples(st.floats(0, 900.0), st.integers(8, 48), st.floats(0, 1)), min_size=1, max_size=40)


@settings(deadline=None, max_examples=30)
@given(_OFFERS, st.integers(0, 40_000), st.integers(0, 80_000), st.integers(0, 10_000))
def test_no_budget_is_ever_exceeded(
    offers: list[tuple[float, int, float]], an_hour: int, a_day: int, a_track: int
) -> None:
    limits = SelectorSettings(bytes_per_hour=an_hour, bytes_per_day=a_day, bytes_per_track=a_track)
    selector = Selector(limits)
    at_s = 0.0
    spent: dict[tuple[str, int], int] = {}
    for number, (pause_s, side_px, confidence) in enumerate(offers):
        at_s += pause_s
        one = crop(number, moment_at(at_s), track=number % 3, side_px=side_px, confidence=confidence)
        if selector.admit(one).taken:
            start_s = offers[0][0]
            keys = ("hour", int((at_s - start_s) // HOUR_S)), ("day", 0), ("track", number % 3)
            for key in keys:
                spent[key] = spent.get(key, 0) + len(one.data)
    bounds = {"hour": an_hour, "day": a_day, "track": a_track}
    assert all(size <= bounds[key[0]] for key, size in spent.items())


# -- clocks ---------------------------------------------------------------------------------------------------

_UNSURE = Clock.UNSYNCHRONISED
_YEAR_S = 365 * 86_400.0


@pytest.mark.parametrize(
    "jump",
    [
        {"utc_s": _YEAR_S},
        {"utc_s": -_YEAR_S},
        {"utc_s": _YEAR_S, "clock": _UNSURE},
        {"boot": "next", "clock": _UNSURE, "utc_s": _YEAR_S},
        {"boot": "next", "utc_s": -_YEAR_S},
    ],
    ids=["forward", "back", "forward, unsynchronised", "another boot, date unknown", "another boot, set back"],
)
def test_a_clock_that_jumps_neither_opens_a_budget_nor_blocks_it(jump: dict[str, Any]) -> None:
    selector = Selector(ONE_AN_HOUR)
    utc_s = jump.pop("utc_s")
    assert selector.admit(crop(0, moment_at(100.0))).taken
    assert reasons(selector, [crop(1, moment_at(101.0, utc_s=utc_s, **jump))]) == [Refusal.HOUR]
    later = moment_at(101.0 + HOUR_S, utc_s=utc_s + HOUR_S, **jump)
    assert selector.admit(crop(2, later)).taken


def test_frames_that_come_late_do_no_harm() -> None:
    selector = Selector(ONE_AN_HOUR)
    assert selector.admit(crop(0, moment_at(5000.0))).taken
    assert reasons(selector, [crop(1, moment_at(0.0)), crop(2, moment_at(5001.0))]) == [Refusal.HOUR] * 2


# -- over a restart -------------------------------------------------------------------------------------------


def test_a_restart_changes_nothing(tmp_path: Path, busy_hours: list[SealedEnvelope]) -> None:
    limits = replace(WIDE, bytes_per_hour=200_000)
    offers = busy_hours[:600]
    whole = Selector(limits)
    before = [whole.admit(one).taken for one in offers]
    after = []
    for start in range(0, len(offers), 150):
        with Selector(limits, tmp_path) as selector:
            after += [selector.admit(one).taken for one in offers[start : start + 150]]
    assert Selector(limits, tmp_path).spent_bytes == whole.spent_bytes
    # Counts of novelty are rounded when they are written.
    assert sum(one != other for one, other in zip(before, after, strict=True)) <= 3


def test_a_loss_of_power_costs_half_a_minute_of_memory(tmp_path: Path) -> None:
    selector = Selector(WIDE, tmp_path)
    for number in range(100):
        selector.admit(crop(number, moment_at(float(number)), corner_xy=elsewhere(number)))
    # No close: as it lies on the disk.
    hour, _ = Selector(WIDE, tmp_path).spent_bytes
    assert 0.65 * selector.spent_bytes[0] < hour < selector.spent_bytes[0]


def test_it_writes_no_more_than_twice_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr("walt_edge.selecting.state_file.write_whole", lambda path, data: written.append(data))
    with Selector(WIDE, tmp_path) as selector:
        for number in range(600):
            selector.admit(crop(number % 50, moment_at(0.5 * number), track=number, corner_xy=elsewhere(number)))
    assert 5 <= len(written) <= 300 / 30 + 2


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff garbage", b"[1, 2", b'{"version": 1}', b"null"],
    ids=["empty", "bytes", "cut short", "half of it", "null"],
)
def test_damaged_state_begins_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with caplog.at_level(logging.WARNING), Selector(WIDE, tmp_path) as selector:
        assert selector.admit(crop(1, moment_at(1.0))).taken
    assert "begin anew" in caplog.text
    caplog.clear()
    assert Selector(WIDE, tmp_path).spent_bytes == selector.spent_bytes != (0, 0), "and it is whole again"
    assert not caplog.text


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b'"version":1', b'"version":9'),
        (b'"spent_bytes":', b'"spent_bytes":-'),
        (b'"offers":', b'"offers":-'),
        (b'/h8":[', b'/h8":[-'),
    ],
)
def test_state_that_cannot_be_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, good: bytes, bad: bytes
) -> None:
    with Selector(WIDE, tmp_path) as selector:
        selector.admit(crop(1, moment_at(1.0, clock=_UNSURE)))
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    assert good in content
    path.write_bytes(content.replace(good, bad))
    with caplog.at_level(logging.WARNING):
        assert Selector(WIDE, tmp_path).spent_bytes == (0, 0)
    assert "begin anew" in caplog.text


def test_new_budgets_hold_at_once(tmp_path: Path) -> None:
    with Selector(WIDE, tmp_path) as selector:
        assert selector.admit(crop(1, moment_at(1.0))).taken
    assert reasons(Selector(ONE_AN_HOUR, tmp_path), [crop(2, moment_at(2.0))]) == [Refusal.HOUR]


def test_budgets_may_change_while_it_runs() -> None:
    selector = Selector(ONE_AN_HOUR)
    assert reasons(selector, [crop(0, moment_at(0.0)), crop(1, moment_at(1.0))]) == [None, Refusal.HOUR]
    spent = selector.spent_bytes
    selector.configure(WIDE)
    assert selector.spent_bytes == spent
    assert selector.admit(crop(2, moment_at(2.0))).taken
    selector.configure(ONE_AN_HOUR)
    assert reasons(selector, [crop(3, moment_at(3.0))]) == [Refusal.HOUR]


def test_a_disk_that_takes_nothing_costs_no_crop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Selector(WIDE, tmp_path / "gone") as selector:
        for number in range(4):
            assert selector.admit(crop(number, moment_at(40.0 * number), corner_xy=elsewhere(number))).taken
    assert len(caplog.records) == 1, "said once"


# -- several cameras ------------------------------------------------------------------------------------------


def test_lanes_share_it_without_losing_count() -> None:
    selector = Selector(WIDE)
    offers = [crop(n, moment_at(n / 10), corner_xy=elsewhere(n)) for n in range(120)]

    def work(own: list[SealedEnvelope]) -> None:
        for one in own:
            selector.admit(one)

    threads = [threading.Thread(target=work, args=(offers[lane::4],)) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert selector.crops_taken == len(offers)
    assert selector.spent_bytes[0] == sum(len(one.data) for one in offers)
