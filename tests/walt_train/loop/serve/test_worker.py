from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy.exc import OperationalError

from tests.bundles import FILES, manifest
from tests.killing import flushed
from tests.waiting import wait_for
from tests.walt_train.loop.serve.loop import CROPS, Loop, clipart_of, crop, fill, plate, truth
from walt_edge.contract.bundle import write_bundle
from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole
from walt_edge.contract.labels import Label
from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.children import Station
from walt_train.loop.gate.judging import Judging
from walt_train.loop.gate.verdict import Decision, Verdict
from walt_train.loop.publish.files import BusyError
from walt_train.loop.publish.roles import Channel
from walt_train.loop.rollout.engine import RolloutEngine
from walt_train.loop.serve.attempt import Watch
from walt_train.loop.serve.folder import Folder, read_progress
from walt_train.loop.serve.jobs import Generation, LeaseLostError, Order, State, StepName
from walt_train.loop.serve.steps import Outcome, present_pose
from walt_train.loop.serve.worker import ServeError, Worker, WorkerConfig, _Sentry
from walt_train.mining.records import EpochRecord


@pytest.fixture
def wishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that makes programs fail."""
    monkeypatch.setenv("WALT_FAKE", str(tmp_path / "fake.json"))
    return tmp_path / "fake.json"


def judged(loop: Loop, **quality: float) -> Loop:
    """Lets models be judged; qualities by the fake model's text, `motion` has 40 and a model 60."""
    loop.truths["cam-1"] = truth(loop.folder / "truth", {"motion": 40.0, **quality})
    return loop


def verdict_of(loop: Loop, number: int = 1) -> Verdict:
    path = loop.home / "generations" / "cam-1" / str(number) / "verdict.json"
    return msgspec.json.decode(path.read_bytes(), type=Verdict)


