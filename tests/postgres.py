"""A real PostgreSQL for tests: a cluster of its own on a free loopback port, which may be killed and started again.

PostgreSQL refuses to run as root; root's tests run it as the user `postgres`, in a folder that this user can reach.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.broker import HOST, free_port

_START_S = 60.0
_STOP_S = 30.0
_PASSWORD = "s3cret/p@ss"
_NUMBERS = itertools.count(1)
# Durable as at home: what is committed outlives `kill`. Small, so that several fit beside one another.
_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "warning",
}


@dataclass
class Postgres:
    """A running cluster.

    Attributes:
        folder: Holds `data/` and `postgres.log`; removed by `stop`.
        port: Stays the same over `restart`.
    """

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None
    _user: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, tmp_path: Path | None = None) -> Postgres:
        """Makes a cluster and starts it; skips the test where PostgreSQL is not installed.

        Its folder lies below `tmp_path`, unless we are root: below root's folders `postgres` can reach nothing.
        """
        programs = _programs()
        folder = Path(tempfile.mkdtemp(prefix="walt-postgres-", dir=None if os.geteuid() == 0 else tmp_path))
        cluster = cls(folder, free_port(), _user=_unprivileged(folder))
        password = folder / "password"
        password.write_text(_PASSWORD)
        password.chmod(0o644)
        words = ["initdb", "-D", str(folder / "data"), "-U", "walt", "-A", "scram-sha-256", "--no-sync"]
        words += ["-E", "UTF8", "--locale=C", f"--pwfile={password}"]
        made = subprocess.run([*cluster._user, programs / words[0], *words[1:]], capture_output=True, cwd=folder)
        if made.returncode:
            shutil.rmtree(folder)
            raise RuntimeError(f"initdb failed: {made.stderr.decode(errors='replace')}")
        cluster.restart()
        return cluster

    @property
    def url(self) -> str:
        """The cluster's first database, as `StoreConfig` takes it; there is a password in it."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """One database."""
        quoted = _PASSWORD.replace("/", "%2F").replace("@", "%40")
        return f"postgresql://walt:{quoted}@{HOST}:{self.port}/{database}"

    @property
    def password(self) -> str:
        """What nobody may ever read."""
        return _PASSWORD

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "postgres.log").read_text(errors="replace")

    def database(self) -> str:
        """Makes an empty database and returns its address."""
        name = f"walt_{next(_NUMBERS)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url_of(name)

    def restart(self) -> None:
        """Starts it on the same port and the same data; ends it first if it runs. Returns when it answers."""
        self._end(signal.SIGINT)
        words = ["-D", str(self.folder / "data"), "-p", str(self.port)]
        for name, value in _SETTINGS.items():
            words += ["-c", f"{name}={value}"]
        # Should the tests be killed, it ends with them.
        alone = [*(self._user or ["setpriv"]), "--pdeathsig", "INT"]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*alone, _programs() / "postgres", *words], stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
            )
        self._wait_until_open()

    def kill(self) -> None:
        """SIGKILL to every one of its processes at once: as a loss of power."""
        if self._process is None:
            return
        postmaster = psutil.Process(self._process.pid)
        # Stopped first, or it would see its children die and start others.
        postmaster.suspend()
        everybody = [postmaster, *postmaster.children(recursive=True)]
        for process in everybody:
            process.kill()
        self._process.wait()
        psutil.wait_procs(everybody, timeout=_STOP_S)
        self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and nobody answers, until `thaw`."""
        for process in self._everybody():
            process.suspend()

    def thaw(self) -> None:
        """SIGCONT."""
        for process in self._everybody():
            process.resume()

    def stop(self) -> None:
        """Ends it at once and removes its folder."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _everybody(self) -> list[psutil.Process]:
        assert self._process is not None
        postmaster = psutil.Process(self._process.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def _end(self, with_: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(with_)
        try:
            self._process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def _wait_until_open(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"postgres ended at once: {self.log}")
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError(f"postgres does not answer after {_START_S} s: {self.log}")


def _programs() -> Path:
    """The folder of initdb and postgres; Debian keeps them out of the PATH, one folder for each version."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not versions:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return versions[-1].parent


def _unprivileged(folder: Path) -> list[str]:
    """What goes before a command so that it does not run as root; the folder becomes that user's."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
