"""Each alert comes when it should, once, goes when all is well, and says what was found."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.walt_train.loop.fleet.fleet import BEGIN, DAY, DETAIL, HOUR, MINUTE, SECOND, Court, Device
from walt_edge.contract.messages import Reported
from walt_edge.contract.telemetry import Disk, Lens, SpoolCounts
from walt_train.loop.fleet.conditions import KINDS, Home
from walt_train.loop.fleet.fleet import Fleet
from walt_train.loop.fleet.rules import Rules

TELL = 30 * SECOND
Act = Callable[[Device, int], object]


def play(
    court: Court, device: Device, acts: list[tuple[int, Act]], begin_us: int = BEGIN, step_us: int = TELL
) -> int:
    """Each act, again and again, for its time; the court sits after every step. Returns the time at the end."""
    now_us = begin_us
    for lasts_us, act in acts:
        end_us = now_us + lasts_us
        while now_us < end_us:
            act(device, now_us)
            court.sits(now_us)
            now_us += step_us
    return now_us


def fine(device: Device, now_us: int) -> None:
    device.status("online", now_us)
    device.watches(
        now_us,
        silence_s=0.1,
        failures_in_a_row=0,
        clock="synchronised",
        spool=SpoolCounts(accepted=10, acked=10),
        disk=Disk(free_bytes=8 << 30),
    )


def silent(device: Device, now_us: int) -> None:
    device.says(now_us, silence_s=device.told.silence_s + 30)


def lane_gone(device: Device, now_us: int) -> None:
    device.status("online", now_us)


def away(device: Device, now_us: int) -> None:
    device.status("offline", now_us)


def failing(device: Device, now_us: int) -> None:
    device.watches(now_us, failures_in_a_row=12, anonymiser_failures=device.told.anonymiser_failures + 5)


def failing_now_and_then(device: Device, now_us: int) -> None:
    device.watches(now_us, frames=100, anonymiser_failures=device.told.anonymiser_failures + 4)


def full(device: Device, now_us: int) -> None:
    device.watches(now_us, disk=Disk(free_bytes=90 << 20))


def between(device: Device, now_us: int) -> None:
    device.watches(now_us, disk=Disk(free_bytes=400 << 20))


def refusing(device: Device, now_us: int) -> None:
    device.watches(now_us, disk=Disk(free_bytes=8 << 30, trouble=True))


def unset(device: Device, now_us: int) -> None:
    device.watches(now_us, clock="unsynchronised")


def waiting(device: Device, now_us: int) -> None:
    spool = device.told.spool
    device.watches(now_us, spool=msgspec.structs.replace(spool, accepted=spool.accepted + 1, depth=spool.depth + 1))


def dropping(device: Device, now_us: int) -> None:
    spool = device.told.spool
    device.watches(
        now_us, spool=SpoolCounts(accepted=spool.accepted + 2, acked=spool.acked + 1, dropped=spool.dropped + 1)
    )


def dull(device: Device, now_us: int) -> None:
    detail = tuple(0.2 * value if tile in (0, 1, 4, 5) else value for tile, value in enumerate(DETAIL))
    device.watches(now_us, lens=Lens(brightness=120.0, detail=detail))


def clean(device: Device, now_us: int) -> None:
    device.status("online", now_us)
    device.watches(now_us, lens=Lens(brightness=120.0, detail=DETAIL))


@pytest.mark.parametrize(
    ("kind", "bad", "lasts_us", "too_short_us", "said"),
    [
        ("silent_camera", silent, 12 * MINUTE, 5 * MINUTE, "no frame for"),
        ("silent_camera", lane_gone, 15 * MINUTE, 8 * MINUTE, "says nothing of it"),
        ("offline", away, 15 * MINUTE, 8 * MINUTE, "said goodbye or was lost"),
        ("anonymiser", failing, 5 * MINUTE, MINUTE, "the last 12 frames"),
        ("anonymiser", failing_now_and_then, 5 * MINUTE, MINUTE, "3.8% of the frames"),
        ("disk", full, 10 * MINUTE, 3 * MINUTE, "90 MB free"),
        ("disk", refusing, 10 * MINUTE, 3 * MINUTE, "did not take the newest crop"),
        ("clock", unset, 40 * MINUTE, 20 * MINUTE, "nothing sets it"),
        ("spool", waiting, 40 * MINUTE, 20 * MINUTE, "crops wait, and home took none since"),
        ("spool", dropping, 20 * MINUTE, 5 * MINUTE, "crops dropped so far"),
    ],
)
def test_what_lasts_is_raised_once_and_cleared_once(
    kind: str, bad: Act, lasts_us: int, too_short_us: int, said: str
) -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    # Dropping is held to be bad for a quarter of an hour after the last: what is short is longer by that.
    quiet_us = 2 * HOUR
    after_us = play(court, device, [(HOUR, fine), (too_short_us, bad), (quiet_us, fine)])
    if bad is not dropping:
        assert court.story(kind) == []
    court.record.clear()
    play(court, device, [(quiet_us, fine), (lasts_us, bad), (quiet_us, fine)], after_us)
    assert court.story(kind) == ["raised", "cleared"]
    told = next(why for _, what, subject, why in court.record if subject.kind == kind and what == "raised")
    assert said in told
    assert {subject.kind for _, _, subject, _ in court.record} == {kind}
    assert KINDS[kind].remedy


def test_between_bad_and_well_nothing_changes() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    play(court, device, [(HOUR, fine), (HOUR, between), (20 * MINUTE, full), (5 * HOUR, between)])
    assert court.story("disk") == ["raised"]
    assert court.alerts


def test_a_flutter_neither_raises_nor_clears() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    flutter = 40 * [(2 * MINUTE, full), (2 * MINUTE, fine)]
    end_us = play(court, device, [(HOUR, fine), *flutter])
    assert court.story("disk") == []
    play(court, device, [(HOUR, full), *flutter], end_us)
    assert court.story("disk") == ["raised"]


@pytest.mark.parametrize(("off_us", "said"), [(10 * MINUTE, "10 min ahead of home"), (-3 * HOUR, "3 h behind home")])
def test_a_clock_that_is_off_is_told(off_us: int, said: str) -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    now_us = play(court, device, [(HOUR, fine)])
    device.off_us = off_us
    now_us = play(court, device, [(HOUR, fine)], now_us)
    assert court.story("clock") == ["raised"]
    assert court.detail("clock") == said
    device.off_us = 0
    play(court, device, [(HOUR, fine)], now_us)
    assert court.story("clock") == ["raised", "cleared"]


def test_a_camera_that_moved_is_told_at_once_and_for_a_day() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    now_us = play(court, device, [(HOUR, fine)])
    device.watches(now_us, lens=Lens(moves=1, shift_px=23.4))
    court.sits(now_us)
    assert court.detail("moved_camera") == "moved by 23 px"
    now_us = play(court, device, [(23 * HOUR, fine)], now_us + TELL, step_us=5 * MINUTE)
    assert court.story("moved_camera") == ["raised"]
    play(court, device, [(2 * HOUR, fine)], now_us)
    assert court.story("moved_camera") == ["raised", "cleared"]


def test_a_dull_quarter_of_the_picture_is_told_after_two_days_and_not_at_night() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)

    def day_and_night(device: Device, now_us: int) -> None:
        is_day = (now_us - BEGIN) % DAY < 12 * HOUR
        (dull if is_dirty else clean)(device, now_us)
        if not is_day:
            dark = Lens(brightness=12.0, detail=tuple(0.0 for _ in DETAIL))
            device.watches(now_us + SECOND, lens=dark)

    is_dirty = False
    now_us = play(court, device, [(5 * DAY, day_and_night)], step_us=10 * MINUTE)
    assert court.record == []
    is_dirty = True
    now_us = play(court, device, [(40 * HOUR, day_and_night)], now_us, step_us=10 * MINUTE)
    assert court.story("dirty_lens") == []
    now_us = play(court, device, [(2 * DAY, day_and_night)], now_us, step_us=10 * MINUTE)
    assert court.story("dirty_lens") == ["raised"]
    is_dirty = False
    play(court, device, [(DAY, day_and_night)], now_us, step_us=10 * MINUTE)
    assert court.story("dirty_lens") == ["raised", "cleared"]


def test_a_refused_model_is_told_with_its_reason() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    fine(device, BEGIN)
    refused = Reported(release=3, sha256="", state="refused", desired=4, reason="needs 90 ms, may take 50")
    device.reports(refused, BEGIN)
    court.sits(BEGIN)
    assert court.detail("model") == "stays with release 3, refused 4: needs 90 ms, may take 50"
    device.reports(Reported(release=4, sha256="", state="active", desired=4), BEGIN + SECOND)
    court.sits(BEGIN + SECOND)
    assert court.story("model") == ["raised", "cleared"]


def test_a_certificate_and_homes_own_trouble_are_told() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    fine(device, BEGIN)
    who = (device.topics.site, device.topics.device)
    court.home = Home(BEGIN, 1 << 30, {who: BEGIN + 5 * DAY})
    for minute in range(5):
        court.sits(BEGIN + minute * MINUTE)
    assert {subject.kind: why for _, _, subject, why in court.record} == {
        "certificate": "ends in 5 days",
        "home_disk": "1024 MB free",
    }
    court.home = Home(None, 100 << 30, {who: BEGIN + 300 * DAY})
    for minute in range(5, 30):
        court.sits(BEGIN + minute * MINUTE)
    assert court.story("certificate") == court.story("home_disk") == ["raised", "cleared"]
    assert court.detail("broker") == "no device is heard"


def test_while_home_was_away_nobody_was_silent() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    now_us = play(court, device, [(HOUR, fine)])
    # Home comes back after a day; the device is heard some minutes later, and all was well meanwhile.
    back_us = now_us + DAY
    court.home = Home(back_us)
    for step in range(14):
        court.sits(back_us + step * TELL)
    play(court, device, [(HOUR, fine)], back_us + 14 * TELL)
    assert court.record == []


def test_what_was_pending_as_home_went_away_waits_anew() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    now_us = play(court, device, [(HOUR, fine), (5 * MINUTE, away)])
    back_us = now_us + DAY
    court.home = Home(back_us)
    court.sits(back_us)
    play(court, device, [(MINUTE, fine), (HOUR, fine)], back_us + MINUTE)
    assert court.record == []


def test_a_device_that_is_away_says_nothing_of_its_camera_and_keeps_what_was_raised() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    play(court, device, [(HOUR, fine), (20 * MINUTE, silent), (2 * DAY, away)], step_us=MINUTE)
    assert court.story("silent_camera") == ["raised"]
    assert court.story("offline") == ["raised"]


def test_who_is_forgotten_is_cleared_and_who_is_disabled_is_not_judged() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    now_us = play(court, device, [(HOUR, fine), (DAY, away)], step_us=MINUTE)
    fleet.forget(now_us + 1)
    court.sits(now_us)
    assert court.story("offline") == ["raised", "cleared"]
    assert court.alerts == {}
    quiet = msgspec.convert({"offline": {"enabled": False}}, Rules)
    court = Court(fleet := Fleet(), quiet)
    play(court, Device(fleet), [(HOUR, fine), (DAY, away)], step_us=MINUTE)
    assert court.record == []


def test_an_older_device_without_the_new_facts_is_judged_by_its_frames() -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)

    def old(device: Device, now_us: int) -> None:
        device.watches(now_us, lens=None, disk=None, clock="", silence_s=-1.0)

    def old_and_silent(device: Device, now_us: int) -> None:
        device.says(now_us, lens=None, disk=None, clock="", silence_s=-1.0)

    end_us = play(court, device, [(DAY, old)])
    assert court.record == []
    play(court, device, [(HOUR, old_and_silent)], end_us)
    assert court.story("silent_camera") == ["raised"]
