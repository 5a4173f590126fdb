"""Logs of programs that are kept for a while: long enough to tell what happened, and no longer."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

KEPT_BYTES = 256 << 10
"""Of a log when its program has ended: its first quarter tells how it began, the rest how it ended."""

RUNNING_BYTES = 16 << 20
"""Of a log while its program writes."""


def shorten(log: Path, most: int = KEPT_BYTES) -> bool:
    """Cuts the middle out of a log that is too long, in place, so that its program may go on at its end.

    What is written at the very moment may be lost. A log that is not there, or cannot be written, stays as it is.

    Returns:
        Whether it was too long.
    """
    with contextlib.suppress(OSError), log.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= most:
            return False
        begin = file.read(most // 4)
        file.seek(size - (most - most // 4))
        end = file.read(most)
        cut = f"\n... {size - len(begin) - len(end)} bytes are left out ...\n".encode()
        file.seek(0)
        file.write(begin + cut + end)
        file.truncate()
        return True
    return False