def test_from_clip_art_to_a_release(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    fill(loop.store)
    with caplog.at_level(logging.INFO):
        judged(loop).worker(seed=4, training_steps=300).run()
    [generation] = loop.generations
    assert (generation.state, generation.seed, generation.training_steps) == (State.DONE, 4, 300)
    assert generation.reason.startswith("passed: mask IoU at γ=0.5 60.0 against 40.0 of motion, +20.0 points")
    [release] = loop.releases
    assert loop.told == [(["test/walt-test"], Desired(release=1, target=release.target, sha256=release.sha256))]
    folder = Folder.of(loop.home, generation)
    progress = read_progress(folder.progress)
    assert progress is not None
    assert (progress.state, progress.trained_steps, progress.training_steps) == (State.DONE, 7, 300)
    assert [(step.name, step.state) for step in progress.steps] == [(name, State.DONE) for name in StepName]
    assert generation.clipart_sha256 == generation.step(StepName.CLIPART).result["sha256"]
    said = [record.message for record in caplog.records if "cam-1" in record.message]
    for name in StepName:
        assert any(f"generation 1: {name} begins" in line for line in said)
        assert any(f"generation 1: {name} done in" in line for line in said)
    assert {path.name for path in (folder.root / "logs").iterdir()} == {
        f"{name}-1.log" for name in ("mine", "composites", "train", "export", "cost-candidate", "motion", "candidate")
    }


def test_what_two_devices_call_by_one_name_teaches_nobody(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    fill(loop.store)
    fill(loop.store, camera="cam-2")
    loop.store.add_group([crop(999, device="walt-other")])
    with caplog.at_level(logging.INFO):
        loop.publish_unjudged = True
        loop.worker().run()
    assert [generation.camera for generation in loop.generations] == ["cam-2"]
    [line] = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert line.startswith("cam-1: 2 devices name a camera so (test/walt-other, test/walt-test ...)")


def test_a_candidate_that_is_no_better_is_kept_and_not_published(loop: Loop) -> None:
    fill(loop.store)
    with pytest.raises(ServeError, match=r"cam-1 generation 1: refused: .* \+3\.0 points .* expected \+5 or more$"):
        judged(loop, motion=57.0).worker().run()
    [generation] = loop.generations
    assert generation.state is State.REFUSED
    assert generation.step(StepName.JUDGE).state is State.DONE
    assert generation.step(StepName.PUBLISH).state is State.REFUSED
    assert Folder.of(loop.home, generation).bundle.is_file()
    assert verdict_of(loop).decision is Decision.REFUSED
    assert (loop.releases, loop.told) == ([], [])


def test_without_truth_nothing_is_published(loop: Loop) -> None:
    fill(loop.store)
    with pytest.raises(ServeError, match=r"unjudged: no truth for cam-1 .*--publish-unjudged"):
        loop.worker().run()
    assert (verdict_of(loop).decision, loop.releases) == (Decision.UNJUDGED, [])


def test_without_truth_something_is_published_if_asked(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    fill(loop.store)
    loop.publish_unjudged = True
    loop.worker().run()
    assert (verdict_of(loop).decision, len(loop.releases)) == (Decision.UNJUDGED, 1)
    assert "unjudged: no truth for cam-1 (--truth cam-1=DIR); published as asked" in caplog.text


@pytest.mark.parametrize(("second", "state", "releases"), [(64.0, State.DONE, 2), (60.5, State.REFUSED, 1)])
def test_a_later_generation_has_to_beat_the_champion(loop: Loop, second: float, state: State, releases: int) -> None:
    fill(loop.store)
    judged(loop, **{f"0 {2 * CROPS}": second}).worker().run()
    fill(loop.store, numbers=range(10, 10 + CROPS))
    worker = loop.worker()
    if state is State.REFUSED:
        with pytest.raises(ServeError, match=r"generation 2: refused: .* of fake, \+0\.5 points"):
            worker.run()
    else:
        worker.run()
    assert [generation.state for generation in loop.generations] == [State.DONE, state]
    assert (len(loop.releases), len(loop.told)) == (releases, releases)
    assert verdict_of(loop, 2).against == "fake"


def test_held_out_crops_never_train(loop: Loop) -> None:
    fill(loop.store)
    fill(loop.store, numbers=range(20, 30), holdout=True)
    judged(loop).worker().run()
    clips = clipart_of(loop).clips
    assert len(clips) == CROPS
    assert not any(clip.header.holdout for clip in clips)


def test_frozen_clip_art_is_on_the_disk_with_its_name(loop: Loop) -> None:
    fill(loop.store)
    with flushed() as paths:
        judged(loop).worker().run()
    folder = loop.home / "generations" / "cam-1" / "1"
    frozen = folder / "clipart"
    mined = folder / ".clipart.partial" / "mined"
    last = max(place for place, path in enumerate(paths) if path == str(mined))
    assert paths[last + 1] == str(folder)
    written = {mined / path.relative_to(frozen) for path in frozen.rglob("*")}
    assert written <= {Path(path) for path in paths[: last + 1]}
    assert not mined.parent.exists()


@pytest.mark.parametrize(
    ("epochs", "present"),
    [
        ([(30, 5), (25, 9)], 1),  # it was moved
        ([(25, 9), (30, 5)], 0),  # and back
        ([(30, 5), (3, 9)], 0),  # just now: too little was seen there yet
        ([(4, 5), (7, 3)], 1),  # too little everywhere
    ],
)
def test_training_is_for_where_the_camera_stands_now(epochs: list[tuple[int, int]], present: int) -> None:
    records = [
        EpochRecord(folder=str(place), clips=objects, objects=objects, plates=1, static=0, until_us=until_us)
        for place, (objects, until_us) in enumerate(epochs)
    ]
    assert present_pose(records) is records[present]


def test_one_class_alone_trains_with_a_warning(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    fill(loop.store, label=Label.PERSON)
    judged(loop).worker().run()
    assert "cam-1 generation 1: no vehicle in its clip art, so it will know none" in caplog.text
    assert loop.generations[0].step(StepName.CLIPART).result["labels"] == ["person"]


def test_a_step_that_fails_three_times_fails_its_generation_alone(loop: Loop, wishes: Path) -> None:
    wishes.write_text(json.dumps({"fail": "cam-1/1/clipart", "words": "No space left on device"}))
    for camera in ("cam-1", "cam-2"):
        fill(loop.store, camera)
        loop.truths[camera] = truth(loop.folder / "truth")
    failure = (
        r"cam-1 generation 1: train failed: train: ended with status 1: walt-fake: No space left on device \(log"
    )
    with pytest.raises(ServeError, match=failure) as caught:
        loop.worker().run()
    assert "\n" not in str(caught.value)
    bad, good = loop.generations
    assert (bad.state, bad.step(StepName.TRAIN).failures, good.state) == (State.FAILED, 3, State.DONE)
    assert {path.name for path in (Folder.of(loop.home, bad).root / "logs").iterdir()} == {
        "mine-1.log",
        *(f"{name}-{attempt}.log" for name in ("composites", "train") for attempt in (1, 2, 3)),
    }


def test_a_training_that_cannot_be_resumed_begins_anew(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    fill(loop.store)
    resume = loop.home / "generations" / "cam-1" / "1" / "train" / "resume"
    resume.mkdir(parents=True)
    (resume / "damaged").touch()
    judged(loop).worker().run()
    [generation] = loop.generations
    assert (generation.state, generation.step(StepName.TRAIN).failures) == (State.DONE, 2)
    assert "cam-1 generation 1: training begins anew" in caplog.text


def test_a_full_disk_is_one_line(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(loop.store)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device", "/clipart")

    monkeypatch.setattr(loop.store, "export_clipart", full)
    with pytest.raises(ServeError, match=r"^cam-1 generation 1: clipart failed: No space left on device: /clipart$"):
        loop.worker().run()


def test_a_disk_that_is_freed_again(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(loop.store)
    tries = []

    def first_full(path: Path, data: bytes) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise OSError(28, "No space left on device")
        write_whole(path, data)

    monkeypatch.setattr("walt_train.loop.gate.judging.write_whole", first_full)
    judged(loop).worker().run()
    [generation] = loop.generations
    assert (generation.state, generation.step(StepName.JUDGE).failures) == (State.DONE, 1)


def test_a_broker_that_is_away_means_no_second_release(loop: Loop) -> None:
    fill(loop.store)
    calls: list[Desired] = []

    def tell(devices: Sequence[DeviceTopics], desired: Desired) -> None:
        calls.append(desired)
        if len(calls) < 3:
            raise WaltError("broker away")

    loop.tell = tell
    judged(loop).worker().run()
    engine = RolloutEngine(loop.store.engine, loop.repository, tell, owner="loop")
    for _ in range(3):
        engine.step()
    assert [one.release for one in calls] == [1, 1, 1]
    assert [release.number for release in loop.releases] == [1]


def test_another_publisher_is_waited_for(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(loop.store)
    publish = loop.repository.publish
    busy = [BusyError("another publisher is at work")]

    def sometimes(bundle: Path, role: Channel) -> Any:
        if busy:
            raise busy.pop()
        return publish(bundle, role)

    monkeypatch.setattr(loop.repository, "publish", sometimes)
    judged(loop).worker().run()
    assert len(loop.releases) == 1
    assert loop.generations[0].step(StepName.PUBLISH).failures == 0


def test_a_lost_lease_ends_the_child_and_publishes_nothing(
    loop: Loop, wishes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wishes.write_text(json.dumps({"hold": "walt-train fit"}))
    fill(loop.store)
    worker = judged(loop).worker("mine", lease_s=0.3, once=False)
    stations: list[Station] = []
    look = Station.__dict__["running"].fget

    def running(station: Station) -> bool:
        """Gives the generation to somebody else once training is held."""
        if (loop.folder / "held").exists() and not stations:
            stations.append(station)
            with loop.store.engine.begin() as connection:
                connection.exec_driver_sql("update generations set owner = 'theirs', until_us = 9000000000000000")
            monkeypatch.setattr(worker, "_begin_one", worker.stop)
        return bool(look(station))

    monkeypatch.setattr(Station, "running", property(running))
    worker.run()
    [generation] = loop.generations
    assert (generation.owner, generation.step(StepName.TRAIN).state) == ("theirs", State.RUNNING)
    assert "another worker has taken it" in caplog.text
    with pytest.raises(ProcessLookupError):
        os.kill(int((loop.folder / "held").read_text()), 0)
    assert not loop.releases


def test_nothing_is_published_under_a_lost_lease(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(loop.store)
    jobs = loop.jobs("mine")
    generation = jobs.create(Order(camera="cam-1", recipe="demo", seed=0, training_steps=1, crops=6, tracks=6))
    assert generation is not None
    worker = judged(loop).worker("mine")
    workshop = worker._workshop
    for name in list(StepName)[:-1]:
        generation = jobs.begin(generation, name)
        outcome = workshop.do(name, generation, Watch())
        generation = jobs.finish(generation, name, outcome.result, outcome.line)
    with loop.store.engine.begin() as connection:
        connection.exec_driver_sql("update generations set owner = 'theirs'")
    with pytest.raises(LeaseLostError):
        workshop.do(StepName.PUBLISH, generation, Watch())
    assert not loop.releases


def test_what_was_not_judged_is_not_signed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(loop.store)
    worker = judged(loop).worker()
    do = worker._workshop.do

    def changed(name: StepName, generation: Generation, watch: Watch) -> Outcome:
        """Somebody puts another sound bundle into the place of the one that was judged."""
        outcome = do(name, generation, watch)
        if name is StepName.JUDGE:
            write_bundle(loop.home / "generations/cam-1/1/bundle.walt", manifest("other"), FILES)
        return outcome

    monkeypatch.setattr(worker._workshop, "do", changed)
    with pytest.raises(ServeError, match=r"publish failed: .*bundle\.walt has sha256 .*, the one that was judged"):
        worker.run()
    assert not loop.releases


def test_a_table_that_cannot_be_read_does_not_end_the_signs_of_life(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = loop.jobs("mine", lease_s=0.03)
    generation = jobs.create(Order(camera="cam-1", recipe="demo", seed=0, training_steps=1, crops=6, tracks=6))
    assert generation is not None
    tries = []

    def failing(_: Generation) -> None:
        tries.append(1)
        raise OperationalError("select", {}, Exception("disk I/O error"))

    monkeypatch.setattr(jobs, "renew", failing)
    with _Sentry(jobs, generation, threading.Event(), WorkerConfig(home=loop.home, lease_s=0.03)):
        wait_for(lambda: len(tries) >= 3)
    assert caplog.text.count("cannot keep the lease, working on (disk I/O error)") == 1


def test_it_says_once_what_it_waits_for(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop.store.add_group([plate(), crop(1), crop(2, holdout=True)])
    worker = loop.worker(once=False, poll_s=0.0)
    turns = iter([lambda: None, lambda: None, worker.stop])
    monkeypatch.setattr(worker, "_keep", lambda: next(turns)())
    with caplog.at_level(logging.INFO):
        worker.run()
    assert [r.message for r in caplog.records if "cam-1" in r.message] == [
        "cam-1: waits, no model yet: 1 of 4 crops, 1 of 2 objects"
    ]


def test_the_only_truth_judges_the_only_camera(loop: Loop) -> None:
    fill(loop.store)
    judging = Judging(only_truths=[truth(loop.folder / "truth")])

    def worker() -> Worker:
        made = loop.worker()
        made._workshop._court._judging = judging
        return made

    worker().run()
    assert verdict_of(loop).decision is Decision.PASSED
    fill(loop.store, "cam-2")
    with pytest.raises(ServeError, match="cam-2 generation 1: unjudged: no truth for cam-2"):
        worker().run()
