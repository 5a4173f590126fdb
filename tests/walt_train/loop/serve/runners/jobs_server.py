"""What a Ray job server answers, over real HTTP, and what goes wrong with one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class JobsServer:
    """The server's state; change it between requests.

    Attributes:
        jobs: By id, as the server tells of them.
        submitted: Bodies that were taken, in order.
        broken: What to answer instead: a status and a body; None: all is well.
        loses_answer: Takes the next job and hangs up.
    """

    address: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    broken: tuple[int, str] | None = None
    loses_answer: bool = False

    def submit(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["submission_id"]
        if name in self.jobs:
            return 400, f"ValueError: Job with submission_id {name} already exists."
        self.submitted.append(body)
        self.jobs[name] = {"submission_id": name, "status": "RUNNING", "metadata": body["metadata"]}
        return 200, {"submission_id": name}

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        name = path.removeprefix("/api/jobs/").removesuffix("/stop")
        if path == "/api/jobs/":
            return self.submit(body) if method == "POST" else (200, list(self.jobs.values()))
        if path.endswith("/stop"):
            self.stopped.append(name)
            self.jobs[name]["status"] = "STOPPED"
            return 200, {"stopped": True}
        return (200, self.jobs[name]) if name in self.jobs else (404, f"Job {name} does not exist")


@contextmanager
def jobs_server() -> Iterator[JobsServer]:
    state = JobsServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._do("GET")

        def do_POST(self) -> None:
            self._do("POST")

        def _do(self, method: str) -> None:
            size = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            status, found = state.broken or state.answer(method, self.path, body)
            if method == "POST" and state.loses_answer:
                state.loses_answer = False
                return
            data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
