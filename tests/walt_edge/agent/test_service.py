"""The agent as a service: ready, alive, reloading and stopping, as systemd sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.broker import HOST, free_port
from tests.material import ROOT
from tests.waiting import wait_for
from walt_edge.rtsp_server import RtspServer


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    picture = np.random.default_rng(1).integers(60, 190, (120, 160, 3), dtype=np.uint8)
    for n in range(20):
        cv2.imwrite(str(folder / f"{n:04d}.png"), picture)
    return folder


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.settimeout(60)
        yield one


def until(manager: socket.socket, line: str) -> list[str]:
    """All lines up to this one."""
    lines: list[str] = []
    while line not in lines:
        lines += manager.recv(4096).decode().splitlines()
    return lines


def test_its_life(tmp_path: Path, street: Path, manager: socket.socket) -> None:
    file, log = tmp_path / "edge.yaml", tmp_path / "log"
    with RtspServer(street, loop=True) as server, log.open("wb") as err:
        text = f"cameras: [{{url: '{server.url}'}}]\nbroker: {{address: '{HOST}:{free_port()}'}}\n"
        file.write_text(f"{text}log: {{level: INFO}}\n")
        environment = {**os.environ, "NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "600000"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.run_edge", "run", "--config", file, "--home", tmp_path / "home"],
            stderr=err,
            cwd=ROOT,
            env=environment,
        )
        try:
            assert "WATCHDOG=1" not in until(manager, "READY=1")
            until(manager, "WATCHDOG=1")
            file.write_text(f"{text}log: {{level: INFO, format: json}}\nhome: /elsewhere\nspool: {{quota_mb: 7}}\n")
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: "changed: log.format" in log.read_text(), 30)
            assert "needs a restart: spool.quota_mb" in log.read_text()  # --home goes before the file
            file.write_text("log: {level: LOUD}\n")
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: "the configuration stays as it was" in log.read_text(), 30)
            until(manager, "WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            until(manager, "STOPPING=1")
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    failed = [line for line in log.read_text().splitlines() if "Traceback" in line]
    assert failed == []
