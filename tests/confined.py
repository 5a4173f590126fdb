"""Runs a command under what the unit forbids, where no systemd runs: `python -m tests.confined UNIT COMMAND`.

The unit's system call filter is expanded by systemd's own tables and loaded by libseccomp; memory that is both
writable and executable is refused by the kernel (PR_SET_MDWE), new privileges and core files too. Exits with 77 and
a reason where one of these is not to be had.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

UNAVAILABLE = 77
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MDWE = 65
_MDWE_REFUSE_EXEC_GAIN = 1
_SCMP_ACT_ALLOW = 0x7FFF0000
_SCMP_ACT_ERRNO = 0x00050000


def values(unit: Path, key: str) -> list[str]:
    """The values of a key of a unit, line by line."""
    lines = (line.partition("=") for line in unit.read_text().splitlines() if not line.startswith("#"))
    return [value for name, _, value in lines if name == key]


def allowed_calls(unit: Path) -> set[str]:
    """The system calls that a unit's filter leaves, each line changing what those before it left."""
    allowed: set[str] = set()
    for line in values(unit, "SystemCallFilter"):
        calls = {call for word in line.removeprefix("~").split() for call in _expanded(word)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    # systemd always leaves what starting and ending a process takes.
    return allowed | _expanded("@default") | {"execve", "execveat"}


def _expanded(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", word], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.strip() for line in listed.splitlines()[1:]]
    return {call for line in lines if line and not line.startswith("#") for call in _expanded(line)}


def confine(unit: Path) -> None:
    """Gives up, in this process and all that it starts, what the unit forbids; raises OSError where it cannot."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(_SCMP_ACT_ERRNO | errno.EPERM))
    for name in sorted(allowed_calls(unit)):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others belong to other machines
            seccomp.seccomp_rule_add(rules, _SCMP_ACT_ALLOW, number, 0)
    if seccomp.seccomp_load(rules):
        raise OSError("seccomp_load")


def main() -> None:
    unit, *command = sys.argv[1:]
    try:
        confine(Path(unit))
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"cannot confine: {error}\n")
        sys.exit(UNAVAILABLE)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
