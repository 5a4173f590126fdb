"""Memory that was freed, but that the process still holds."""

from __future__ import annotations

import ctypes


def give_back_memory() -> None:
    """Gives what is free back to the system: called where much was, since it takes some milliseconds.

    With the general model that is 27 MB when it was opened (its file is read, widened and packed), and 70 MB when it
    gave way to another.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other libraries give back by themselves
    if trim is not None:
        trim(0)
