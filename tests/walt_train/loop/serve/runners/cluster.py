"""A real Ray head with its job server, in a folder of its own; nothing of it is left behind."""

from __future__ import annotations

import contextlib
import os
import secrets
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
def ray_head() -> Iterator[tuple[str, Path]]:
    """The address of its job server and its token's file; skips the test where Ray or that server is missing."""
    for package in ("ray", "aiohttp_cors", "opencensus", "smart_open", "virtualenv"):
        pytest.importorskip(package, reason="pip install 'ray[default]'")
    # Sockets lie below it, and their paths may not be long.
    folder = Path(tempfile.mkdtemp(prefix="walt-ray-"))
    address = f"http://{HOST}:{(port := free_port())}"
    words = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={free_port()}"]
    words += [f"--dashboard-port={port}", "--include-dashboard=true", f"--temp-dir={folder}", "--num-cpus=2"]
    words += ["--disable-usage-stats", f"--node-ip-address={HOST}", f"--dashboard-agent-listen-port={free_port()}"]
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | mode
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(words, stdout=log, stderr=log, env=env, start_new_session=True)
    try:
        _wait_until_open(head, address, folder)
        yield address, token
    finally:
        _end(folder)
        head.wait(_END_S)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_open(head: subprocess.Popen[bytes], address: str, folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    pool = urllib3.PoolManager(retries=False, timeout=5.0)
    while time.monotonic() < deadline:
        assert head.poll() is None, (folder / "head.log").read_text()
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            # Whoever has no token is turned away, by a server that is there.
            if pool.request("GET", f"{address}/api/jobs/").status in (401, 403):
                return
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
