"""Files that are there whole or not at all, over a kill and a loss of power. One place knows how."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePath

from walt_edge.contract.errors import UsageError, WaltError


def write_whole(path: Path, data: bytes) -> Path:
    """Writes beside, as `.NAME.partial`, and gives the file its name when all of it is on the disk; returns `path`.

    Raises:
        OSError: The disk is full or cannot be written; what was there before still is.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        return put_in_place(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def write_private(path: Path, data: bytes) -> Path:
    """As `write_whole`, and never readable by others than the owner, not even for a moment."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return put_in_place(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def put_in_place(partial: Path, path: Path) -> Path:
    """Flushes a file that is written, gives it its name, and flushes the name; returns `path`."""
    flush(partial)
    partial.replace(path)
    flush(path.parent)
    return path


def flush(path: Path) -> None:
    """Brings a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(folder: Path) -> None:
    """Removes what a kill left half written."""
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


def stays_below(name: str) -> bool:
    """Whether a path that a file names cannot lead out of the folder that it is joined to."""
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def check_out(path: Path) -> None:
    """Looks before long work whether its file can be written, and makes the folder.

    Raises:
        UsageError: `--out` is a folder.
        WaltError: Its folder cannot be made.
    """
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder: give a file's name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WaltError(f"cannot make {path.parent}: {error.strerror}; give another --out") from error
