"""The demo: its stations end with it, failures name the station, and a short one plays to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from tests.walt_train.loop.device import wait_until
from walt_edge.contract.errors import UsageError
from walt_train.loop.children import Station, StationError, Stations, program
from walt_train.loop.demo.broker import configuration
from walt_train.loop.demo.films import film_of
from walt_train.loop.demo.play import MARKER, clear
from walt_train.loop.demo.progress import JournalTail

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
# It ignores being asked, and has a child of its own.
STUBBORN = [
    "/bin/sh",
    "-c",
    "trap '' TERM; sleep 600 & echo $!; while true; do sleep 600; done",
]


def demo(out: Path, *words: str) -> subprocess.Popen[str]:
    line = [program("walt-loop"), "demo", "--out", str(out), *words]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def write_stills(folder: Path, frames: int, moving: bool = True) -> Path:
    """A box that slides over a textured ground."""
    folder.mkdir()
    ground = np.random.default_rng(0).integers(90, 130, (240, 320, 3), dtype=np.uint8)
    for index in range(frames):
        bgr = ground.copy()
        if moving:
            left = 5 + 4 * index % 260
            bgr[120:170, left : left + 60] = (40, 40, 200)
        cv2.imwrite(str(folder / f"{index:04d}.jpg"), bgr)
    return folder


def processes_about(path: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(path) in " ".join(process.info["cmdline"] or [])
    ]


# Children


def test_a_station_says_how_it_ended(tmp_path: Path) -> None:
    with Stations(tmp_path) as stations:
        station = stations.start(
            "camera", [sys.executable, "-c", "print('first\\nno such film'); raise SystemExit(3)"]
        )
        with pytest.raises(StationError, match="camera: ended with status 3: no such film") as failure:
            station.wait_for(lambda: False, 10, "playing")
    assert "\n" not in str(failure.value)


def test_a_station_that_takes_too_long_is_named(tmp_path: Path) -> None:
    with Stations(tmp_path) as stations:
        station = stations.start("agent", SLEEPER)
        with pytest.raises(StationError, match=r"agent: starting took more than 0 s; see .*agent.log"):
            station.wait_for(lambda: False, 0, "starting")
        with pytest.raises(StationError, match="agent: did not end within 0 s"):
            station.wait(0)


def test_a_station_that_cannot_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(StationError, match=r"broker: cannot start /no/such \(No such file"):
        Station("broker", ["/no/such"], tmp_path / "broker.log")


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StationError, match="no-such-program is not installed: apt-get install"):
        program("no-such-program")


def test_stations_end_with_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("walt_train.loop.children._GRACE_S", 0.3)
    with Stations(tmp_path) as stations:
        sleeper, stubborn = stations.start("a", SLEEPER), stations.start("b", STUBBORN)
        wait_until(lambda: "up" in sleeper.said() and bool(stubborn.said().strip()), 10, "both run")
        grandchild = psutil.Process(int(stubborn.said()))
    assert not sleeper.running
    assert not stubborn.running
    wait_until(
        lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE, 5, "its child ends"
    )


def test_stations_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from walt_train.loop.children import Stations\n"
        "with Stations(Path(sys.argv[1])) as stations:\n"
        "    stations.start('child', ['sleep', sys.argv[2]]); print('up', flush=True); time.sleep(600)\n"
    )
    name = str(600 + os.getpid())
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"
    [child] = psutil.Process(parent.pid).children()
    parent.kill()
    parent.communicate()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5, "the child ends")


# Preparation


def test_only_a_demos_own_folder_is_cleared(tmp_path: Path) -> None:
    out = tmp_path / "out"
    clear(out)
    (out / "store").mkdir()
    (out / "report.html").write_text("old")
    clear(out)
    assert sorted(path.name for path in out.iterdir()) == [MARKER, "logs"]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="holds something that is no demo of ours"):
        clear(tmp_path / "precious")
    with pytest.raises(UsageError, match=r"thesis.txt is a file"):
        clear(tmp_path / "precious" / "thesis.txt")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "x"


def test_films_are_looked_at(tmp_path: Path) -> None:
    film = film_of(write_stills(tmp_path / "stills", 3))
    assert (film.frames, film.fps, film.resolution_wh) == (3, 10.0, (320, 240))
    with pytest.raises(UsageError, match="does not exist"):
        film_of(tmp_path / "none.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no stills"):
        film_of(tmp_path / "empty")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UsageError, match="not a video that can be read"):
        film_of(tmp_path / "text.mp4")


def test_the_broker_is_ours_alone() -> None:
    assert "listener 1999 127.0.0.1" in configuration(1999).splitlines()


def test_the_journal_is_followed_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    tail = JournalTail(path)
    assert tail.poll() == -1
    path.write_bytes(b'{"frame": 4, "sightings": []}\n{"frame": 5, "sig')
    assert tail.poll() == 4
    with path.open("ab") as file:
        file.write(b'htings": []}\n{"frame": null}\n')
    assert tail.poll() == 5


# The whole


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--video", "no-such.mp4"), "no-such.mp4 does not exist: give a video file or a folder of stills"),
        (("--frames", "0"), "--frames and --watch-s must be positive"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    process = demo(tmp_path / "out", *words)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 2
    assert log.splitlines()[-1] == f"walt-loop: {says}"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_no_child_outlives_the_demo(tmp_path: Path, number: int, status: int) -> None:
    stills, out = write_stills(tmp_path / "stills", 300), tmp_path / "out"
    process = demo(out, "--watch-only", "--video", str(stills))
    journal = out / "journal" / "first" / "journal.jsonl"
    wait_until(lambda: journal.is_file() and journal.stat().st_size > 0, 60, "the agent watches")
    names = {name for child in processes_about(out) for name in child.cmdline()}
    assert any(name.endswith("mosquitto") for name in names)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    wait_until(lambda: not processes_about(tmp_path), 10, "every process of the demo ends")


def test_a_station_that_dies_is_named(tmp_path: Path) -> None:
    stills, out = write_stills(tmp_path / "stills", 300), tmp_path / "out"
    process = demo(out, "--watch-only", "--video", str(stills))
    journal = out / "journal" / "first" / "journal.jsonl"
    wait_until(lambda: journal.is_file() and journal.stat().st_size > 0, 60, "the agent watches")
    [broker] = [child for child in processes_about(out) if "mosquitto.conf" in " ".join(child.cmdline())]
    broker.kill()
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert log.splitlines()[-1].startswith("walt-loop: broker: ended with status -9: ")
    wait_until(lambda: not processes_about(tmp_path), 10, "every process of the demo ends")


def test_a_camera_before_which_nothing_moves(tmp_path: Path) -> None:
    stills, out = write_stills(tmp_path / "stills", 30, moving=False), tmp_path / "out"
    process = demo(out, "--watch-only", "--video", str(stills))
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "watcher: saw 0 objects in" in log.splitlines()[-1]
    assert "A station did not do its work" in (out / "report.html").read_text()


def test_a_short_demo_plays_to_its_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / MARKER).touch()
    (out / "report.html").write_text("an older demo")
    start_s = time.monotonic()
    process = demo(out, "--watch-only", "--frames", "300", "--seed", "7")
    said, log = process.communicate(timeout=240)
    assert process.returncode == 0, log
    assert time.monotonic() - start_s < 240
    report = json.loads((out / "report.json").read_text())
    ledger = report["ledger"]
    assert all(gate["passed"] for gate in report["gates"])
    assert ledger["envelopes_accepted"] == ledger["envelopes_acknowledged"] >= 2
    assert ledger["frames_sent"] == 300
    assert ledger["missing"] == 0
    assert report["truth"]["crops"] == ledger["crops_stored"]
    assert report["truth"]["true_objects"] > 5
    assert "an older demo" not in (out / "report.html").read_text()
    assert (out / "overview.png").is_file()
    assert "truly whole" in said
