"""What the agent takes of the device: memory and processor time of this process and all that it started."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from walt_edge.web.status import ProcessFigures

_KEPT_S: Final = 5.0
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")


class ProcessMeter:
    """Reads /proc when asked, at most every few seconds: adding up a large process's pages takes milliseconds.

    Args:
        kept_s: So long an answer is given again.
    """

    def __init__(self, kept_s: float = _KEPT_S) -> None:
        self._kept_s = kept_s
        self._read_s = float("-inf")
        self._told = ProcessFigures()

    def read(self) -> ProcessFigures:
        """The figures; a process that has ended meanwhile is left out, with the time that it took."""
        now_s = time.monotonic()
        passed_s = now_s - self._read_s
        if passed_s < self._kept_s:
            return self._told
        family = family_of(os.getpid())
        cpu_s = sum(_cpu_s(pid) for pid in family)
        # Less than before, if a child has ended: then nobody knows.
        cores = max(0.0, cpu_s - self._told.cpu_s) / passed_s if self._told.processes else 0.0
        self._told = ProcessFigures(
            processes=len(family), pss_bytes=sum(_pss_bytes(pid) for pid in family), cpu_s=cpu_s, cpu_cores=cores
        )
        self._read_s = now_s
        return self._told


def family_of(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for one in found:  # Grows while it is gone through.
        for task in _read(_PROC / str(one) / "task", "children"):
            found += [int(child) for child in task.split()]
    return found


def _read(folder: Path, name: str) -> list[str]:
    try:
        return [(task / name).read_text() for task in folder.iterdir()]
    except OSError:
        return []


def _pss_bytes(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return _own_bytes(pid)
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _own_bytes(pid: int) -> int:
    """What is resident and nobody else's: all that a child lets its own user see which keeps its memory to itself."""
    try:
        resident, shared = (_PROC / str(pid) / "statm").read_text().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * _PAGE_BYTES


def _cpu_s(pid: int) -> float:
    try:
        # The command's name stands in brackets and may hold anything.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
