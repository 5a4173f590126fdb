"""`walt-edge run` as a person starts it: one clear line where something is wrong, an orderly end where nothing is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from tests.broker import HOST, Broker, free_port
from tests.fakes.home import ScriptedHome
from tests.material import ROOT
from tests.waiting import wait_for
from walt_edge.config import Home
from walt_edge.contract.messages import Status, Telemetry
from walt_edge.rtsp_server import RtspServer
from walt_edge.spool.spool import Spool

RUN = [sys.executable, "-c", "from walt_edge.cli import main; main()", "run"]
WARM_UP_FRAMES = 130


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of stills with one block that passes: enough for a plate."""
    folder = tmp_path_factory.mktemp("street")
    background = cv2.GaussianBlur(
        np.random.default_rng(1).integers(60, 190, (120, 160, 3), dtype=np.uint8), (0, 0), 2
    )
    for n in range(150):
        picture = background.copy()
        x = 2 * n - 40
        picture[60:90, max(0, x) : max(0, min(160, x + 40))] = (40, 40, 200)
        cv2.imwrite(str(folder / f"{n:04d}.png"), picture)
    return folder


def agent(*words: object, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    command = [*RUN, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, check=False)


@contextmanager
def running_agent(*words: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*RUN, *map(str, words)], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def states(home: ScriptedHome) -> list[str]:
    return [msgspec.json.decode(message.payload, type=Status).state for message in home.on("status")]


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in ended.stderr
    return ended.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "code", "line"),
    [
        ({"--broker": "nowhere:port"}, 2, "broker 'nowhere:port' is not HOST:PORT"),
        ({"--rtsp": "/absent/video.mp4"}, 1, "/absent/video.mp4 does not exist"),
        ({"--rtsp": "http://camera/stream"}, 1, "only rtsp:// and rtsps://"),
        ({"--rtsp": f"rtsp://user:secret@{HOST}:1/x"}, 1, f"rtsp://user:***@{HOST}:1/x"),
        ({"--home": "/dev/null/home"}, 1, "cannot write in /dev/null/home"),
        ({"--site": "a/b"}, 2, "--site: site: 'a/b' is not a name"),
        ({"--ca": "/absent.pem"}, 2, "no such file: /absent.pem"),
        ({"--journal": "/dev/null/journal"}, 1, "cannot write the journal"),
        ({"--detector": "/absent.onnx"}, 1, "/absent.onnx"),
        ({"--frames": "0"}, 2, "0 is not 1 or more"),
        ({"--updates": f"http://{HOST}:1"}, 2, "--updates needs --trust FILE at the first start"),
        ({"--updates": "home.local"}, 2, "is no http:// or https:// URL"),
        ({"--updates": f"http://{HOST}:1", "--trust": "/absent.json"}, 2, "no such file: /absent.json"),
        ({"--trust": "root.json"}, 2, "need --updates URL"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    tmp_path: Path, street: Path, changes: dict[str, str], code: int, line: str
) -> None:
    options = {"--rtsp": str(street), "--home": str(tmp_path / "home"), "--broker": f"{HOST}:{free_port()}"} | changes
    ended = agent(*(word for pair in options.items() for word in pair))
    assert ended.returncode == code, ended.stderr
    assert line in last_line(ended)
    assert "secret" not in ended.stderr


def test_a_disk_that_takes_no_models_does_not_end_the_agent(tmp_path: Path, street: Path) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(b"{}")
    (tmp_path / "updates").write_bytes(b"")
    words = ("--rtsp", street, "--home", tmp_path, "--broker", f"{HOST}:{free_port()}", "--drain-s", 0)
    ended = agent(*words, "--updates", f"http://{HOST}:1", "--trust", root, "--frames", 3)
    assert ended.returncode == 0, ended.stderr
    assert "watching without models from home" in ended.stderr
    assert "watched 3 of" in ended.stderr  # the uplink may have the last word


def test_a_second_agent_on_the_same_folder_is_told(tmp_path: Path, street: Path) -> None:
    with Home(tmp_path):
        ended = agent("--rtsp", street, "--home", tmp_path, "--broker", f"{HOST}:{free_port()}")
    assert ended.returncode == 1
    assert "another agent is using" in last_line(ended)


def test_without_a_broker_it_watches_and_spools_and_the_next_start_sends(tmp_path: Path, street: Path) -> None:
    words = ("--rtsp", street, "--home", tmp_path, "--drain-s", 0.2)
    ended = agent(*words, "--broker", f"{HOST}:{free_port()}")
    assert ended.returncode == 0, ended.stderr
    assert "no connection to the broker" in ended.stderr
    with Spool(tmp_path) as spool:
        before = spool.counts()
    assert before.accepted == before.depth > 0
    with Broker.start(tmp_path) as broker, ScriptedHome(broker) as home:
        ended = agent(*words[:-1], 20, "--broker", broker.address, "--frames", 1)
        assert ended.returncode == 0, ended.stderr
        assert home.received.total() == before.accepted
    with Spool(tmp_path) as spool:
        assert spool.counts().acked == before.accepted


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_ends_in_order(tmp_path: Path, street: Path, asked: signal.Signals) -> None:
    with Broker.start(tmp_path) as broker, ScriptedHome(broker) as home, RtspServer(street, loop=True) as server:
        words = ("--rtsp", server.url, "--home", tmp_path / "home", "--broker", broker.address, "--telemetry-s", 0.5)
        with running_agent(*words) as process:
            wait_for(lambda: home.on("telemetry"), 30, "for telemetry")
            process.send_signal(asked)
            assert process.wait(20) == 0
        wait_for(lambda: states(home) == ["online", "offline"])
        telemetry = msgspec.json.decode(home.on("telemetry")[-1].payload, type=Telemetry)
        assert telemetry.frames_processed > 0
        assert telemetry.spool.accepted == telemetry.spool.acked + telemetry.spool.depth
    Home(tmp_path / "home").close()


def test_a_full_disk_does_not_end_the_agent(tmp_path: Path, street: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        with Home(disk) as home, Spool(disk):
            home.device()
        with (disk / "ballast").open("wb") as ballast:
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            # Room for SQLite's shared memory (32 KiB), and hardly more.
            ballast.write(b"\0" * (free - 40960))
        ended = agent("--rtsp", street, "--home", disk, "--broker", f"{HOST}:{free_port()}", "--drain-s", 0)
        assert ended.returncode == 0, ended.stderr
        assert "no space to spool" in ended.stderr
        assert "watched 150 of 150 frames" in ended.stderr  # the selector may say last that it cannot write either
        assert "Traceback" not in ended.stderr
    finally:
        subprocess.run(["umount", disk], check=True)
