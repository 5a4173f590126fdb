"""Files that are there whole or not at all, over a kill and a loss of power."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from walt_edge.contract.errors import WaltError


class BusyError(WaltError):
    """Somebody else is at work in the folder."""


def write_whole(path: Path, data: bytes) -> None:
    """Writes beside, flushes to the disk, renames, and flushes the name.

    Raises:
        OSError: The disk is full or cannot be written; what was there before still is.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(folder: Path) -> None:
    """Removes what a kill left half written."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


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
        raise BusyError(f"another publisher is at work in {what}: wait until it is done") from error
    try:
        yield
    finally:
        os.close(lock)
