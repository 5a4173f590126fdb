"""Processes in which a runtime may do its worst: the first that the kernel kills, humble, and gone with their parent.

A child prints its answer as one line of JSON, the last of its output.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from walt_edge.contract.processes import end_with
from walt_edge.update.errors import CancelledError, NotNowError, RefusedError

_LOOK_ROUND_S = 0.05
_NICE = 5
_FREE_SHARE = 0.8
_MEMINFO = Path("/proc/meminfo")


class ChildAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a child prints.

    Attributes:
        unfit: Why what it was given is no good; nothing if it is.
        lacking: What this machine lacks, for now.
    """

    unfit: str = ""
    lacking: str = ""


Answer = TypeVar("Answer", bound=ChildAnswer)


def ask_child(words: Sequence[str], kind: type[Answer], timeout_s: float, is_cancelled: Callable[[], bool]) -> Answer:
    """Runs a command to its end, which is heard whatever it is.

    Args:
        words: The command.
        kind: What it prints.
        timeout_s: Then it is killed.
        is_cancelled: Asked now and then.

    Raises:
        RefusedError: What it was given is unfit, ended it, or brought it to no end.
        NotNowError: It could not be started, or it lacked something.
        CancelledError: Not wanted any more.
    """
    returned, printed = _run(words, timeout_s, is_cancelled)
    if returned == -signal.SIGKILL:
        raise NotNowError("the process that tried it was killed: free some memory, or wish for a smaller one")
    if returned < 0:
        raise RefusedError(f"it ended the process that tried it ({signal.Signals(-returned).name})")
    try:
        answer = msgspec.json.decode((printed.splitlines() or [""])[-1].encode(), type=kind)
    except msgspec.DecodeError as error:
        raise RefusedError(f"the process that tried it ended with {returned} and without an answer") from error
    if answer.lacking:
        raise NotNowError(answer.lacking)
    if answer.unfit:
        raise RefusedError(answer.unfit)
    return answer


def _run(words: Sequence[str], timeout_s: float, is_cancelled: Callable[[], bool]) -> tuple[int, str]:
    """Its exit code, negative for a signal, and what it printed."""
    deadline_s = time.monotonic() + timeout_s
    try:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise NotNowError(f"no process to try it in can be started: {error.strerror}") from error
    with child:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    printed, _ = child.communicate(timeout=_LOOK_ROUND_S)
                    return child.returncode, printed
                if is_cancelled():
                    raise CancelledError("not wanted any more")
                if time.monotonic() > deadline_s:
                    raise RefusedError(f"it was tried for {timeout_s:g} s and came to no end")
        finally:
            child.kill()


def be_humble(parent: int) -> None:
    """This process goes first when memory is short, and leaves its parent the processor.

    Args:
        parent: Its process id; this one ends with it.
    """
    end_with(parent)
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bound_memory() -> None:
    """This process takes no more than is free now. Not for one that uses a GPU, whose driver reserves far more."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        available = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        most = int(_FREE_SHARE * int(available.split()[1]) * 1024)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
