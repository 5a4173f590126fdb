"""Child processes that end with their parent, however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from walt_edge.contract.errors import WaltError
from walt_edge.contract.processes import end_with

_GRACE_S = 15.0
_POLL_S = 0.05


class StationError(WaltError):
    """A child process did not do its work; the text begins with its name."""


class Station:
    """One child process, in a process group of its own, with a log of its own.

    Args:
        name: How people are told of it.
        words: Its command line.
        log: Where its output goes.
    """

    def __init__(self, name: str, words: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        parent = os.getpid()
        try:
            log.unlink(missing_ok=True)
            # What is appended goes on at the end when somebody shortens it.
            with log.open("ab") as file:
                self._process = subprocess.Popen(
                    list(words),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    preexec_fn=lambda: end_with(parent),
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
        except OSError as error:
            raise StationError(f"{name}: cannot start {words[0]} ({error.strerror})") from error

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def said(self) -> str:
        """Everything it has written."""
        return self.log.read_text(errors="replace")

    def last_words(self) -> str:
        """The last line it wrote, for a message of one line."""
        lines = [line.strip() for line in self.said().splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    def wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Waits while the station runs.

        Raises:
            StationError: It ended, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            if not self.running:
                raise self.failure()
            if time.monotonic() > deadline:
                raise StationError(f"{self.name}: {what} took more than {timeout_s:.0f} s; see {self.log}")
            time.sleep(_POLL_S)

    def ask_to_stop(self) -> None:
        """SIGTERM to the process; it may finish its work."""
        if self.running:
            self._process.terminate()

    def wait(self, timeout_s: float) -> int:
        """Waits for its end; returns the exit status.

        Raises:
            StationError: It did not end in time.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise StationError(f"{self.name}: did not end within {timeout_s:.0f} s; see {self.log}") from error

    def end(self) -> None:
        """Ends it and whatever it started; harmless when it has ended."""
        if self.running:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def failure(self) -> StationError:
        """What to tell people when it ended and should not have."""
        return StationError(f"{self.name}: ended with status {self.status}: {self.last_words()} (log: {self.log})")


class Stations:
    """All children; leaving the context ends them, the newest first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[Station] = []

    def start(self, name: str, words: Sequence[str]) -> Station:
        """Starts a station; its log is `logs/NAME.log`."""
        station = Station(name, words, self._logs / f"{name}.log")
        self._started.append(station)
        return station

    def __enter__(self) -> Stations:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not leave half of them running.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for station in reversed(self._started):
                station.end()
        finally:
            signal.signal(signal.SIGINT, before)


def program(name: str) -> str:
    """The console script of this very installation, beside the interpreter; a system program otherwise.

    Raises:
        StationError: It is not installed.
    """
    beside = Path(sys.executable).with_name(name)
    if beside.is_file():
        return str(beside)
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise StationError(f"{name} is not installed: apt-get install --no-install-recommends {name}")
    return found
