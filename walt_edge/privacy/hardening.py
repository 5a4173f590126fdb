"""What a process with raw frames in its memory does so that the memory stays there.

No core dump: a crash would write the frames of the last second to a disk, in clear. The limit alone is not enough,
since the kernel does not hold it against a dump that is piped to a handler; a process that is not dumpable gives none
to anybody, and lets nobody but root attach a debugger or read its memory, its own user included. The limit is
inherited by children; the other has to be set by each anew, since `exec` resets it.

As long as it is not dumpable, `/proc/self/fd`, `/proc/self/environ` and what can be written below `/proc/self` belong
to root: an agent of an ordinary user must not use them (it needs none). What is beyond a process: pages swapped out
(give the machine encrypted swap or none), hibernation, and what the kernel and root do.
"""

from __future__ import annotations

import ctypes
import os
import resource

from walt_edge.contract.errors import WaltError

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_LIBC = ctypes.CDLL(None, use_errno=True)


class HardeningError(WaltError):
    """The kernel does not let the process keep its memory to itself."""


def harden() -> None:
    """Makes this process leave no core dump; to be called before the first frame, in every process that sees some.

    Raises:
        HardeningError: The kernel refused.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 or is_dumpable():
        raise HardeningError(
            f"core dumps cannot be turned off ({os.strerror(ctypes.get_errno())}), and would hold raw frames: "
            "allow prctl in the sandbox"
        )


def is_dumpable() -> bool:
    """Whether a crash of this process may be dumped, or its memory be read by its own user."""
    return int(_LIBC.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)) != 0
