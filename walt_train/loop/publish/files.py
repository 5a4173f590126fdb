"""One at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from walt_edge.contract.errors import WaltError


class BusyError(WaltError):
    """Somebody else is at work in the folder."""


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Holds a lock file until the block, or the process, ends.

    Raises:
        BusyError: Another process holds it.
        OSError: It cannot be made.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise BusyError(f"another process is at work in {what}: wait until it is done") from error
    try:
        yield
    finally:
        os.close(lock)
