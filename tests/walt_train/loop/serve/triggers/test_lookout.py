"""Facts are read, and cameras looked at, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, update

from tests.walt_train.loop.serve.loop import PLACES, crop, fill
from walt_edge.contract.labels import Label
from walt_edge.contract.telemetry import SpoolCounts, Telemetry
from walt_train.loop.fleet.state import CameraState, camera_key
from walt_train.loop.fleet.tables import fleet_cameras, fleet_samples
from walt_train.loop.labels.tables import rejections
from walt_train.loop.serve.jobs import Generation, Jobs, Order, StepName
from walt_train.loop.serve.triggers import lookout as module
from walt_train.loop.serve.triggers.coverage import FULL, Gain
from walt_train.loop.serve.triggers.lookout import Lookout, waiting
from walt_train.loop.serve.triggers.reading import cameras_of, devices_of, harvest_of, read_facts
from walt_train.loop.serve.triggers.rules import Facts, Rules, Threshold
from walt_train.loop.store.database import transaction
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
RULES = Rules(Threshold(crops=4, tracks=2))


class Clock:
    """Home's, and a steady one; they pass when told to."""

    def __init__(self) -> None:
        self.s = 1_900_000_000.0

    def __call__(self) -> int:
        return round(self.s * 1e6)

    def steady(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def jobs_of(store: Store, clock: Clock, owner: str = "a") -> Jobs:
    return Jobs(store.engine, owner=owner, clock=clock)


def facts_of(store: Store, camera: str, clock: Clock) -> Facts:
    with store.engine.connect() as connection:
        return read_facts(connection, camera, clock())


def filled(store: Store, clock: Clock, numbers: Sequence[int], camera: str = "cam-1", **changes: Any) -> None:
    """Stores crops as if they had come now."""
    fill(store, camera, numbers, **changes)
    ids = [crop(number, camera=camera, **changes).id for number in numbers]
    with transaction(store.engine) as connection:
        connection.execute(update(envelopes).where(envelopes.c.id.in_(ids)).values(received_us=clock()))


def begun(store: Store, clock: Clock, camera: str = "cam-1", a_day: int | None = None) -> Generation | None:
    found = harvest_of(store.engine, camera)
    order = Order(
        camera=camera,
        recipe="demo",
        seed=0,
        training_steps=None,
        crops=found.crops,
        tracks=found.tracks,
        why="a test",
        cells=found.cells,
    )
    return jobs_of(store, clock).create(order, a_day=a_day)


def ended(store: Store, clock: Clock, camera: str = "cam-1") -> Generation:
    generation = begun(store, clock, camera)
    assert generation is not None
    assert generation.why == "a test"
    return jobs_of(store, clock).refuse(generation, StepName.PUBLISH, "no better")


def lookout(store: Store, clock: Clock, rules: Rules = RULES) -> Lookout:
    return Lookout(store.engine, rules, clock, clock.steady)


def test_what_may_train_is_counted(store: Store) -> None:
    fill(store, numbers=range(4), track=7)
    fill(store, numbers=range(10, 13), label=Label.PERSON)
    fill(store, numbers=range(20, 25), holdout=True)
    fill(store, "cam-2", range(30, 32), label=Label.VEHICLE)
    store.add_group([replace(crop(40), held="new device"), crop(41)])
    with transaction(store.engine) as connection:
        row = {"crop": crop(41).id, "by": "somebody", "at_us": 1, "reason": "hidden"}
        connection.execute(insert(rejections), row)
    both = frozenset(Label)
    found = [harvest_of(store.engine, camera) for camera in ("cam-1", "cam-2", "nowhere")]
    assert [(one.crops, one.tracks, one.labels, sum(one.cells.values())) for one in found] == [
        (7, 4, both, 7),
        (2, 2, frozenset({Label.VEHICLE}), 2),
        (0, 0, frozenset(), 0),
    ]
    [device] = devices_of(store.engine, "cam-1")
    assert device.desired == "walt/v1/test/walt-test/desired"
    with store.engine.connect() as connection:
        assert cameras_of(connection) == ["cam-1", "cam-2"]


def test_no_camera_at_all(store: Store, clock: Clock) -> None:
    assert lookout(store, clock).best() == []


def test_only_what_is_elsewhere_is_fresh(store: Store, clock: Clock) -> None:
    filled(store, clock, range(6))
    ended(store, clock)
    clock.s += 60
    filled(store, clock, range(10, 14))
    facts = facts_of(store, "cam-1", clock)
    assert (facts.covered, facts.fresh, facts.since) == (6, Gain(4, 4), Gain(4, 4))


def test_the_same_lane_again_is_nothing_new(store: Store, clock: Clock) -> None:
    lane = [place + PLACES * turn for place in range(2) for turn in range(FULL)]
    filled(store, clock, lane, label=Label.VEHICLE)
    ended(store, clock)
    clock.s += 60
    more = [place + PLACES * turn for place in range(2) for turn in range(FULL, 12)]
    filled(store, clock, more, label=Label.VEHICLE)
    facts = facts_of(store, "cam-1", clock)
    assert (facts.fresh, facts.since.crops) == (Gain(0, 0), 18)
    assert lookout(store, clock).best() == []


def test_a_generation_of_before_coverage_was_written_down(store: Store, clock: Clock) -> None:
    filled(store, clock, range(6))
    order = Order(camera="cam-1", recipe="demo", seed=0, training_steps=None, crops=6, tracks=6)
    made = jobs_of(store, clock).create(order)
    assert made is not None
    jobs_of(store, clock).refuse(made, StepName.PUBLISH, "no better")
    clock.s += 60
    filled(store, clock, range(10, 15))
    facts = facts_of(store, "cam-1", clock)
    assert (facts.covered, facts.fresh) == (6, Gain(5, 5))


def test_what_failed_has_learned_nothing_and_rests(store: Store, clock: Clock) -> None:
    filled(store, clock, range(6))
    for hours, failures in ((1.0, 1), (2.0, 2), (4.0, 3)):
        assert lookout(store, clock).best() == ["cam-1"]
        made = begun(store, clock)
        assert made is not None
        jobs_of(store, clock).fail(made, StepName.TRAIN, "no luck", limit=1, retry_s=0)
        facts = facts_of(store, "cam-1", clock)
        assert (facts.failures, facts.learned_us) == (failures, None)
        clock.s += 3600 * hours - 1
        assert lookout(store, clock).best() == []
        clock.s += 1


def test_a_camera_that_moved(store: Store, clock: Clock) -> None:
    filled(store, clock, range(6))
    ended(store, clock)
    clock.s += 60
    told = Telemetry(
        boot_id="b",
        utc_us=clock(),
        uptime_s=1,
        frames_received=1,
        frames_processed=1,
        frames_skipped=0,
        frame_age_ms_p50=1,
        frame_age_ms_p99=1,
        step_ms_p50=1,
        step_ms_p99=1,
        camera_reconnects=0,
        anonymiser_failures=0,
        objects_seen=1,
        crops_chosen=1,
        rejected_by_reason={},
        spool=SpoolCounts(),
    )
    state = CameraState(
        site="test",
        device="walt-test",
        camera="",
        heard_us=clock(),
        told=told,
        frames_us=clock(),
        moved_us=clock(),
        shift_px=40.0,
    )
    named = {"site": "test", "device": "walt-test", "camera": "", "heard_us": clock()}
    with transaction(store.engine) as connection:
        text = msgspec.json.encode(state).decode()
        connection.execute(insert(fleet_cameras), {"key": state.key, **named, "state": text})
    clock.s += 60
    filled(store, clock, range(10, 13))
    looked = lookout(store, clock).look()["cam-1"]
    assert looked.line == "the camera moved by 40 px: 3 of 4 crops, 3 of 2 objects"
    filled(store, clock, range(20, 22))
    assert lookout(store, clock).best() == ["cam-1"]
    ended(store, clock)
    assert facts_of(store, "cam-1", clock).moved_us == 0


def sample(clock: Clock, days_ago: float, **figures: float) -> dict[str, Any]:
    key = camera_key("test", "walt-test", "cam-1")
    row: dict[str, Any] = {
        column.name: None if column.nullable else 0 for column in fleet_samples.columns if column.name != "key"
    }
    return row | {"key": key, "tier": 3600, "at_us": clock() - round(days_ago * DAY_US), "count": 120} | figures


def test_drift_of_what_devices_tell(store: Store, clock: Clock) -> None:
    filled(store, clock, range(6))
    ended(store, clock)
    learned_s = clock.s
    clock.s += 10 * 86_400
    filled(store, clock, range(10, 13))
    ago = (clock.s - learned_s) / 86_400
    usual = {"frames_processed": 1000, "objects_seen": 100, "crops_chosen": 50, "lens_clear_min": 0.9}
    usual |= {"scored": 100, "score_milli": 80_000}
    rare = usual | {"objects_seen": 40, "crops_chosen": 20, "scored": 40, "score_milli": 26_000}
    named = {"site": "test", "device": "walt-test", "camera": "cam-1", "heard_us": clock(), "state": "{}"}
    with transaction(store.engine) as connection:
        connection.execute(insert(fleet_cameras), {"key": camera_key("test", "walt-test", "cam-1"), **named})
        rows = [sample(clock, ago + 0.1 + hour / 24, **usual) for hour in range(80)]
        rows += [sample(clock, 0.1 + hour / 24, **rare) for hour in range(80)]
        connection.execute(insert(fleet_samples), rows)
    trends = {one.name: one for one in facts_of(store, "cam-1", clock).trends}
    assert {name for name, one in trends.items() if one.has_drifted} == {"objects a frame", "mean score"}
    assert (trends["mean score"].before, trends["mean score"].lately) == (0.8, 0.65)
    looked = lookout(store, clock).look()["cam-1"]
    assert looked.line == "drift: objects a frame 0.04 a week long, 0.1 before: 3 of 4 crops, 3 of 2 objects"


def test_the_budget_goes_to_whom_it_serves_most(store: Store, clock: Clock) -> None:
    for place, camera in enumerate(("cam-1", "cam-2", "cam-3")):
        filled(store, clock, range(100 * place, 100 * place + 5 + place), camera)
    watching = lookout(store, clock, replace(RULES, a_day=2))
    assert watching.best() == ["cam-3", "cam-2", "cam-1"]
    assert begun(store, clock, "cam-3", a_day=2) is not None
    clock.s += HOUR_US / 1e6
    assert watching.best() == ["cam-2", "cam-1"]
    assert begun(store, clock, "cam-2", a_day=2) is not None
    # Who had not seen the budget being used up does not overdraw it.
    assert begun(store, clock, "cam-1", a_day=2) is None
    assert watching.best() == []
    clock.s += 60
    assert watching.best() == []
    [wait] = waiting(store.engine)
    assert (wait.camera, wait.is_ready) == ("cam-1", True)
    assert wait.line.endswith("; waits for its turn, the fleet begins 2 a day")
    clock.s += 23 * 3600 + 1
    assert watching.best() == ["cam-1"]


def test_what_cameras_wait_for_is_written_for_people(store: Store, clock: Clock) -> None:
    filled(store, clock, range(2))
    filled(store, clock, range(100, 106), "cam-2")
    watching = lookout(store, clock)
    watching.look()
    assert [(one.camera, one.is_ready, one.line) for one in waiting(store.engine)] == [
        ("cam-2", True, "no model yet (6 crops of 6 objects)"),
        ("cam-1", False, "no model yet: 2 of 4 crops, 2 of 2 objects"),
    ]
    made = begun(store, clock, "cam-2")
    assert made is not None
    clock.s += 60
    watching.look()
    assert [one.camera for one in waiting(store.engine)] == ["cam-1"]


def test_a_camera_is_read_anew_only_when_something_came(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(store, clock, range(2))
    filled(store, clock, range(100, 102), "cam-2")
    reads: list[str] = []

    def counted(connection: Any, camera: str, now_us: int) -> Facts:
        reads.append(camera)
        return read_facts(connection, camera, now_us)

    monkeypatch.setattr(module, "read_facts", counted)
    watching = lookout(store, clock)
    for _ in range(5):
        watching.look()
        clock.s += 60
    assert reads == ["cam-1", "cam-2"]
    filled(store, clock, range(10, 11))
    watching.look()
    assert reads[2:] == ["cam-1"]
    # What changes without any crop coming, such as an approval, is seen within a quarter of an hour.
    clock.s += 900
    watching.look()
    assert sorted(reads[3:]) == ["cam-1", "cam-2"]
