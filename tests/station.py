"""The stations of the way home as child processes, for tests that run and kill them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.material import ROOT


@dataclass(eq=False)
class Station:
    """A child process that may be killed and started again.

    Attributes:
        words: What follows the interpreter on its command line.
        log: Where its standard error goes, appended.
        talks: Whether its standard input and output are pipes.
    """

    words: list[str]
    log: Path
    talks: bool = False
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        pipe = subprocess.PIPE if self.talks else subprocess.DEVNULL
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.words], stdin=pipe, stdout=pipe, stderr=log, text=True, cwd=ROOT
            )

    def kill(self) -> str:
        """SIGKILL; returns what it had written and nobody had read."""
        self.process.kill()
        return self._end()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.kill()
        return self.process.returncode

    def _end(self) -> str:
        left = ""
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        if self.process.stdout is not None and not self.process.stdout.closed:
            left = self.process.stdout.read()
            self.process.stdout.close()
        self.process.wait(20)
        return left


def script(module: str) -> list[str]:
    """The command line of a console script, installed or not."""
    return ["-c", f"from {module} import main; main()"]


@contextmanager
def ingest(broker: str, folder: Path) -> Iterator[Station]:
    """A running `walt-loop ingest` with its store in `folder/store`."""
    words = [*script("walt_train.loop.cli"), "ingest", "--broker", broker, "--store", str(folder / "store")]
    station = Station([*words, "--expiry-s", "60"], folder / "ingest.log")
    try:
        yield station
    finally:
        station.kill()
