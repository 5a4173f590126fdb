"""Whether something failed for want of space on a disk: that is waited for, and is nobody's fault."""

from __future__ import annotations

import contextlib
import errno
import shutil
from pathlib import Path
from typing import Final

LEAST_BYTES: Final = 64 << 20
"""With less than this, whatever fails is believed to fail for it."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_WORDS: Final = ("No space left on device", "Disk quota exceeded")


def wants_space(error: BaseException, home: Path) -> bool:
    """Whether an error came of a full disk: it says so, what caused it does, or the disk of `home` is full."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in _FULL:
            return True
        found = found.__cause__
    return any(words in str(error) for words in _WORDS) or _free_bytes(home) < LEAST_BYTES


def _free_bytes(home: Path) -> int:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(home).free
    return LEAST_BYTES
