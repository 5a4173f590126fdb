"""Takes passwords out of this process's command line, which everybody on the machine may read (`ps`, /proc).

Linux serves `/proc/PID/cmdline` from the process's own memory, so that what we write there is what others read. It
is done as soon as Python runs, before anything else is imported: first every word that may hold a password is covered
whole, then it is shown again without. A moment remains between the start and then, which is why a configuration file
is the better place for a password.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable

_STAT = "/proc/self/stat"
_ARG_START, _ARG_END = 48, 49  # fields of proc(5), counted from 1
_BEFORE_STATE = 3  # what follows the program's name, which may hold blanks and brackets, is field 3
_SAYS_SECRET = re.compile(rb"://[^/\s]*@|pass|pwd|token|secret|key|auth|sig|bearer|walt1", re.IGNORECASE)


def hide_passwords() -> bool:
    """Rewrites the command line that others see; True if it holds no password now.

    Never raises: where the platform does not allow it, the agent runs all the same.
    """
    place = _place()
    before = ctypes.string_at(*place) if place else b""
    says_secret = _SAYS_SECRET.search(before) is not None
    if place and says_secret:
        covered = [b"*" * len(word) if _SAYS_SECRET.search(word) else word for word in before.split(b"\0")]
        ctypes.memmove(place[0], b"\0".join(covered), len(before))
    # Only now: importing it takes longer than everything before.
    from walt_edge.contract.redaction import redact

    sys.argv[:] = [redact(word) for word in sys.argv]
    if place and says_secret:
        after = b"\0".join(_hidden(word, redact) for word in before.split(b"\0"))
        # Shorter is filled with zeros; the last byte must be one, or Linux takes the environment for a title.
        after = after[: len(before) - 1].ljust(len(before), b"\0")
        ctypes.memmove(place[0], after, len(before))
    return place is not None


def _place() -> tuple[int, int] | None:
    """Where the command line lies in this process's memory, and its length; None where the platform hides that."""
    try:
        with open(_STAT, encoding="utf-8", errors="replace") as stat:  # noqa: PTH123 (pathlib takes its time)
            fields = stat.read().rpartition(")")[2].split()
        start, end = (int(fields[number - _BEFORE_STATE]) for number in (_ARG_START, _ARG_END))
    except (OSError, ValueError, IndexError):
        return None
    return (start, end - start) if 0 < start < end else None


def _hidden(word: bytes, redact: Callable[[str], str]) -> bytes:
    text = word.decode(errors="surrogateescape")
    shown = redact(text)
    return word if shown == text else shown.encode(errors="surrogateescape")
