from __future__ import annotations

import itertools

import pytest

from tests.walt_train.loop.serve.loop import Loop
from walt_train.loop.serve.jobs import Generation, Jobs, LeaseLostError, Order, State, StepName

LEASE_S = 30.0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> int:
        return round(self.s * 1e6)


@pytest.fixture
def clock(loop: Loop) -> Clock:
    clock = Clock()
    loop.clock = clock
    return clock


def order(camera: str = "cam-1") -> Order:
    return Order(camera=camera, recipe="demo", seed=3, training_steps=300, crops=60, tracks=25)


def created(jobs: Jobs, camera: str = "cam-1") -> Generation:
    generation = jobs.create(order(camera))
    assert generation is not None
    return generation


def finish_all(jobs: Jobs, generation: Generation) -> Generation:
    for name in StepName:
        generation = jobs.begin(generation, name)
        line = "passed" if name is StepName.JUDGE else ""
        generation = jobs.finish(generation, name, {"sha256": "ab", "step": name}, line)
    return generation


def test_a_generation_goes_through_its_steps(loop: Loop, clock: Clock) -> None:
    jobs = loop.jobs("a")
    generation = created(jobs)
    assert (generation.number, generation.state, generation.owner) == (1, State.PENDING, "a")
    assert [step.name for step in generation.steps] == list(StepName)
    assert generation.following() is StepName.CLIPART
    done = finish_all(jobs, generation)
    assert (done.state, done.owner, done.reason, done.clipart_sha256) == (State.DONE, "", "passed", "ab")
    assert done.following() is None
    assert done.step(StepName.TRAIN).result == {"sha256": "ab", "step": "train"}
    assert jobs.champion("cam-1") == done
    assert created(jobs).number == 2


def test_one_open_generation_for_each_camera(loop: Loop, clock: Clock) -> None:
    assert loop.jobs("a").create(order()) is not None
    assert loop.jobs("b").create(order()) is None
    assert loop.jobs("b").create(order("cam-2")) is not None


def test_two_workers_create_at_one_moment(loop: Loop, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = loop.jobs("slow")
    monkeypatch.setattr(slow, "latest", lambda camera: None)
    created(loop.jobs("fast"))
    assert slow.create(order()) is None
    assert [generation.owner for generation in loop.generations] == ["fast"]


def test_the_lease_of_a_dead_worker_runs_out(loop: Loop, clock: Clock) -> None:
    dead, alive = loop.jobs("dead", LEASE_S), loop.jobs("alive", LEASE_S)
    left = dead.begin(created(dead), StepName.CLIPART)
    clock.s += LEASE_S - 1
    assert alive.claim() is None
    clock.s += 1
    taken = alive.claim()
    assert taken is not None
    assert (taken.owner, taken.following(), taken.step(StepName.CLIPART).attempts) == ("alive", StepName.CLIPART, 1)
    assert taken.step(StepName.CLIPART).failures == 0
    for change in (
        lambda: dead.renew(left),
        lambda: dead.finish(left, StepName.CLIPART, {"sha256": "late"}),
        lambda: dead.fail(left, StepName.CLIPART, "late", limit=3, retry_s=1),
        lambda: dead.release(left),
    ):
        with pytest.raises(LeaseLostError, match="cam-1 generation 1: another worker has taken it"):
            change()
    assert alive.read("cam-1", 1) == taken


def test_a_sign_of_life_keeps_the_lease(loop: Loop, clock: Clock) -> None:
    jobs = loop.jobs("a", LEASE_S)
    generation = created(jobs)
    for _ in range(5):
        clock.s += LEASE_S - 1
        jobs.renew(generation)
    assert loop.jobs("b").claim() is None
    jobs.release(generation)
    assert loop.jobs("b").claim() is not None


def test_the_second_worker_takes_another_camera(loop: Loop, clock: Clock) -> None:
    first = loop.jobs("a")
    for camera in ("cam-1", "cam-2"):
        first.release(created(first, camera))
        clock.s += 1
    claims = [loop.jobs(owner).claim() for owner in "abc"]
    assert [claim and claim.camera for claim in claims] == ["cam-1", "cam-2", None]


def test_a_step_is_tried_three_times(loop: Loop, clock: Clock) -> None:
    jobs = loop.jobs("a")
    created(jobs)
    waits = []
    for attempt in itertools.count(1):
        generation = jobs.claim()
        assert generation is not None
        generation = jobs.begin(generation, StepName.CLIPART)
        generation = jobs.fail(generation, StepName.CLIPART, f"no luck {attempt}", limit=3, retry_s=10)
        if generation.state is State.FAILED:
            failed = generation
            break
        waits.append((generation.due_us - clock()) / 1e6)
        assert jobs.claim() is None
        clock.s += waits[-1]
    assert (attempt, waits) == (3, [10, 20])
    assert (failed.reason, failed.owner) == ("clipart failed: no luck 3", "")
    assert failed.step(StepName.CLIPART).state is State.FAILED
    assert jobs.claim() is None


def test_a_failed_generation_may_go_on_if_asked(loop: Loop, clock: Clock) -> None:
    jobs = loop.jobs("a")
    generation = jobs.begin(created(jobs), StepName.CLIPART)
    generation = jobs.begin(jobs.finish(generation, StepName.CLIPART, {"sha256": "ab"}), StepName.TRAIN)
    jobs.fail(generation, StepName.TRAIN, "disk full", limit=1, retry_s=1)
    jobs.refuse(created(jobs, "cam-2"), StepName.PUBLISH, "too weak")
    assert [one.title for one in jobs.reopen()] == ["cam-1 generation 1"]
    again = jobs.claim()
    assert again is not None
    assert (again.camera, again.following(), again.step(StepName.TRAIN).failures) == ("cam-1", StepName.TRAIN, 0)
    assert jobs.reopen() == []


def test_a_refused_generation_is_no_champion(loop: Loop, clock: Clock) -> None:
    jobs = loop.jobs("a")
    generation = jobs.refuse(created(jobs), StepName.PUBLISH, "too weak")
    assert (generation.state, generation.reason) == (State.REFUSED, "too weak")
    assert generation.step(StepName.PUBLISH).state is State.REFUSED
    assert jobs.champion("cam-1") is None
    assert jobs.claim() is None
