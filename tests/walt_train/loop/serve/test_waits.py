"""A full disk, a table that is away, and several workers: all of it is waited for, told, and nobody's failure."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from tests.walt_train.loop.serve.loop import RULES, Loop, fill, truth
from walt_edge.contract.files import write_whole
from walt_train.loop.serve.jobs import Generation, State, StepName
from walt_train.loop.serve.space import wants_space
from walt_train.loop.serve.triggers.lookout import waiting
from walt_train.loop.serve.worker import Worker
from walt_train.loop.store.database import StoreWriteError


def until(worker: Worker, monkeypatch: pytest.MonkeyPatch, loop: Loop, count: int = 1) -> None:
    """Lets a worker that never ends by itself run until so many generations have."""

    def keep() -> None:
        if sum(one.state is State.DONE for one in loop.generations) >= count:
            worker.stop()

    monkeypatch.setattr(worker, "_keep", keep)
    worker.run()


def judged(loop: Loop, *cameras: str) -> Loop:
    for camera in cameras or ("cam-1",):
        loop.truths[camera] = truth(loop.folder / "truth")
        fill(loop.store, camera, device=f"walt-{camera}")
    return loop


def test_a_full_disk_is_told_and_waited_for(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # One more than a step that fails is tried.
    full = [28, 122, 28]

    def sometimes(path: Path, data: bytes) -> None:
        if full:
            raise OSError(full.pop(), "No space")
        write_whole(path, data)

    monkeypatch.setattr("walt_train.loop.gate.judging.write_whole", sometimes)
    until(judged(loop).worker(once=False, space_s=0.01), monkeypatch, loop)
    [generation] = loop.generations
    step = generation.step(StepName.JUDGE)
    assert (generation.state, step.failures, step.attempts) == (State.DONE, 0, 4)
    assert "cam-1 generation 1: judge waits for space, tried again in 0 s: No space" in caplog.text


def test_a_program_that_finds_no_space_is_waited_for(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wishes = loop.folder / "fake.json"
    monkeypatch.setenv("WALT_FAKE", str(wishes))
    wishes.write_text(json.dumps({"fail": "walt-train fit", "words": "No space left on device"}))
    worker = judged(loop).worker(once=False, space_s=0.01)
    wait = worker._jobs.wait

    def freed(*args: Any) -> Generation:
        wishes.write_text("{}")
        return wait(*args)

    monkeypatch.setattr(worker._jobs, "wait", freed)
    until(worker, monkeypatch, loop)
    [generation] = loop.generations
    assert (generation.state, generation.step(StepName.TRAIN).failures) == (State.DONE, 0)


def test_what_wants_space(tmp_path: Path) -> None:
    inner = OSError(28, "No space left on device")
    outer = StoreWriteError("cannot write")
    outer.__cause__ = inner
    assert wants_space(outer, tmp_path)
    assert not wants_space(OSError(13, "Permission denied"), tmp_path)
    assert not wants_space(OSError(13, "Permission denied"), tmp_path / "nowhere")


def test_a_table_that_is_away_is_told_once_and_waited_for(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = judged(loop).worker(once=False)
    claim, away = (
        worker._jobs.claim,
        [OperationalError("select", {}, Exception("no server")), StoreWriteError("full")],
    )

    def sometimes() -> Generation | None:
        if away:
            raise away.pop()
        return claim()

    monkeypatch.setattr(worker._jobs, "claim", sometimes)
    until(worker, monkeypatch, loop)
    told = [one.message for one in caplog.records if "waits for the table of jobs" in one.message]
    assert told[0] == "waits for the table of jobs: full: free space, or start the database"
    assert sum(one.levelno >= logging.ERROR for one in caplog.records if "table of jobs" in one.message) == 1


def test_one_camera_that_always_fails_rests_and_blocks_nobody(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = loop.folder / "fake.json"
    monkeypatch.setenv("WALT_FAKE", str(wishes))
    wishes.write_text(json.dumps({"fail": "cam-1/1/clipart"}))
    worker = judged(loop, "cam-1", "cam-2", "cam-3").worker(once=False)
    until(worker, monkeypatch, loop, count=2)
    states = {one.camera: one.state for one in loop.generations}
    assert states == {"cam-1": State.FAILED, "cam-2": State.DONE, "cam-3": State.DONE}
    worker._lookout.forget("cam-1")
    worker._lookout._write_s = 0.0
    worker._lookout.look()
    lines = {one.camera: one.line for one in waiting(loop.store.engine)}
    assert "; 1 failed in a row, it rests for " in lines["cam-1"]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_workers_share_cameras_and_budget(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    database = request.getfixturevalue("database_url") if kind == "postgres" else ""
    rules = replace(RULES, a_day=3)
    with Loop(tmp_path, database=database) as loop:
        for number in range(4):
            camera = f"cam-{number}"
            loop.truths[camera] = truth(tmp_path / "truth")
            # No two alike, or their models would be one release.
            fill(loop.store, camera, range(6 + number), device=f"walt-{camera}")
        workers = [loop.worker(name, rules=rules) for name in ("one", "two")]
        threads = [threading.Thread(target=worker.run) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        # The three that gain most; each once.
        found = [(one.camera, one.number, one.state, one.owner) for one in loop.generations]
        assert found == [(f"cam-{number}", 1, State.DONE, "") for number in (1, 2, 3)]
        assert sorted(release.number for release in loop.releases) == [1, 2, 3]
        assert all(step.attempts == 1 for one in loop.generations for step in one.steps)


def test_a_worker_that_comes_back_late_changes_nothing_on_postgres(database_url: str, tmp_path: Path) -> None:
    with Loop(tmp_path, database=database_url) as loop:
        fill(loop.store)
        late = loop.jobs("late", lease_s=0.0)
        assert (
            loop.worker("late", lease_s=0.0)._create("cam-1", loop.worker()._lookout.readiness("cam-1")) is not None
        )
        taken = loop.jobs("next").claim()
        assert taken is not None
        assert taken.owner == "next"
        assert late.claim() is None
        assert loop.jobs("third").claim() is None
