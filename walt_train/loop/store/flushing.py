"""Brings a whole file system to the disk at once: one flush for a group of new files, whatever their number.

`syncfs` returns when everything that was written to the file system before, contents and names, is on the disk. It is
taken only where that is known to hold and where it tells of a disk that failed: ext4 and XFS, from Linux 5.8.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

_KNOWN: Final = {"ext4", "xfs"}
_FIRST_LINUX: Final = (5, 8)


class FileSystem:
    """The file system of a folder, all of which can be flushed.

    Args:
        folder: Any folder on it.
    """

    def __init__(self, folder: Path, syncfs: Callable[[int], int]) -> None:
        self._syncfs = syncfs
        # Open for as long as we write: an error that comes between two flushes is told to who was there before it.
        self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @classmethod
    def of(cls, folder: Path) -> FileSystem | None:
        """The folder's file system; None where it cannot be flushed as a whole."""
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        found = re.match(r"(\d+)\.(\d+)", platform.release()) if platform.system() == "Linux" else None
        if syncfs is None or found is None or (int(found[1]), int(found[2])) < _FIRST_LINUX:
            return None
        return cls(folder, syncfs) if _kind(folder) in _KNOWN else None

    def flush(self) -> None:
        """Returns when all that was written before is on the disk; raises OSError if some of it could not be."""
        if self._syncfs(self._handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Lets go of the folder."""
        os.close(self._handle)


def _kind(folder: Path) -> str:
    """The type of the file system that a folder lies on, or "" if the system does not tell."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return ""
    kinds = {line.partition(" - ")[2].split()[0] for line in mounts.splitlines() if line.split()[2] == number}
    return kinds.pop() if len(kinds) == 1 else ""
