"""A home as deploy/ sets it up: its certificates by deploy/pki/setup.py, its broker by deploy/mosquitto/run.sh."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.broker import HOST, free_port
from tests.material import ROOT
from tests.waiting import wait_for
from tests.walt_train.loop.identity.home import House
from walt_train.loop.identity.authority import Authority
from walt_train.loop.identity.mosquitto import Address, BrokerFiles

DEPLOY = ROOT / "deploy"
SETUP = DEPLOY / "pki" / "setup.py"
RUN = DEPLOY / "mosquitto" / "run.sh"


def setup(*words: object) -> subprocess.CompletedProcess[str]:
    """Runs deploy/pki/setup.py."""
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("WALT_")}
    return subprocess.run(
        [sys.executable, str(SETUP), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
        env=hidden,
    )


def set_up(folder: Path, *words: object) -> House:
    """A home whose broker listens on free loopback ports."""
    ports = ("--port", free_port(), "--workers-port", free_port(), "--enroll-port", free_port())
    where = ("--home", folder, "--host", HOST, "--listen", HOST, "--user", getpass.getuser())
    made = setup(*where, *ports, *words)
    assert made.returncode == 0, made.stderr
    authority = Authority(folder / "identity")
    address = Address.read(authority.folder)
    return House(folder, authority, address, BrokerFiles(authority, address))


@contextmanager
def running(house: House, every_s: float = 0.2) -> Iterator[subprocess.Popen[bytes]]:
    """The broker by run.sh, in a process group of its own; both doors are open."""
    log = house.folder / "broker.log"
    with log.open("ab") as file:
        broker = subprocess.Popen(
            ["sh", str(RUN), str(house.files.folder), str(every_s)], stdout=file, stderr=file, process_group=0
        )
    try:
        for port in (house.address.port, house.address.workers_port):
            wait_for(lambda port=port: broker.poll() is not None or _is_open(port), what=str(port))  # type: ignore[misc]
        assert broker.poll() is None, log.read_text()
        yield broker
    finally:
        with suppress(ProcessLookupError):
            os.killpg(broker.pid, signal.SIGTERM)
        broker.wait(30)


def _is_open(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
