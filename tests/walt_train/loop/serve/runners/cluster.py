"""A real Ray head with its job server, in a folder of its own; nothing of it is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import urllib3

from tests.broker import HOST, free_port

_START_S = 120.0
_END_S = 20.0


@contextmanager
def ray_head() -> Iterator[str]:
    """The address of its job server; skips the test where Ray or its job server is not installed."""
    for package in ("ray", "aiohttp_cors", "opencensus", "smart_open", "virtualenv"):
        pytest.importorskip(package, reason="pip install 'ray[default]'")
    # Sockets lie below it, and their paths may not be long.
    folder = Path(tempfile.mkdtemp(prefix="walt-ray-"))
    address = f"http://{HOST}:{(port := free_port())}"
    words = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={free_port()}"]
    words += [f"--dashboard-port={port}", "--include-dashboard=true", f"--temp-dir={folder}", "--num-cpus=2"]
    words += ["--disable-usage-stats", f"--node-ip-address={HOST}", f"--dashboard-agent-listen-port={free_port()}"]
    env = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(words, stdout=log, stderr=log, env=env, start_new_session=True)
    try:
        _wait_until_open(head, address, folder)
        yield address
    finally:
        _end(folder)
        head.wait(_END_S)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_open(head: subprocess.Popen[bytes], address: str, folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    pool = urllib3.PoolManager(retries=False, timeout=5.0)
    while time.monotonic() < deadline:
        assert head.poll() is None, (folder / "head.log").read_text()
        try:
            # The agent that starts jobs comes up after the server.
            if pool.request("GET", f"{address}/api/jobs/").status == 200:
                return
        except urllib3.exceptions.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"no job server after {_START_S} s: {(folder / 'head.log').read_text()}")


def _end(folder: Path) -> None:
    """Kills whatever names the folder, and what that started, until nothing is left."""
    deadline = time.monotonic() + _END_S
    while time.monotonic() < deadline:
        found: set[psutil.Process] = set()
        for process in psutil.process_iter():
            try:
                if any(str(folder) in word for word in process.cmdline()):
                    found |= {process, *process.children(recursive=True)}
            except psutil.Error:
                continue
        found.discard(psutil.Process())
        if not found:
            return
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=5.0)
