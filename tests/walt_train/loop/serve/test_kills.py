"""Whatever is killed, and whenever: one release comes out, and every step has its result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.material import ROOT
from tests.waiting import wait_for
from tests.walt_train.loop.serve.loop import Loop, fill, truth
from walt_train.loop.serve.jobs import State

CHILDREN = ["walt-train mine", "walt-train fit", "walt-export bundle", "--model motion", "candidate.json"]
PLACES = ["before clipart", "after clipart", *CHILDREN, "before publish", "after publish"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Loop(tmp_path) as loop:
        fill(loop.store)
    truth(tmp_path / "truth")
    return tmp_path


@contextmanager
def serving(folder: Path, hold: str = "") -> Iterator[subprocess.Popen[bytes]]:
    (folder / "fake.json").write_text(json.dumps({"hold": hold}))
    words = [sys.executable, "-m", "tests.walt_train.loop.serve.loop", str(folder)]
    env = {**os.environ, "WALT_FAKE": str(folder / "fake.json"), "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=env, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def held(folder: Path, process: subprocess.Popen[bytes]) -> int:
    """Waits until something is held; returns its process id."""
    path = folder / "held"
    wait_for(lambda: (path.exists() and path.read_text()) or process.poll() is not None, 30, "until it is held")
    assert process.poll() is None, (folder / "log").read_text()
    pid = int(path.read_text())
    path.unlink()
    return pid


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def states(folder: Path) -> list[State]:
    with Loop(folder) as loop:
        return [generation.state for generation in loop.generations]


def check(folder: Path, failures: int = 0) -> None:
    with Loop(folder) as loop:
        [generation] = loop.generations
        assert generation.state is State.DONE, (folder / "log").read_text()
        assert [step.state for step in generation.steps] == [State.DONE] * 5
        assert all(step.result for step in generation.steps)
        assert sum(step.failures for step in generation.steps) == failures
        [release] = loop.releases
        assert release.number == 1
        told = [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]
        assert {(one["release"], one["sha256"]) for one in told} == {(1, release.sha256)}
        generation_folder = loop.home / "generations" / "cam-1" / "1"
        for name in ("clipart/clipart.json", "train/checkpoint.pt", "bundle.walt", "verdict.json", "progress.json"):
            assert (generation_folder / name).is_file(), name
        assert not list(generation_folder.glob("**/*.partial"))


def test_the_worker_is_killed_at_every_place_in_turn(folder: Path) -> None:
    for place in PLACES:
        with serving(folder, place) as process:
            child = held(folder, process)
            process.kill()
            process.wait(10)
            if place in CHILDREN:
                wait_for(lambda pid=child: is_gone(pid), 10, "until the child is dead")  # type: ignore[misc]
    with serving(folder) as process:
        assert process.wait(60) == 0, (folder / "log").read_text()
    check(folder)


def test_every_child_is_killed_once(folder: Path) -> None:
    with serving(folder, CHILDREN[0]) as process:
        for following in [*CHILDREN[1:], ""]:
            child = held(folder, process)
            (folder / "fake.json").write_text(json.dumps({"hold": following}))
            os.kill(child, signal.SIGKILL)
        assert process.wait(60) == 0, (folder / "log").read_text()
    check(folder, failures=len(CHILDREN))


def test_the_worker_is_asked_to_stop(folder: Path) -> None:
    with serving(folder, "walt-train fit") as process:
        child = held(folder, process)
        process.terminate()
        assert process.wait(20) == 0
    assert is_gone(child)
    with Loop(folder) as loop:
        [stopped] = loop.generations
    assert (stopped.state, stopped.owner) == (State.RUNNING, "")
    with serving(folder) as process:
        assert process.wait(60) == 0, (folder / "log").read_text()
    check(folder)


@pytest.mark.slow
def test_two_workers_share_the_cameras(folder: Path) -> None:
    with Loop(folder) as loop:
        fill(loop.store, "cam-2", range(20, 27))
    with serving(folder, "cam-1/1/clipart") as first:
        child = held(folder, first)
        with serving(folder, "cam-1/1/clipart") as second:
            wait_for(lambda: states(folder) == [State.RUNNING, State.DONE], 30, "until the other camera is done")
            (folder / "fake.json").write_text("{}")
            os.kill(child, signal.SIGKILL)
            assert (first.wait(60), second.wait(60)) == (0, 0), (folder / "log").read_text()
    assert states(folder) == [State.DONE] * 2
    with Loop(folder) as loop:
        assert sorted(release.number for release in loop.releases) == [1, 2]
