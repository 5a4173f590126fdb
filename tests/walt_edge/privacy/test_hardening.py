"""A crash leaves nothing behind, and the agent's parts work in a process that is closed to its own user."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from walt_edge.privacy.hardening import is_dumpable

_NOBODY = 65534
_CRASH = """
import os, resource, signal, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
if "hardened" in sys.argv:
    from walt_edge.privacy.hardening import harden
    harden()
os.kill(os.getpid(), int(sys.argv[1]))
"""
_LIVE = """
import mmap, os, subprocess, sys
from walt_edge.privacy.hardening import harden, is_dumpable
if int(sys.argv[1]):
    os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
harden()
memory = os.memfd_create("frames")
os.truncate(memory, 4096)
window = mmap.mmap(memory, 4096)
os.dup2(memory, 9)
words = ["/bin/sh", "-c", "printf frame >&9; ulimit -c"]
answer = subprocess.run(words, pass_fds=[9], capture_output=True, text=True)
print(window[:5].decode(), answer.stdout.strip())
print(is_dumpable(), os.stat("/proc/self/fd").st_uid, flush=True)
sys.stdin.read()
"""


def _crash(folder: Path, number: int, *words: str) -> tuple[int, bool]:
    """The signal that ended a process, and whether the kernel dumped it."""
    process = subprocess.Popen([sys.executable, "-c", _CRASH, str(number), *words], cwd=folder)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = status  # waited for here, since Popen does not tell of dumps
    return os.WTERMSIG(status), os.WCOREDUMP(status)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_dumps_nothing(tmp_path: Path, number: int) -> None:
    assert _crash(tmp_path, number, "hardened") == (number, False)
    assert list(tmp_path.iterdir()) == []


def test_a_crash_would_dump_otherwise(tmp_path: Path) -> None:
    """The test above can fail: the same process, not hardened, is dumped where the machine allows it."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("the hard limit of core dumps is 0 here")
    number, dumped = _crash(tmp_path, signal.SIGSEGV)
    assert number == signal.SIGSEGV
    if not dumped:
        pytest.skip("this machine's core_pattern takes no dump")


@pytest.mark.parametrize("user", [0, _NOBODY], ids=["as it is", "as an ordinary user"])
def test_frames_are_still_shared_with_the_decoder(user: int) -> None:
    if user and os.getuid() != 0:
        pytest.skip("only root can become another user; the other case is an ordinary user already")
    words = [sys.executable, "-c", _LIVE, str(user)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "frame 0\n", "children share memory, and inherit the limit"
        assert process.stdout.readline() == "False 0\n", "its own user cannot look into it"
        process.communicate("")
    assert process.returncode == 0


def test_a_process_is_dumpable_before() -> None:
    assert is_dumpable()
