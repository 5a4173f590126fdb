from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clipart import some_things, write_scene
from walt_edge.contract.errors import UsageError
from walt_train.clipart.settings import TRAINING
from walt_train.cluster import TaskError, Workers, map_tasks, ray_session
from walt_train.data.ahead import Composites, compose_to_disk
from walt_train.data.coco import CocoSamples

TASKS = 9


@pytest.fixture(scope="module")
def ray() -> Iterator[str]:
    """Ray with two processes, started once for this file; `ray_session` within it uses it."""
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    with ray_session(Workers.parse("ray:2")):
        yield "ray"


def cube(number: int) -> int:
    return number**3


def stumble(number: int) -> int:
    if number == 5:
        raise ValueError("five\nis not welcome")
    return number


def die(path: str) -> str:
    """Kills its worker the first time it is called for a path, and every time for one that says so."""
    if "always" in path or not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def stay(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    threading.Event().wait()


def test_workers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    words = "from tests.walt_train.test_cluster import map_tasks, stay; list(map_tasks(stay, {!r}, workers=2))"
    command = [sys.executable, "-c", words.format([str(tmp_path)] * 2)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as parent:
        _wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        parent.kill()
    _wait_until(lambda: not any(Path("/proc", path.name).exists() for path in tmp_path.iterdir()))


def _wait_until(true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s, "in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order(workers: int) -> None:
    assert list(map_tasks(cube, range(TASKS), workers=workers)) == [cube(n) for n in range(TASKS)]
    with pytest.raises(TaskError, match=r"^task 5: ValueError: five is not welcome$"):
        list(map_tasks(stumble, range(TASKS), workers=workers, name="task {}".format))


def test_ray_does_the_same(ray: str) -> None:
    assert list(map_tasks(cube, range(TASKS), workers=ray)) == [cube(n) for n in range(TASKS)]
    with pytest.raises(TaskError, match=r"^task 5: ValueError: five is not welcome$"):
        list(map_tasks(stumble, range(TASKS), workers=ray, name="task {}".format))


def test_a_worker_that_dies_is_replaced_or_told(ray: str, tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    assert list(map_tasks(die, [once], workers=ray)) == [once]
    with pytest.raises(TaskError, match=r"always'?: its worker died 3 times .*lack of memory"):
        list(map_tasks(die, [str(tmp_path / "always")], workers=ray))
    with pytest.raises(TaskError, match=r"always'?: a worker died at it or just before it"):
        list(map_tasks(die, [str(tmp_path / "always")], workers=2))


def contents(folder: Path) -> tuple[Any, list[bytes]]:
    samples = CocoSamples(folder)
    pixels = [samples.sample(0, index).image_bgr.tobytes() for index in range(len(samples))]
    return json.loads((folder / "annotations.json").read_text()), pixels


def test_composites_are_the_same_whoever_makes_them(ray: str, tmp_path: Path) -> None:
    seed = 3
    folder = write_scene(tmp_path / "clipart", some_things())
    wanted = Composites(folder, TASKS, seed, settings=TRAINING)
    found = []
    for name, workers in (("here", 0), ("two", 2), ("ray", ray)):
        assert list(compose_to_disk(wanted, tmp_path / name, {"seed": seed}, workers=workers)) == [
            *range(1, TASKS + 1)
        ]
        found.append(contents(tmp_path / name))
    assert found[0] == found[1] == found[2]
    assert len(found[0][1]) == TASKS
    other = Composites(folder, 1, seed + 1, settings=TRAINING).open().sample(0, 0).image_bgr
    assert not np.array_equal(np.frombuffer(found[0][1][0], np.uint8), other.ravel())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (0, Workers()),
        ("3", Workers("processes", 3)),
        ("ray", Workers("ray")),
        ("ray:2", Workers("ray", 2)),
        ("ray:10.0.0.5:6379", Workers("ray", 0, "10.0.0.5:6379")),
    ],
)
def test_who_works_is_said_in_a_word(text: str | int, found: Workers) -> None:
    assert Workers.parse(text) == found
    assert found.processes >= 1


@pytest.mark.parametrize("text", ["-1", "many", "ray:host", "2:3", ""])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"workers '{text}': give a number of processes, ray"):
        map_tasks(cube, [1], workers=text)


def test_missing_ray_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("walt_train.cluster.importlib.import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'walt-amodal\[cluster\]'"):
        map_tasks(cube, [1], workers="ray")
