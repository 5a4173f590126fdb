from __future__ import annotations

import random

import pytest

from walt_edge.uplink.window import Window
from walt_train.loop.admission.rates import BYTES_AN_HOUR, Limits, Meter

HOUR_S = 3600.0
SMALL = Limits(messages_an_hour=100, bytes_an_hour=1e6, burst_hours=1)


def test_a_burst_and_then_the_rate() -> None:
    meter = Meter()
    assert sum(meter.take("a", 1000, SMALL, 0.0) for _ in range(500)) == 100
    assert sum(meter.take("a", 1000, SMALL, HOUR_S / 2) for _ in range(500)) == 50
    assert sum(meter.take("a", 1000, SMALL, 100 * HOUR_S) for _ in range(500)) == 100


def test_bytes_count_as_well() -> None:
    meter = Meter()
    assert sum(meter.take("a", 300_000, SMALL, 0.0) for _ in range(10)) == 3


def test_a_message_larger_than_the_bucket_passes_once_it_is_full() -> None:
    meter = Meter()
    assert meter.take("a", 2_000_000, SMALL, 0.0)
    assert not meter.take("a", 2_000_000, SMALL, HOUR_S / 2)
    assert meter.take("a", 2_000_000, SMALL, 1.5 * HOUR_S)


def test_devices_do_not_share() -> None:
    meter = Meter()
    while meter.take("flood", 1000, SMALL, 0.0):
        pass
    assert meter.take("honest", 1000, SMALL, 0.0)


def test_a_limit_of_nothing_lets_nothing_pass_for_long() -> None:
    none = Limits(messages_an_hour=0, bytes_an_hour=0)
    meter = Meter()
    assert sum(meter.take("a", 10, none, hour * HOUR_S) for hour in range(50)) <= 1


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_that_share_a_device_grant_its_limit_between_them(workers: int) -> None:
    meters = [Meter(share=1 / workers) for _ in range(workers)]
    chance, taken = random.Random(1), 0
    for step in range(20_000):
        # Ten times as much as it may, dealt out as the broker pleases.
        taken += chance.choice(meters).take("a", 500, SMALL, step * HOUR_S / 1000)
    assert taken == pytest.approx(20 * 100 + 100, rel=0.02)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    meter = Meter()
    while meter.take("a", 1000, SMALL, 10.0):
        pass
    assert not meter.take("a", 1000, SMALL, 0.0)
    assert not meter.take("a", 1000, SMALL, 10.0)


def test_a_month_offline_comes_home_whole_and_in_days() -> None:
    """The device's own rules of sending again, against home's rate: nothing is lost, and few are sent in vain."""
    crops, size = 60_000, 100_000  # 6 GB, twice what a device may spool on a small card
    window = Window(16, 60.0, 3600.0, random.Random(2))
    meter, limits = Meter(), Limits()
    waiting = {str(number): None for number in range(crops)}
    now, vain = 0.0, 0
    while waiting:
        window.expire(now)
        known = set(window.known)
        fresh = iter([])  # type: ignore[var-annotated]
        if window.room > 0:
            fresh = (one for one in waiting if one not in known)
        progressed = False
        for one in [next(fresh, None) for _ in range(max(0, window.room))]:
            if one is None:
                break
            window.sent(one, now)
            if meter.take("a", size, limits, now):
                window.settled(one, now + 0.01)
                del waiting[one]
                progressed = True
            else:
                vain += 1
        now = now + 0.1 if progressed else max(now + 0.1, window.next_due)
        assert now < 10 * 24 * HOUR_S, "it takes for ever"
    days = now / 24 / HOUR_S
    ideal = (crops * size - limits.burst_hours * BYTES_AN_HOUR) / BYTES_AN_HOUR / 24
    assert days < 1.2 * ideal + 0.5
    assert vain < crops
