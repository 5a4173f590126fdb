"""A real Mosquitto for tests: a child process on a free loopback port, which may be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

HOST = "127.0.0.1"
_START_S = 10.0


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Broker:
    """A running broker.

    Attributes:
        folder: Holds `mosquitto.conf`, `mosquitto.log` and, with persistence, `mosquitto.db`.
        host: Loopback.
        port: Stays the same over `restart`.
    """

    folder: Path
    host: str
    port: int
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        tmp_path: Path,
        port: int | None = None,
        persistence: bool = False,
        max_queued_messages: int = 1000,
        extra: Sequence[str] = (),
    ) -> Broker:
        """Starts Mosquitto below `tmp_path` and waits until it accepts connections.

        With `persistence`, sessions and queues are written at every change, so that they outlive `kill`. `extra` are
        further lines of its configuration, after the listener's.
        """
        folder = tmp_path / "mosquitto"
        folder.mkdir(parents=True, exist_ok=True)
        broker = cls(folder, HOST, port or free_port())
        broker._configure(persistence, max_queued_messages, extra)
        broker.restart()
        return broker

    @property
    def address(self) -> str:
        """HOST:PORT, as the commands take it."""
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> str:
        """What the broker wrote so far."""
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def restart(self) -> None:
        """Starts it again on the same port; ends it first if it runs."""
        self.stop()
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_mosquitto(), "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=subprocess.STDOUT
            )
        self._wait_until_open()

    def kill(self) -> None:
        """SIGKILL: as a loss of power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and packets, as far as the kernel does, and answers none, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, and waits; does nothing if it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _configure(self, persistence: bool, max_queued_messages: int, extra: Sequence[str]) -> None:
        lines = [
            f"listener {self.port} {self.host}",
            *extra,
            "allow_anonymous true",
            f"max_queued_messages {max_queued_messages}",
            "log_dest stdout",
            "log_type error",
            "log_type warning",
            "log_type notice",
        ]
        if os.geteuid() == 0:
            lines.append("user root")
        if persistence:
            lines += [
                "persistence true",
                f"persistence_location {self.folder}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def _wait_until_open(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"mosquitto ended at once: {self.log}")
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise RuntimeError(f"mosquitto does not listen after {_START_S} s: {self.log}")


def _mosquitto() -> str:
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    return program
