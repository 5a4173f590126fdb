"""Memory and processor time of this process and its children."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.waiting import wait_for
from walt_edge.web import processes
from walt_edge.web.processes import ProcessMeter, family_of

GRANDCHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import sys; sys.stdin.read()'])"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child of its own; both end with their input."""
    process = subprocess.Popen([sys.executable, "-c", GRANDCHILD], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def test_descendants_are_found(child: subprocess.Popen[bytes]) -> None:
    wait_for(lambda: len(family_of(child.pid)) == 2)
    mine = family_of(os.getpid())
    assert mine[0] == os.getpid()
    assert set(family_of(child.pid)) <= set(mine)


def test_memory_is_that_of_all_and_time_only_grows(child: subprocess.Popen[bytes]) -> None:
    wait_for(lambda: len(family_of(child.pid)) == 2)
    meter = ProcessMeter(kept_s=0.0)
    first = meter.read()
    assert first.processes >= 3
    everybody = [psutil.Process(pid).memory_full_info().pss for pid in family_of(os.getpid())]
    assert first.pss_bytes == pytest.approx(sum(everybody), rel=0.1)
    start_s = time.process_time()
    while time.process_time() - start_s < 0.2:
        pass
    later = meter.read()
    assert later.cpu_s >= first.cpu_s + 0.1
    assert later.cpu_cores > 0.05


def test_a_child_that_keeps_its_memory_to_itself_counts_by_what_is_its_own(child: subprocess.Popen[bytes]) -> None:
    own = psutil.Process(child.pid).memory_full_info().uss
    assert processes._own_bytes(child.pid) == pytest.approx(own, rel=0.25)
    assert processes._own_bytes(2**22 + 1) == 0, "there is no such process"


def test_an_answer_is_kept_for_a_while() -> None:
    meter = ProcessMeter()
    assert meter.read() is meter.read()


def test_a_process_that_has_ended_is_no_error() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert family_of(ended.pid) == [ended.pid]
