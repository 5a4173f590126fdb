"""What is written is what was heard: counters to the frame, over restarts of devices and of home, on both kinds."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import IntegrityError

from tests.walt_train.loop.fleet.fleet import BEGIN, DAY, HOUR, MINUTE, SECOND, Court, Device
from walt_edge.contract.telemetry import Disk, Lens, SpoolCounts
from walt_train.loop.fleet.conditions import Home
from walt_train.loop.fleet.figures import COUNTERS, FIELDS, RANGES, SPREADS, Bucket, bucket_of, columns, merge
from walt_train.loop.fleet.fleet import Fleet
from walt_train.loop.fleet.judging import History, judge
from walt_train.loop.fleet.keeping import RAW, TIERS_S, Batch, Keeper, LeaseLostError, Part, load, recent_events
from walt_train.loop.fleet.rules import Rules
from walt_train.loop.fleet.state import camera_key
from walt_train.loop.fleet.tables import fleet_cameras, fleet_devices, fleet_events, fleet_samples, fleet_watch
from walt_train.loop.store.database import transaction
from walt_train.loop.store.errors import StoreWriteError

TELL = 30 * SECOND


def samples() -> st.SearchStrategy[Bucket[float]]:
    # Whole numbers: their sums are exact in whatever order they are made.
    number = st.integers(-(10**6), 10**6).map(float)
    return st.builds(
        bucket_of,
        st.fixed_dictionaries({name: st.integers(0, 10**6) for name in COUNTERS}),
        st.fixed_dictionaries(dict.fromkeys(SPREADS, number)),
        st.fixed_dictionaries({}, optional=dict.fromkeys(RANGES, number)),
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(samples(), min_size=1, max_size=12), st.randoms())
def test_buckets_add_up_in_any_order_and_in_any_parts(some: list[Bucket[float]], chance: random.Random) -> None:
    whole = some[0][:]
    for one in some[1:]:
        merge(whole, one)
    mixed = chance.sample(some, len(some))
    cut = chance.randrange(len(mixed))
    parts = [mixed[:cut], mixed[cut:]]
    sums = []
    for part in filter(None, parts):
        total = part[0][:]
        for one in part[1:]:
            merge(total, one)
        sums.append(total)
    joined = sums[0]
    for one in sums[1:]:
        merge(joined, one)
    assert columns(joined) == columns(whole)
    assert whole[0] == len(some)
    for name in RANGES:
        told = [one[FIELDS.index(f"{name}_min")] for one in some]
        known = [value for value in told if not math.isnan(value)]
        assert columns(whole)[f"{name}_min"] == (min(known) if known else None)
        assert columns(whole)[f"{name}_max"] == (max(known) if known else None)


def totals(engine: Engine, tier: int) -> dict[str, Any]:
    sums = [func.sum(fleet_samples.c[name]).label(name) for name in ("count", *COUNTERS)]
    with engine.connect() as connection:
        row = connection.execute(select(*sums).where(fleet_samples.c.tier == tier)).mappings().one()
    return {name: int(value or 0) for name, value in row.items()}


def written(keeper: Keeper, fleet: Fleet, now_us: int) -> None:
    for part in fleet.batch.parts():
        keeper.write(part, now_us)


def resumed(engine: Engine, owner: str, now_us: int) -> tuple[Fleet, Keeper]:
    """Home as it begins anew after whatever ended it."""
    keeper = Keeper(engine, owner, lease_s=1.0)
    assert keeper.acquire(now_us)
    held = load(engine)
    fleet = Fleet()
    fleet.restore(held.devices, held.cameras)
    return fleet, keeper


def test_counters_are_true_to_the_frame_over_kills_of_home_and_restarts_of_the_device(engine: Engine) -> None:
    chance = random.Random(3)
    fleet, keeper = resumed(engine, "home-0", BEGIN)
    device = Device(fleet)
    device.watches(BEGIN)
    truth, kills, now_us = 0, 0, BEGIN
    for step in range(1, 600):
        now_us += TELL
        begins_anew = chance.random() < 0.01
        if begins_anew:
            device.restarts(now_us)
        frames = chance.randrange(0, 600)
        truth += frames
        device.watches(now_us, frames=frames)
        # An agent that begins anew in what a kill of home loses takes with it what it had counted: no such pair here.
        if step % 20 == 0 or begins_anew:
            written(keeper, fleet, now_us)
            fleet.next_batch()
        if chance.random() < 0.02:
            kills += 1  # What was heard since the last batch is lost; what it counted is not.
            fleet, keeper = resumed(engine, f"home-{kills}", now_us + 2 * SECOND)
            device.speaks_to(fleet)
    device.watches(now_us + TELL, frames=0)
    written(keeper, fleet, now_us)
    assert kills > 3
    for tier in (60, 3600):
        assert totals(engine, tier)["frames_processed"] == truth


def test_a_part_whose_answer_was_lost_is_written_once(engine: Engine) -> None:
    fleet, keeper = resumed(engine, "home", BEGIN)
    device = Device(fleet)
    for step in range(20):
        device.watches(BEGIN + step * TELL)
    (part,) = fleet.batch.parts()
    keeper.write(part, BEGIN)
    expected = totals(engine, 60)
    keeper._batches -= 1  # As after a commit of which nobody heard.
    keeper.write(part, BEGIN)
    assert totals(engine, 60) == expected
    fleet.next_batch()
    device.watches(BEGIN + 21 * TELL)
    written(keeper, fleet, BEGIN)
    assert totals(engine, 60)["count"] == expected["count"] + 1


def test_a_write_that_fails_midway_leaves_nothing_and_may_be_repeated(engine: Engine) -> None:
    fleet, keeper = resumed(engine, "home", BEGIN)
    Device(fleet).watches(BEGIN)
    (part,) = fleet.batch.parts()
    spoilt = Part(part.devices, part.cameras, [*part.samples, part.samples[0] | {"frames_received": None}])
    with pytest.raises((StoreWriteError, IntegrityError)):
        keeper.write(spoilt, BEGIN)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(fleet_devices)) == 0
        assert connection.scalar(select(fleet_watch.c.batches)) == 0
    keeper.write(part, BEGIN)
    assert len(load(engine).devices) == 1


def test_a_batch_in_parts_is_all_of_it_and_what_comes_meanwhile_is_in_none(engine: Engine) -> None:
    fleet, keeper = resumed(engine, "home", BEGIN)
    devices = [Device(fleet, name=f"walt-{number}") for number in range(25)]
    for step in range(3):
        for device in devices:
            device.watches(BEGIN + step * TELL)
    parts = fleet.batch.parts(most=10)
    fleet.next_batch()
    for device in devices:
        device.watches(BEGIN + 4 * TELL)
    assert [len(part.cameras) for part in parts] == [10, 10, 5]
    for part in parts:
        keeper.write(part, BEGIN)
    held = load(engine)
    assert len(held.devices) == len(held.cameras) == 25
    assert totals(engine, 60)["count"] == 75
    # A kill now: the states that were written go with the samples that were, so nothing is lost or doubled.
    fleet, keeper = resumed(engine, "home-2", BEGIN + MINUTE)
    for device in devices:
        device.speaks_to(fleet)
        device.watches(BEGIN + 5 * TELL)
    written(keeper, fleet, BEGIN)
    assert totals(engine, 60)["frames_processed"] == 25 * 4 * 300


def test_one_listens_and_who_lost_the_lease_writes_nothing(engine: Engine) -> None:
    first, other = Keeper(engine, "one", 60), Keeper(engine, "two", 60)
    assert first.acquire(BEGIN)
    assert not other.acquire(BEGIN + 59 * SECOND)
    assert other.acquire(BEGIN + 61 * SECOND)
    fleet = Fleet()
    Device(fleet).watches(BEGIN)
    empty = judge(History({}, {}, Home(None)), {}, BEGIN, Rules())
    with pytest.raises(LeaseLostError):
        written(first, fleet, BEGIN)
    with pytest.raises(LeaseLostError):
        first.note(empty, {}, BEGIN, None)
    with pytest.raises(LeaseLostError):
        first.tidy(BEGIN, 0, ())
    assert load(engine).devices == {}
    other.release(BEGIN + 62 * SECOND)
    assert first.acquire(BEGIN + 62 * SECOND)
    written(first, fleet, BEGIN)
    assert len(load(engine).devices) == 1


def test_alerts_are_told_once_over_restarts_of_home(engine: Engine) -> None:
    court = Court(fleet := Fleet())
    device = Device(fleet)
    keeper = Keeper(engine, "home", 3600.0)
    keeper.acquire(BEGIN)
    now_us = BEGIN
    for step in range(240):
        now_us += MINUTE
        is_full = 60 <= step < 180
        device.status("online", now_us)
        device.watches(now_us, disk=Disk(free_bytes=100 << 20 if is_full else 8 << 30))
        before = dict(court.alerts)
        judgement = court.sits(now_us)
        keeper.note(judgement, before, now_us, BEGIN)
        if step % 7 == 0:  # A restart: what is known is what was written.
            court.alerts = load(engine).alerts
            assert court.alerts == dict(judgement.alerts)
    assert [(event.subject.kind, event.what) for event in recent_events(engine, 10)[::-1]] == [
        ("disk", "raised"),
        ("disk", "cleared"),
    ]


def test_tiers_end_when_their_time_is_over_and_nothing_else_does(engine: Engine) -> None:
    fleet, _ = resumed(engine, "home", BEGIN)
    keeper = Keeper(engine, "home", 10 * 366 * 86_400.0)
    assert keeper.acquire(BEGIN)
    device = Device(fleet)
    for hour in range(48):
        for step in range(4):
            device.watches(BEGIN + hour * HOUR + step * 15 * MINUTE)
    written(keeper, fleet, BEGIN + 2 * DAY)
    keeper.tidy(BEGIN + 2 * DAY, 0, fleet.devices)
    with engine.connect() as connection:
        query = select(fleet_samples.c.tier, func.count()).group_by(fleet_samples.c.tier)
        by_tier = {int(tier): int(count) for tier, count in connection.execute(query)}
    assert by_tier[RAW] <= 4
    assert 90 <= by_tier[60] <= 97
    assert by_tier[3600] in (48, 49)
    year_us = TIERS_S[3600] * SECOND
    keeper.tidy(BEGIN + 2 * DAY + year_us, 0, ())
    with engine.connect() as connection:
        for table in (fleet_samples, fleet_devices, fleet_cameras, fleet_events):
            assert connection.scalar(select(func.count()).select_from(table)) == 0, table.name


def test_hostile_counters_never_make_a_batch_that_cannot_be_written(engine: Engine) -> None:
    fleet, keeper = resumed(engine, "home", BEGIN)
    device = Device(fleet)
    most = 2**53
    for step in range(30):
        value = most if step % 2 else 0
        device.says(
            BEGIN + step * SECOND * 2,
            frames_received=value,
            frames_processed=value,
            objects_seen=value,
            rejected_by_reason={f"r{n}": value for n in range(64)},
            spool=SpoolCounts(accepted=value, acked=value, dropped=value, depth=most, bytes=most),
            lens=Lens(moves=value, shift_px=1e12),
            uptime_s=1e12,
        )
        device.off_us = most - BEGIN - 10**9 if step % 3 else 0
    written(keeper, fleet, BEGIN)
    assert totals(engine, 3600)["rejected"] > 0


def test_the_two_parts_of_one_hour_are_one_row(engine: Engine) -> None:
    fleet, keeper = resumed(engine, "home", BEGIN)
    device = Device(fleet)
    start_us = BEGIN - BEGIN % HOUR
    lows = []
    for step in range(100):
        low = 40.0 - step % 7
        lows.append(low)
        device.watches(start_us + step * TELL, frame_age_ms_p50=low)
        if step % 11 == 0:
            written(keeper, fleet, BEGIN)
            fleet.next_batch()
    written(keeper, fleet, BEGIN)
    with engine.connect() as connection:
        row = connection.execute(select(fleet_samples).where(fleet_samples.c.tier == 3600)).mappings().one()
    assert row["key"] == camera_key(*device.key)
    assert row["count"] == 100
    assert row["frame_age_ms_p50_sum"] == pytest.approx(sum(lows))
    assert (row["frame_age_ms_p50_min"], row["frame_age_ms_p50_max"]) == (min(lows), max(lows))
    assert row["frames_processed"] == 99 * 300


def test_raw_samples_of_a_batch_are_bounded() -> None:
    fleet = Fleet(batch=Batch(most=50))
    device = Device(fleet)
    for step in range(200):
        device.watches(BEGIN + step * TELL)
    assert sum(key[1] == RAW for key in fleet.batch.buckets) == 50
    assert sum(bucket[0] for key, bucket in fleet.batch.buckets.items() if key[1] == 60) == 200


def test_a_database_that_is_away_is_told_in_one_kind_of_error(engine: Engine) -> None:
    fleet, keeper = resumed(engine, "home", BEGIN)
    Device(fleet).watches(BEGIN)
    with transaction(engine) as connection:
        fleet_samples.drop(connection)
    with pytest.raises(StoreWriteError):
        written(keeper, fleet, BEGIN)
