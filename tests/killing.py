"""Kills a piece of work at every step that it makes on the disk."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink", "os.rmdir"}


@contextmanager
def flushed() -> Iterator[list[str]]:
    """What was brought to the disk in the block, by the path that it had then, in order."""
    paths: list[str] = []
    fsync = os.fsync

    def note(handle: int) -> None:
        paths.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    with mock.patch("os.fsync", note):
        yield paths


def kill_at_every_step(prepare: Callable[[], Callable[[], object]], most: int = 200) -> Iterator[int]:
    """Yields after the work was killed (SIGKILL) before its first, second ... step on the disk, until it is done.

    Args:
        prepare: Makes a fresh start and gives the work to do.
        most: Fails if the work has more steps.

    Yields:
        The number of the step before which it was killed.
    """
    # A killed process loses nothing that the kernel has taken; waiting for the disk would only take time.
    with mock.patch("os.fsync"):
        yield from _kill_at_every_step(prepare, most)


def _kill_at_every_step(prepare: Callable[[], Callable[[], object]], most: int) -> Iterator[int]:
    for step in range(1, most):
        work = prepare()
        child = os.fork()
        if child == 0:
            _work_until(work, step)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            yield step
            continue
        assert os.WEXITSTATUS(status) == 0, "the work failed before it was killed"
        assert step > 1, "the work makes no step"
        return
    raise AssertionError(f"more than {most} steps")


def _work_until(work: Callable[[], object], step: int) -> None:
    left = [step]

    def count(event: str, args: tuple[object, ...]) -> None:
        if event in _STEPS:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    status = 1
    try:
        sys.addaudithook(count)
        work()
        status = 0
    finally:
        os._exit(status)
