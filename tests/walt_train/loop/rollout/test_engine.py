"""The engine in small towns: everything but the broker is real."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, event, insert, update

from tests.bundles import FILES, manifest
from walt_edge.contract.bundle import write_bundle
from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.fleet.tables import fleet_watch
from walt_train.loop.lineage.affected import runners
from walt_train.loop.publish.repository import Release, Repository
from walt_train.loop.rollout.engine import RolloutEngine
from walt_train.loop.rollout.model import CANARY, Limits, Plan, Rollout, RolloutError, State
from walt_train.loop.rollout.rollouts import end_withdrawn
from walt_train.loop.simulate.town import BUCKET_S, Noise, Town
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import generations

CALM = Noise(cameras=0.3, day=1.0, weather=0.05, hours=0.03, moments=0.05, lost=0.0)
HOUR_S = 3600


class Place:
    """A town, a repository, and the engine between them."""

    def __init__(self, engine: Engine, folder: Path, devices: int) -> None:
        self.engine, self.folder = engine, folder
        self.repository = Repository(folder / "served", folder / "keys")
        self.town = Town(engine, devices, seed=3, noise=CALM)
        self.driver = self.drives("one")
        self.base = self.publish("plain")
        self.town.begin_with(wish_of(self.base))
        self.town.pass_time(12 * HOUR_S)

    def drives(self, owner: str, tell: Callable[..., None] | None = None) -> RolloutEngine:
        return RolloutEngine(
            self.engine, self.repository, tell or self.town.tell, owner=owner, clock=self.town.now_us
        )

    def publish(self, name: str, content: str = "") -> Release:
        path = self.folder / f"{name}.walt"
        write_bundle(path, manifest(name), FILES | {"model.onnx": (name + content).encode()})
        return self.repository.publish(path, role="canary")

    def create(self, name: str, devices: Sequence[DeviceTopics] | None = None, **more: Any) -> Rollout:
        return self.driver.rollouts.create(self.publish(name), devices or self.town.devices, "ada", **more)

    def until(
        self, made: Rollout, *states: State, hours: float = 60.0, driver: RolloutEngine | None = None
    ) -> Rollout:
        for _ in range(int(hours * HOUR_S / BUCKET_S)):
            (driver or self.driver).step()
            if self.driver.rollouts.read(made.id).state in states:
                break
            self.town.pass_time(BUCKET_S)
        found = self.driver.rollouts.read(made.id)
        assert found.state in states, (found.state, found.detail, found.evidence)
        return found

    def runs(self) -> set[str]:
        """What runs, by the names of releases."""
        self.town.pass_time(3 * BUCKET_S)
        return set(self.town.running().values())


def wish_of(release: Release) -> Desired:
    return Desired(release=release.number, target=release.target, sha256=release.sha256)


def said(rollout: Rollout) -> list[str]:
    return [one.what for one in rollout.events]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Store(tmp_path / "store") as store:
        yield Place(store.engine, tmp_path, 12)


def test_a_good_release_goes_through_all_stages_and_is_signed_for_all(place: Place) -> None:
    made = place.create("good")
    place.driver.step()
    assert place.repository.releases("stable") == []
    done = place.until(made, State.DONE)
    assert place.runs() == {"good-2.walt"}
    assert place.repository.newest("stable") == Release(2, "good-2.walt", made.sha256)
    assert said(done).count("passed") == 3
    assert all(one.told_us is not None and one.undo is None for one in done.members)


def test_a_camera_s_own_model_is_compared_with_other_cameras_and_signed_for_all_in_the_end(place: Place) -> None:
    made = place.create("good", place.town.devices[:1])
    done = place.until(made, State.DONE)
    assert [(one.name, len(one.members)) for one in done.cohorts] == [("canary", 1), ("control", 11)]
    assert place.town.told[2] == {place.town.devices[0].device}
    assert [one.number for one in place.repository.releases("stable")] == [2]
    passed = next(one.detail for one in done.events if one.what == "passed")
    assert "detections" in passed
    assert "11 devices compared" in passed


@pytest.mark.parametrize(
    "name", ["crash", "subtle", *(pytest.param(name, marks=pytest.mark.slow) for name in ("slow", "silent", "blind"))]
)
def test_a_bad_release_is_taken_back_from_its_canary_alone(place: Place, name: str) -> None:
    found = place.until(place.create(name), State.ROLLED_BACK)
    touched = [one for one in found.members if one.touched_us is not None]
    assert [(one.cohort, one.undo) for one in touched] == [(CANARY, 3)]
    assert "breach" in said(found)
    assert place.town.told[2] == place.town.told[3] == {touched[0].device}
    assert place.runs() == {"plain-1.walt", "plain-3.walt"}
    undone = place.repository.newest("stable")
    assert undone is not None
    assert (undone.number, undone.sha256) == (3, place.base.sha256)


def test_each_device_gets_its_own_back_and_who_had_none_has_none(place: Place) -> None:
    other = place.publish("other")
    first, second, third = place.town.devices[:3]
    place.town.tell([second], wish_of(other))
    place.town.tell([third], Desired.nothing(1))
    place.town.pass_time(6 * BUCKET_S)
    made = place.create("good", [first, second, third])
    place.until(made, State.DONE)
    place.driver.rollouts.rollback(made.id, "ada", "a customer rang")
    back = place.until(made, State.ROLLED_BACK)
    place.town.pass_time(3 * BUCKET_S)
    running = place.town.running()
    names = [running[one.device].partition("-")[0] for one in (first, second, third)]
    assert names == ["plain", "other", ""]
    with place.engine.connect() as connection:
        assert runners(connection, [made.release]) == ()
    assert {one.device for one in back.members if one.undone_us} == {one.device for one in (first, second, third)}
    assert back.events[-1].what == "rolled-back"


def test_the_same_rollout_is_made_once(place: Place) -> None:
    assert place.create("good").id == place.create("good").id


def test_a_person_pauses_resumes_and_aborts_with_name_and_reason(place: Place) -> None:
    made = place.create("good")
    rollouts = place.driver.rollouts
    place.until(made, State.RUNNING)
    rollouts.pause(made.id, "ada", "a holiday")
    place.until(made, State.PAUSED)
    place.town.pass_time(BUCKET_S)
    place.driver.step()
    assert len(place.town.told[made.release]) == 1
    with pytest.raises(RolloutError, match=f"rollout {made.id} is paused: expected waiting or running"):
        rollouts.pause(made.id, "bob")
    rollouts.resume(made.id, "bob")
    place.until(made, State.RUNNING)
    rollouts.abort(made.id, "bob", "looks odd")
    ended = place.until(made, State.ABORTED)
    assert place.runs() == {"plain-1.walt", "plain-3.walt"}
    by = [(one.by, one.what, one.detail) for one in ended.events if one.by != "rollout"]
    assert by[1:] == [
        ("ada", "paused", "paused by ada: a holiday"),
        ("bob", "resumed", "resumed by bob"),
        ("bob", "abort", "aborted by bob: looks odd"),
    ]
    with pytest.raises(RolloutError, match="is aborted"):
        rollouts.abort(made.id, "bob", "again")


def test_a_stage_that_does_not_gather_its_minimum_is_paused_and_not_passed(place: Place) -> None:
    ghost = DeviceTopics("town", "never-heard")
    hurried = msgspec.structs.replace(Plan.of(1).stages[0], patience_s=HOUR_S)
    made = place.create("good", [ghost], plan=Plan(stages=(hurried,)))
    paused = place.until(made, State.PAUSED)
    assert paused.detail.startswith("canary did not pass in time: 0 of 1 devices run it for good, 1 are needed")


def test_a_device_is_in_one_rollout_at_a_time(place: Place) -> None:
    first, second = place.create("good"), place.create("other", place.town.devices[:1])
    place.until(first, State.RUNNING)
    assert place.driver.rollouts.read(second.id).state is State.WAITING
    place.driver.rollouts.abort(first.id, "ada", "enough")
    place.until(second, State.RUNNING)
    assert place.driver.rollouts.read(first.id).state is State.ABORTED


def test_nothing_is_judged_while_nobody_watches_the_fleet(place: Place) -> None:
    made = place.create("crash")
    place.until(made, State.RUNNING)
    place.town.pass_time(2 * HOUR_S)
    with place.engine.begin() as connection:
        connection.execute(update(fleet_watch).values(listening_us=None))
    place.driver.step()
    assert place.driver.rollouts.read(made.id).state is State.RUNNING


def test_one_process_drives_and_another_takes_over_when_it_is_gone(place: Place) -> None:
    made = place.create("good")
    place.driver.step()
    other = place.drives("two")
    other.step()
    assert said(place.driver.rollouts.read(made.id)).count("told") == 1
    place.town.pass_time(BUCKET_S)
    place.until(made, State.DONE, driver=other)


def test_a_generation_that_was_taken_back_is_no_champion(place: Place) -> None:
    row = {"camera": "cam", "number": 4, "recipe": "demo", "seed": 1, "state": "done", "reason": "passed"}
    row |= dict.fromkeys(("created_us", "crops", "tracks", "until_us", "due_us"), 0)
    blank = {column.name: "" for column in generations.c if column.name not in row and not column.nullable}
    with place.engine.begin() as connection:
        connection.execute(insert(generations), blank | row)
    place.until(place.create("blind", place.town.devices[:1], camera="cam", generation=4), State.ROLLED_BACK)
    with place.engine.connect() as connection:
        state, reason = connection.execute(generations.select().with_only_columns(
            generations.c.state, generations.c.reason)).one()  # fmt: skip
    assert state == "refused"
    assert reason.startswith("rolled back: canary: ")


def test_killed_before_or_after_any_word_it_goes_on_and_touches_nobody_else(place: Place) -> None:
    """Every word fails once before and once after it was said; each time another process goes on."""
    made, tries = place.create("slow"), 0

    class KilledError(WaltError):
        pass

    def told(devices: Sequence[DeviceTopics], wish: Desired) -> None:
        nonlocal tries
        tries += 1
        if tries % 3 == 1:
            raise KilledError("before")
        place.town.tell(devices, wish)
        if tries % 3 == 2:
            raise KilledError("after")

    for number in range(300):
        place.drives(f"process-{number}", told).step()
        if place.driver.rollouts.read(made.id).state is State.ROLLED_BACK:
            break
        place.town.pass_time(BUCKET_S)
    found = place.driver.rollouts.read(made.id)
    assert (found.state, tries) == (State.ROLLED_BACK, 6)
    assert [len(place.town.told[number]) for number in (2, 3)] == [1, 1]
    assert [one.number for one in place.repository.releases()] == [3, 2, 1]


def test_a_plan_is_data() -> None:
    plan = Plan.of(500, limits=Limits(fewer=0.9))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_a_release_that_is_withdrawn_goes_to_nobody_further(place: Place) -> None:
    made = place.create("good")
    place.until(made, State.RUNNING)
    with place.engine.begin() as connection:
        end_withdrawn(connection, [made.release], "some of its crops were forgotten", place.town.now_us())
    place.town.pass_time(6 * BUCKET_S)
    place.driver.step()
    found = place.driver.rollouts.read(made.id)
    assert (found.state, found.detail) == (State.ABORTED, "some of its crops were forgotten")
    assert len(place.town.told[made.release]) == 1


def test_on_postgresql_it_is_the_same(database_url: str, tmp_path: Path) -> None:
    with Store(StoreConfig(database_url, str(tmp_path / "blobs"))) as store:
        place = Place(store.engine, tmp_path, 10)
        assert place.until(place.create("blind"), State.ROLLED_BACK).evidence.findings
        place.until(place.create("good"), State.DONE)
        assert place.runs() == {"good-4.walt"}


@pytest.mark.parametrize(
    ("name", "often", "state", "released"), [("crash", 12, State.ROLLED_BACK, 3), ("good", 40, State.DONE, 2)]
)
def test_cut_off_at_any_statement_it_ends_the_same(
    place: Place, name: str, often: int, state: State, released: int
) -> None:
    """One statement of the engine's in so many is the last of its process; the next one goes on from the tables."""
    made, chance, is_risky = place.create(name), random.Random(5), False
    cuts = 0

    def cut(*_: object) -> None:
        nonlocal cuts
        if is_risky and chance.random() < 1 / often:
            cuts += 1
            raise OSError("cut off")

    event.listen(place.engine, "before_cursor_execute", cut)
    for _ in range(1500):
        is_risky, before = True, cuts
        place.driver.step()
        is_risky = False
        if place.driver.rollouts.read(made.id).state is state:
            break
        if cuts == before:
            place.town.pass_time(BUCKET_S)
    found = place.driver.rollouts.read(made.id)
    assert (found.state, place.repository.releases()[0].number) == (state, released)
    assert cuts > 5
    touched = [one for one in found.members if one.touched_us is not None]
    assert all(one.told_us is not None for one in touched)
    assert len(place.town.told[2]) == (12 if state is State.DONE else 1)
    assert (len(place.town.told[3]) == 1) if state is State.ROLLED_BACK else (3 not in place.town.told)
