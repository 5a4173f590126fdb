"""Jobs of a cluster: found again, never two of one step, and told of when the cluster is wrong or away."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.material import ROOT
from tests.waiting import wait_for
from tests.walt_train.loop.serve.loop import Loop, fill, programs, truth
from tests.walt_train.loop.serve.runners.cluster import ray_head
from tests.walt_train.loop.serve.runners.jobs_server import JobsServer, jobs_server
from walt_edge.contract.errors import UsageError
from walt_train.loop.children import StationError
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import State, StepName
from walt_train.loop.serve.manifest import read_manifest
from walt_train.loop.serve.runners import ray
from walt_train.loop.serve.runners.ray import RayRunner
from walt_train.loop.serve.runners.runner import Work


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    monkeypatch.setattr(ray, "_ASK_EVERY_S", 0.0)
    with jobs_server() as server:
        yield server


def work(folder: Path, key: str = "train-0", number: int = 1, is_heavy: bool = True) -> Work:
    words = ("walt-train", "fit", "--out", "a folder")
    return Work("train", words, folder / "train-1.log", ("cam 1", number), key, is_heavy)


def test_a_job_says_what_it_is_for(server: JobsServer, tmp_path: Path) -> None:
    RayRunner(server.address, tmp_path, gpus=2).start(work(tmp_path))
    [body] = server.submitted
    assert body["entrypoint"] == f"walt-train fit --out 'a folder' > {tmp_path}/train-1.log 2>&1"
    assert (body["entrypoint_num_cpus"], body["entrypoint_num_gpus"]) == (1, 2)
    assert body["metadata"] | {"log": ""} == {"camera": "cam 1", "number": "1", "title": "train", "log": ""}
    assert RayRunner(server.address, tmp_path / "other").start(work(tmp_path))
    assert len({body["submission_id"] for body in server.submitted}) == 2


def test_it_is_found_again_and_not_submitted_twice(server: JobsServer, tmp_path: Path) -> None:
    first = RayRunner(server.address, tmp_path).start(work(tmp_path))
    first.leave(is_over=False)
    again = RayRunner(server.address, tmp_path).start(work(tmp_path))
    assert (len(server.submitted), server.stopped, again.running) == (1, [], True)
    next(iter(server.jobs.values()))["status"] = "SUCCEEDED"
    assert (again.running, again.status) == (False, 0)
    # Also where it ended meanwhile.
    assert RayRunner(server.address, tmp_path).start(work(tmp_path)).status == 0
    assert len(server.submitted) == 1


def test_an_answer_that_is_lost_is_no_second_job(server: JobsServer, tmp_path: Path) -> None:
    server.loses_answer = True
    assert RayRunner(server.address, tmp_path).start(work(tmp_path)).running
    assert len(server.submitted) == 1


def test_what_failed_is_told_by_its_last_words_and_tried_as_another_job(server: JobsServer, tmp_path: Path) -> None:
    runner = RayRunner(server.address, tmp_path)
    job = runner.start(work(tmp_path))
    (tmp_path / "train-1.log").write_text("begins\nCUDA out of memory\n")
    next(iter(server.jobs.values())).update(status="FAILED", driver_exit_code=1)
    assert (job.running, job.status) == (False, 1)
    assert "ended with status 1: CUDA out of memory (log: " in str(job.failure())
    runner.start(work(tmp_path, "train-1"))
    assert len(server.submitted) == 2


def test_no_word_of_the_cluster_has_another_file_read(server: JobsServer, tmp_path: Path) -> None:
    secret = tmp_path / "keys" / "root.key"
    secret.parent.mkdir()
    secret.write_text("a secret of home's")
    (tmp_path / "link.log").symlink_to(secret)
    runner = RayRunner(server.address, tmp_path)
    runner.start(work(tmp_path))
    [job] = server.jobs.values()
    for told in (secret, tmp_path / "link.log", tmp_path / "keys" / ".." / "keys" / "root.key"):
        job.update(status="FAILED", driver_exit_code=1, metadata={**job["metadata"], "log": str(told)})
        assert "a secret" not in str(runner.start(work(tmp_path)).failure())


def test_never_two_at_work_in_one_folder(server: JobsServer, tmp_path: Path) -> None:
    runner = RayRunner(server.address, tmp_path)
    runner.start(work(tmp_path))
    with pytest.raises(StationError, match="an earlier job of it is still at work and was asked to stop"):
        runner.start(work(tmp_path, "train-1"))
    assert len(server.stopped) == 1
    runner.start(work(tmp_path, "train-1"))
    runner.start(work(tmp_path, number=2))


def test_a_cluster_that_is_away_for_a_while(server: JobsServer, tmp_path: Path) -> None:
    patient = RayRunner(server.address, tmp_path).start(work(tmp_path))
    hasty = RayRunner(server.address, tmp_path, patience_s=0.0).start(work(tmp_path))
    server.broken = (503, "busy")
    assert patient.running
    assert not hasty.running
    assert "the cluster is silent for" in str(hasty.failure())
    server.broken = None
    server.jobs.clear()
    wait_for(lambda: not patient.running)
    assert "does not know job" in str(patient.failure())
    assert "was it restarted?" in str(patient.failure())


def test_what_nobody_wants_any_more_is_stopped(server: JobsServer, tmp_path: Path) -> None:
    runner = RayRunner(server.address, tmp_path)
    runner.start(work(tmp_path)).leave(is_over=True)
    runner.start(work(tmp_path, number=2))
    runner.start(work(tmp_path, number=3))
    RayRunner(server.address, tmp_path / "other").start(work(tmp_path, number=9))
    assert len(server.stopped) == 1
    [line] = runner.sweep(lambda camera, number: (camera, number) == ("cam 1", 3))
    assert line.startswith("cam 1 generation 2: its job walt-")
    assert len(server.stopped) == 2


def test_what_is_light_runs_here(server: JobsServer, tmp_path: Path) -> None:
    light = Work("mine", ("true",), tmp_path / "log", ("cam-1", 1), "mine-0")
    running = RayRunner(server.address, tmp_path).start(light)
    wait_for(lambda: not running.running)
    running.leave(is_over=True)
    assert (running.status, server.submitted) == (0, [])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ((200, "<html>"), "is no job server of Ray: it answers no JSON; mend --ray"),
        ((200, "[]"), "is no job server of Ray: found list; mend --ray"),
        ((500, "Traceback\n ...\nRuntimeError: no agent\n.\n"), "status 500, RuntimeError: no agent"),
    ],
)
def test_a_wrong_server(server: JobsServer, tmp_path: Path, broken: tuple[int, str], message: str) -> None:
    server.broken = broken
    with pytest.raises(StationError, match=message) as caught:
        RayRunner(server.address, tmp_path).start(work(tmp_path))
    assert "\n" not in str(caught.value)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(StationError, match=r"Ray at http://127.0.0.1:1 does not answer \(.*\): start its head"):
        RayRunner("http://127.0.0.1:1/", tmp_path).start(work(tmp_path))
    with pytest.raises(UsageError, match="give the job server's address, as in http://HEAD:8265"):
        RayRunner("ray://head:10001", tmp_path)


def held_programs(folder: Path) -> tuple[str, str]:
    """Programs as a cluster's machines would have them; a training waits until there is a file `go`."""
    train, export = folder / "walt-train", folder / "walt-export"
    wait = f"echo begun >> {folder}/begun\nuntil [ -e {folder}/go ]; do sleep 0.1; done\n"
    for path, words, before in ((train, programs().walt_train, wait), (export, programs().walt_export, "")):
        path.write_text(f'#!/bin/sh\nexport PYTHONPATH={ROOT}\n{before}exec {shlex.join(words)} "$@"\n')
        path.chmod(0o755)
    return str(train), str(export)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_generation_on_a_real_cluster_over_the_loss_of_its_worker(tmp_path: Path) -> None:
    """A worker lets go in the middle of a training; the next one finds the job, and one release comes out."""
    judged_by = {"cam-1": truth(tmp_path / "truth")}
    with ray_head() as (address, token), Loop(tmp_path, truths=judged_by, heavy=held_programs(tmp_path)) as loop:
        loop.runner = RayRunner(address, loop.home, token_file=token)
        fill(loop.store)
        first = loop.worker(once=False)
        thread = threading.Thread(target=first.run)
        thread.start()
        wait_for((tmp_path / "begun").exists, 120, "until the job runs")
        first.stop()
        thread.join(60)
        [left] = loop.generations
        assert (left.state, left.step(StepName.TRAIN).state, left.owner) == (State.RUNNING, State.RUNNING, "")
        (tmp_path / "go").touch()
        loop.worker().run()
        [done] = loop.generations
        assert (done.state, done.step(StepName.TRAIN).attempts, len(loop.releases)) == (State.DONE, 2, 1)
        assert (tmp_path / "begun").read_text() == "begun\n"
        manifest = read_manifest(Folder.of(loop.home, done).manifest)
        assert manifest is not None
        [trained] = [one for one in manifest.commands if one.title == "train" and one.status == 0]
        assert (trained.attempt, trained.log) == (2, "logs/train-1.log")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_cluster_stops_what_nobody_wants(tmp_path: Path) -> None:
    with ray_head() as (address, token):
        with pytest.raises(StationError, match="does not know our token: give the cluster's as --ray-token FILE"):
            RayRunner(address, tmp_path).sweep(lambda camera, number: False)
        runner = RayRunner(address, tmp_path, token_file=token)
        work = Work("train", ("sleep", "600"), tmp_path / "log", ("cam-1", 1), "train-0", is_heavy=True)
        job = runner.start(work)
        wait_for((tmp_path / "log").exists, 120, "until the job runs")
        assert job.running
        assert len(runner.sweep(lambda camera, number: False)) == 1
        wait_for(lambda: not job.running, 60, "until it has stopped")
        assert "STOPPED" in str(job.failure())
        failing = replace(work, words=("sh", "-c", "echo no luck; exit 3"), log=tmp_path / "log-2", key="train-1")
        job = runner.start(failing)
        wait_for(lambda: not job.running, 60, "until it has failed")
        assert (job.status, "status 3: no luck" in str(job.failure())) == (3, True)
