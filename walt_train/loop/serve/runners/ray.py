"""Heavy programs as jobs of a Ray cluster that shares the home folder, under the same path on every machine.

A job's id is made of what it is for, so that a worker that was killed finds the job that it had submitted: the
cluster refuses a second one of that id. A program that failed gets another id with the next attempt. While the
cluster is away a job counts as running, until the cluster tells otherwise or has been silent for long.

The cluster's head needs Ray's job server (`pip install 'ray[default]'`), and its machines `walt-train` and
`walt-export` on their PATH; here only HTTP is spoken.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import urllib3

from walt_edge.contract.errors import UsageError
from walt_train.loop.children import StationError
from walt_train.loop.serve.runners.local import LocalRunner
from walt_train.loop.serve.runners.runner import Running, Work

LOGGER = logging.getLogger(__name__)
_TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)
_ASK_EVERY_S: Final = 1.0
_PATIENCE_S: Final = 600.0
_MOST_BYTES: Final = 64 << 20
_SAID: Final = 300
_END_BYTES: Final = 64 << 10
_OPEN: Final = ("PENDING", "RUNNING")
_NEVER_STARTED: Final = -1


class RayRunner:
    """Runs what is heavy on a cluster, the rest here.

    Args:
        address: Of the job server, `http://HOST:8265`.
        home: The shared folder; names this home's jobs among others'.
        gpus: Of the cluster, for each job.
        here: Runs the rest.
        token_file: Holds the cluster's token, where it asks for one: whoever has it may run anything there.
        patience_s: How long a cluster may be silent before its jobs count as failed.

    Raises:
        UsageError: It is no address.
    """

    def __init__(
        self,
        address: str,
        home: Path,
        gpus: int = 0,
        here: LocalRunner | None = None,
        token_file: Path | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        if not address.startswith(("http://", "https://")):
            raise UsageError(f"--ray {address}: give the job server's address, as in http://HEAD:8265")
        self._server = _Server(address.rstrip("/"), _token_in(token_file))
        self._prefix = f"walt-{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:10]}-"
        self._gpus = gpus
        self._here = here or LocalRunner()
        self._patience_s = patience_s

    def start(self, work: Work) -> Running:
        """Submits a job, or finds it; raises StationError where the cluster cannot be reached or does not take it."""
        if not work.is_heavy:
            return self._here.start(work)
        name = self._name(work)
        known = self._server.job(name)
        if known is None:
            self._submit(name, work)
            known = {"status": "PENDING", "metadata": {"log": str(work.log)}}
        else:
            LOGGER.info("%s of %s generation %d: job %s is found again", work.title, *work.owner, name)
        return _Job(self._server, name, work, known, self._patience_s)

    def sweep(self, is_wanted: Callable[[str, int], bool]) -> list[str]:
        """Stops this home's jobs of generations that nobody wants any more; returns lines for people.

        Raises:
            StationError: The cluster cannot be reached.
        """
        lines = []
        for job in self._open_jobs():
            name, owner = str(job["submission_id"]), job["metadata"]
            camera, number = str(owner.get("camera", "")), str(owner.get("number", ""))
            if number.isdecimal() and not is_wanted(camera, int(number)):
                self._server.stop(name)
                lines.append(f"{camera} generation {number}: its job {name} is stopped, since it ended")
        return lines

    def _open_jobs(self) -> list[dict[str, Any]]:
        """This home's jobs that wait or run; each has metadata."""
        return [
            job | {"metadata": job.get("metadata") or {}}
            for job in self._server.jobs()
            if str(job.get("submission_id") or "").startswith(self._prefix) and job.get("status") in _OPEN
        ]

    def _name(self, work: Work) -> str:
        camera, number = work.owner
        digest = hashlib.sha256("\0".join((camera, str(number), work.key)).encode()).hexdigest()[:20]
        return f"{self._prefix}{digest}"

    def _submit(self, name: str, work: Work) -> None:
        camera, number = work.owner
        # One that was given up while the cluster was silent may be at work all the same: never two in one folder.
        for job in self._open_jobs():
            if (job["metadata"].get("camera"), job["metadata"].get("number")) == (camera, str(number)):
                self._server.stop(str(job["submission_id"]))
                raise StationError(f"{work.title}: an earlier job of it is still at work and was asked to stop")
        log = shlex.quote(str(work.log))
        self._server.submit(
            {
                "submission_id": name,
                "entrypoint": f"{shlex.join(work.words)} > {log} 2>&1",
                "entrypoint_num_cpus": 1,
                **({"entrypoint_num_gpus": self._gpus} if self._gpus else {}),
                "metadata": {"camera": camera, "number": str(number), "title": work.title, "log": str(work.log)},
            }
        )
        LOGGER.info("%s of %s generation %d: submitted as job %s", work.title, camera, number, name)


