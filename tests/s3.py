"""A server that speaks S3, for tests: moto in a child process, which may be killed, frozen and started again.

It keeps what it holds in memory: after `kill` it is empty. WALT_TEST_S3 (`s3://bucket/prefix?endpoint=...`, keys as
every S3 client finds them) lets the contract tests run against any other S3.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from tests.broker import HOST, free_port

REAL = "WALT_TEST_S3"
BUCKET = "walt"
_START_S = 60.0
_KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "s3cret/testing", "AWS_DEFAULT_REGION": "us-east-1"}
_SERVE = """
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(sys.argv[1], int(sys.argv[2]), verbose=False)
server.start()
threading.Event().wait()
"""


@dataclass
class S3:
    """A running server with one bucket.

    Attributes:
        folder: Holds `s3.log`.
        port: Stays the same over `restart`.
    """

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, tmp_path: Path) -> S3:
        """Starts it and makes the bucket."""
        server = cls(tmp_path, free_port())
        server.restart()
        return server

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def url(self, prefix: str = "") -> str:
        """A place for blobs of its own, as `StoreConfig` takes it."""
        return f"s3://{BUCKET}/{prefix or uuid.uuid4().hex}?endpoint={self.endpoint}"

    def restart(self) -> None:
        """Starts it, empty, on the same port; ends it first if it runs."""
        self.kill()
        # Should the tests be killed, it ends with them.
        words = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", _SERVE, HOST, str(self.port)]
        with (self.folder / "s3.log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                urllib.request.urlopen(f"{self.endpoint}/moto-api/data.json", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "s3.log").read_text()
                time.sleep(0.05)
        boto3.client("s3", endpoint_url=self.endpoint).create_bucket(Bucket=BUCKET)

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and answers none, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; does nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> S3:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def set_keys(patch: pytest.MonkeyPatch) -> None:
    """Gives this process, and those that it starts, keys that the server takes, and none of this machine's."""
    for name, value in _KEYS.items():
        patch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_CONFIG_FILE", os.devnull)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def real_url() -> str | None:
    """A place of its own at the S3 that the environment names, or None."""
    url = os.environ.get(REAL)
    if not url:
        return None
    place, mark, query = url.partition("?")
    return f"{place.rstrip('/')}/{uuid.uuid4().hex}{mark}{query}"
