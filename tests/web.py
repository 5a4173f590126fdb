"""A real web server for tests: a folder on a free loopback port, which may be made to misbehave."""

from __future__ import annotations

import functools
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.broker import HOST

Answer = Callable[[SimpleHTTPRequestHandler], None]


@dataclass(eq=False)
class Web:
    """Serves `folder`; a path that ends in a key of `answers` is answered by what stands there.

    Attributes:
        folder: What is served; may be exchanged while it runs.
        tls: Makes it https.
        answers: Ends of paths, and what answers them.
        asked: Paths, in the order in which they were asked for.
        logins: Every `Authorization` that came, or None.
    """

    folder: Path
    tls: ssl.SSLContext | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    logins: set[str | None] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer((HOST, 0), functools.partial(_Handler, self))
        self._server.daemon_threads = True
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://{HOST}:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Ends the server; whoever asks now is refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, web: Web, *args: object) -> None:
        self._web = web
        super().__init__(*args, directory=str(web.folder))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._web.asked.append(self.path)
        self._web.logins.add(self.headers.get("Authorization"))
        self.path = urlsplit(self.path).path  # A proxy is asked for whole addresses.
        answer = next((one for end, one in self._web.answers.items() if self.path.endswith(end)), None)
        try:
            if answer is None:
                super().do_GET()
            else:
                answer(self)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The client had enough, as it should.

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        pass


def endless(handler: SimpleHTTPRequestHandler) -> None:
    """Sends zeros for as long as somebody reads them."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"0" * 65536)


def failing(handler: SimpleHTTPRequestHandler) -> None:
    """The server is in trouble."""
    handler.send_error(503)


def cut_short(handler: SimpleHTTPRequestHandler) -> None:
    """The connection breaks in the middle of a file."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(b"0" * 1000)


def dripping(handler: SimpleHTTPRequestHandler) -> None:
    """Sends a byte now and then, so that no read ever times out."""
    handler.send_response(200)
    handler.end_headers()
    pause = threading.Event()
    while not pause.wait(0.02):
        handler.wfile.write(b"0")
        handler.wfile.flush()