class _Job:
    """A job that was submitted, by us or by a worker before us."""

    def __init__(self, server: _Server, name: str, work: Work, known: dict[str, Any], patience_s: float) -> None:
        self._server = server
        self._name = name
        self._title = work.title
        self._patience_s = patience_s
        self._known = known
        self._asked_s = 0.0
        self._heard_s = time.monotonic()
        self._lost = ""
        told = Path(str((known.get("metadata") or {}).get("log") or work.log))
        # Whoever may submit a job there says what stands in it: no file but a log of ours is read for it.
        self._log = told if told.parent == work.log.parent and not told.is_symlink() else work.log

    @property
    def log(self) -> Path:
        return self._log

    @property
    def running(self) -> bool:
        if self._lost or self._known.get("status") not in _OPEN:
            return False
        if time.monotonic() - self._asked_s >= _ASK_EVERY_S:
            self._ask()
        return not self._lost and self._known.get("status") in _OPEN

    @property
    def status(self) -> int | None:
        if self.running:
            return None
        if self._known.get("status") == "SUCCEEDED":
            return 0
        return int(self._known.get("driver_exit_code") or _NEVER_STARTED)

    def _ask(self) -> None:
        self._asked_s = time.monotonic()
        try:
            known = self._server.job(self._name)
        except StationError as error:
            silent_s = time.monotonic() - self._heard_s
            if silent_s > self._patience_s:
                self._lost = f"the cluster is silent for {silent_s:.0f} s ({error})"
            return
        self._heard_s = time.monotonic()
        if known is None:
            self._lost = f"the cluster does not know job {self._name} any more; was it restarted?"
        else:
            self._known = known

    def leave(self, *, is_over: bool) -> None:
        if is_over and self._known.get("status") in _OPEN:
            # Whom it does not reach now is stopped by the next sweep.
            with contextlib.suppress(StationError):
                self._server.stop(self._name)

    def failure(self) -> StationError:
        words = self._lost or self._last_words()
        where = f"status {self.status}" if self.status != _NEVER_STARTED else str(self._known.get("status", "lost"))
        return StationError(f"{self._title}: job {self._name} ended with {where}: {words} (log: {self._log})")

    def _last_words(self) -> str:
        said = ""
        with contextlib.suppress(OSError), self._log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _END_BYTES))
            said = file.read(_END_BYTES).decode(errors="replace")
        lines = [
            line.strip() for line in (said or str(self._known.get("message") or "")).splitlines() if line.strip()
        ]
        return lines[-1][:_SAID] if lines else "it said nothing"


class _Server:
    """Ray's job server, by its documented REST interface."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)

    def job(self, name: str) -> dict[str, Any] | None:
        status, found = self._ask("GET", f"/api/jobs/{name}")
        return None if status == 404 else _checked(found, dict, self._address)

    def jobs(self) -> list[dict[str, Any]]:
        _, found = self._ask("GET", "/api/jobs/")
        return [one for one in _checked(found, list, self._address) if isinstance(one, dict)]

    def submit(self, body: dict[str, Any]) -> None:
        try:
            self._ask("POST", "/api/jobs/", body)
        except StationError:
            # It may have arrived although its answer did not, or another worker was faster.
            if self.job(str(body["submission_id"])) is None:
                raise

    def stop(self, name: str) -> None:
        self._ask("POST", f"/api/jobs/{name}/stop")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(
                method,
                f"{self._address}{path}",
                body=data,
                headers=self._headers,
                preload_content=False,
                redirect=False,
            )
            with answer:
                content = answer.read(_MOST_BYTES + 1)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StationError(
                f"Ray at {self._address} does not answer ({type(error).__name__}): start its head, or mend --ray"
            ) from error
        if answer.status in (401, 403):
            raise StationError(
                f"Ray at {self._address} does not know our token: give the cluster's as --ray-token FILE"
            )
        if answer.status == 404 and method == "GET":
            return 404, None
        if answer.status != 200:
            lines = [line.strip() for line in content.decode(errors="replace").splitlines() if len(line.strip()) > 1]
            said = lines[-1][:_SAID] if lines else ""
            raise StationError(f"Ray at {self._address} refused {method} {path}: status {answer.status}, {said}")
        return 200, _decoded(content, self._address)


def _token_in(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the token in {path}: give the file of `ray get-auth-token`") from error
    if not token.isascii() or not token.isprintable() or not token:
        raise UsageError(f"{path} holds no token: give the file of `ray get-auth-token`")
    return token


def _decoded(content: bytes, address: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise StationError(f"{address} is no job server of Ray: it answers no JSON; mend --ray") from error


def _checked(found: Any, kind: type, address: str) -> Any:
    if not isinstance(found, kind):
        raise StationError(f"{address} is no job server of Ray: found {type(found).__name__}; mend --ray")
    return found
