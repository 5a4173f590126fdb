"""A model is tried in a process of its own: whatever it does there, the agent hears of it and lives."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from tests.bundles import FILES, manifest
from tests.detectors import golden, model, picture, write_colour_bundle
from tests.waiting import wait_for
from walt_edge.contract.bundle import MODEL, Limits, write_bundle
from walt_edge.update.errors import CancelledError, NotNowError, RefusedError
from walt_edge.update.trial import Measured, Trial, check_limits

TRIAL = Trial(device="cpu", threads=1, runs=5, timeout_s=60)
ENDLESS = """
    trips = Constant<value_int = 1000000000000>()
    go = Cast<to = 9>(trips)
    begin = Constant<value_float = 0.0>()
    extra = Loop<body = turn (int64 i, bool c, float v) => (bool on, float w) { on = Identity(c) w = Add(v, v) }>
        (trips, go, begin)
"""
GREEDY = """
    large = Constant<value_ints = [1000000, 1000000]>()
    zeros = ConstantOfShape(large)
    extra = ReduceMax<keepdims = 0>(zeros)
"""


def scripted(code: str) -> Trial:
    """A trial whose child does something else."""
    return replace(TRIAL, command=(sys.executable, "-c", code))


def bundle_of(path: Path, **options: Any) -> Path:
    """A bundle whose network has something more in it, with golden answers of one that has not."""
    files = {MODEL: model(**options), **golden("0", picture(0, 3), manifest(), model())}
    write_bundle(path, manifest(), files)
    return path


def test_a_sound_model_is_measured(tmp_path: Path) -> None:
    path = write_colour_bundle(tmp_path / "m.walt")
    found = TRIAL(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert 0 < found.latency_ms_p50 <= found.latency_ms_p99 < 10_000
    assert 0 <= found.memory_mb < 1000


def test_the_child_is_told_how_the_agent_runs_models(tmp_path: Path) -> None:
    note = tmp_path / "words"
    told = scripted(f"import sys, pathlib; pathlib.Path('{note}').write_text(' '.join(sys.argv[1:]))")
    with pytest.raises(RefusedError):
        replace(told, device="tensorrt", threads=3, cache=tmp_path / "kept")(Path("m.walt"))
    words = f"m.walt --device tensorrt --runs 5 --parent {os.getpid()} --threads 3 --cache {tmp_path}/kept"
    assert note.read_text() == words


def other_answer(path: Path) -> Path:
    """A bundle whose golden answer is that to another picture."""
    asked, answered = (golden("0", image, manifest(), model()) for image in (picture(0, 3), picture(1)))
    write_bundle(path, manifest(), {MODEL: model(), **answered, "golden/0.png": asked["golden/0.png"]})
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path, "cannot read"),
        (lambda path: path.write_bytes(b"PK") and path, "not a bundle"),
        (lambda path: write_bundle(path, manifest(), FILES) and path, "cannot be used"),
        (other_answer, r"golden/0\.png of demo-1 disagrees on this machine"),
        (lambda path: bundle_of(path, extra="extra = Constant<value_float = -0.1>()"), "a score is 0.1"),
        (lambda path: bundle_of(path, extra=GREEDY), "ONNX Runtime gave up"),
    ],
)
def test_an_unfit_model_is_refused_in_one_line(tmp_path: Path, make: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as raised:
        TRIAL(make(tmp_path / "m.walt"))
    assert "\n" not in str(raised.value)


def test_a_model_that_comes_to_no_end_is_given_up(tmp_path: Path) -> None:
    path = bundle_of(tmp_path / "m.walt", extra=ENDLESS)
    with pytest.raises(RefusedError, match="was tried for 3 s and came to no end"):
        replace(TRIAL, timeout_s=3)(path)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("import os; os.abort()", RefusedError, r"it ended the process that tried it \(SIGABRT\)"),
        ("import os, signal; os.kill(os.getpid(), 9)", NotNowError, "was killed: free some memory"),
        ("", RefusedError, "ended with 0 and without an answer"),
        ("print('x'); raise SystemExit(7)", RefusedError, "ended with 7 and without an answer"),
        ('print(\'{"lacking":"no ONNX Runtime"}\')', NotNowError, "no ONNX Runtime"),
    ],
)
def test_a_child_that_ends_is_heard(code: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        scripted(code)(Path("m.walt"))


def test_a_trial_that_is_not_wanted_any_more_ends_at_once(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path('{note}').write_text(str(os.getpid())); time.sleep(600)"
    begun_s = time.monotonic()
    with pytest.raises(CancelledError):
        scripted(code)(Path("m.walt"), lambda: note.exists() and note.read_text() != "")
    assert time.monotonic() - begun_s < 60
    assert not Path(f"/proc/{note.read_text()}").exists()


def test_the_child_ends_with_the_agent(tmp_path: Path) -> None:
    """An agent that is killed in the middle leaves nobody who goes on trying."""
    path = bundle_of(tmp_path / "m.walt", extra=ENDLESS)
    agent = os.fork()
    if agent == 0:
        TRIAL(path)
        os._exit(1)
    children = Path(f"/proc/{agent}/task/{agent}/children")
    wait_for(lambda: bool(children.read_text()), 20)
    child = int(children.read_text().split()[0])
    wait_for(lambda: "walt_edge.update.trial" in Path(f"/proc/{child}/cmdline").read_text(), 20)
    wait_for(lambda: Path(f"/proc/{child}/oom_score_adj").read_text().strip() == "1000", 30)
    os.kill(agent, 9)
    os.waitpid(agent, 0)
    wait_for(lambda: not Path(f"/proc/{child}").exists(), 20)


MEASURED = Measured(sha256="0" * 64, latency_ms_p50=40.0, latency_ms_p99=90.0, memory_mb=70.0)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ([Limits()], ""),
        ([Limits(latency_ms=90, memory_mb=70)], ""),
        ([Limits(latency_ms=89), Limits(latency_ms=1000)], r"90 ms a picture here \(p99\), allowed 89 ms"),
        ([Limits(), Limits(latency_ms=50)], "allowed 50 ms"),
        ([Limits(memory_mb=60.5)], "70 MB here, allowed 60.5 MB"),
    ],
)
def test_the_strictest_limit_holds(limits: list[Limits], words: str) -> None:
    if not words:
        check_limits(MEASURED, *limits)
        return
    with pytest.raises(RefusedError, match=words):
        check_limits(MEASURED, *limits)


GROWS_AND_SHRINKS = """
from walt_edge.update.trial import resident_mb

before_mb = resident_mb()
held = bytearray(b"x") * 50_000_000
print(resident_mb() - before_mb)
del held
print(resident_mb() - before_mb)
"""


def test_memory_is_seen_to_grow_and_shrink() -> None:
    # In a process of its own: what other tests have left running here allocates and frees as it likes.
    done = subprocess.run([sys.executable, "-c", GROWS_AND_SHRINKS], check=True, capture_output=True, text=True)
    held_mb, freed_mb = map(float, done.stdout.split())
    assert held_mb > 45
    assert freed_mb < 25
