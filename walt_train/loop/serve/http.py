"""What home serves by HTTP(S): the update repository, for reading only, and how the loop is doing.

Everything that an agent trusts in the repository is signed, so that whoever stands between can withhold it and not
forge it. Files whose names begin with a dot are not served.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType

import msgspec
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from starlette.staticfiles import StaticFiles

from walt_edge.contract.errors import UsageError
from walt_train.loop.serve.jobs import Generation
from walt_train.loop.serve.triggers.lookout import Wait

LOGGER = logging.getLogger(__name__)
_READ = ["GET", "HEAD"]
_START_S = 20.0


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Where to listen.

    Attributes:
        host: Name or address; other machines reach it only if it is not a loopback address.
        port: TCP port, 0 = any free one.
        tls_cert: Certificate chain's file; HTTPS if given.
        tls_key: Its key's file.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None


def parse_listen(text: str) -> tuple[str, int]:
    """Splits HOST:PORT, port 0 allowed; an IPv6 address stands in brackets."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"'{text}' is not HOST:PORT, as in 127.0.0.1:8080 (port 0: any free one)")
    return host, int(port)


def make_app(
    repository: Path, generations: Callable[[], list[Generation]], waiting: Callable[[], list[Wait]] = list
) -> FastAPI:
    """The application.

    Args:
        repository: What is served below `/`; made if absent.
        generations: The table, read anew for every request.
        waiting: What cameras wait for; likewise.
    """
    repository.mkdir(parents=True, exist_ok=True)
    app = FastAPI(title="walt-loop", docs_url=None, redoc_url=None, openapi_url=None)

    def health() -> Response:
        return Response("ok\n", media_type="text/plain")

    def overview() -> Response:
        found = generations()
        cameras = sorted({generation.camera for generation in found})
        return _json({"cameras": cameras, "generations": found})

    def waited() -> Response:
        return _json({"waiting": waiting()})

    app.add_api_route("/healthz", health, methods=_READ, response_class=Response)
    for path, answer in (("/api/v1/generations", overview), ("/api/v1/waiting", waited)):
        app.add_api_route(
            path, answer, methods=_READ, response_class=Response, dependencies=[Depends(_of_this_machine)]
        )
    app.mount("/", _Files(directory=repository))
    return app


def _of_this_machine(request: Request) -> None:
    """Devices need the repository alone: names of cameras are for who is here, and for who signs in at the web."""
    host = request.client.host if request.client is not None else ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = False
    if not is_here:
        raise HTTPException(403, "asked from another machine: walt-loop web has it for people who sign in")


class HttpServer:
    """The application on a socket, in a thread; a context manager.

    Args:
        app: What to serve.
        config: Where to listen.

    Raises:
        UsageError: The address or the certificate cannot be used.
    """

    def __init__(self, app: FastAPI, config: HttpConfig) -> None:
        self._listening = _listen(config)
        settings = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
        )
        try:
            settings.load()
        except (OSError, ssl.SSLError) as error:
            self._listening.close()
            raise UsageError(
                f"cannot use the certificate {config.tls_cert} and key {config.tls_key}: {error}"
            ) from error
        self._config = config
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        host, port = self._listening.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if config.tls_cert else 'http'}://{name}:{port}/"

    def reread_certificate(self) -> None:
        """Shows what the certificate's files hold now, from the next connection on; raises OSError."""
        context, config = self._server.config.ssl, self._config
        if context is not None and config.tls_cert is not None:
            context.load_cert_chain(config.tls_cert, config.tls_key)

    def _run(self) -> None:
        self._server.run(sockets=[self._listening])

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        # Whoever downloads slowly must not keep us from ending.
        self._thread.join(2.0)
        self._server.force_exit = True
        self._thread.join(_START_S)
        self._listening.close()


class _Files(StaticFiles):
    """Files by name; no listing, nothing hidden, nothing kept by caches without asking."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        if any(part.startswith(".") for part in Path(path).parts):
            return "", None
        return super().lookup_path(path)

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response: Response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        # A proxy that gave an old timestamp.json would hold releases back.
        response.headers["cache-control"] = "no-cache"
        return response


def _listen(config: HttpConfig) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address, family=family)
        # asyncio does so only for sockets that name their protocol; without it every answer takes 40 ms longer.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror}; give another --http"
        ) from error
    return listening


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
