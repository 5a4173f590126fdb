"""The server: uvicorn in a thread of its own, with bounds on connections and on how long one may dawdle."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from walt_edge.contract.errors import UsageError
from walt_train.loop.web.access.gate import HEAD_BYTES_MAX
from walt_train.loop.web.settings import WebSettings

LOGGER = logging.getLogger(__name__)
_BACKLOG: Final = 128
_START_S: Final = 30.0
_STOP_S: Final = 20.0
_FORCE_S: Final = 2.0
_SWITCH_S: Final = 0.0005
_RENEW_TICKS: Final = 100  # of a tenth of a second


@dataclass(frozen=True, slots=True)
class Bounds:
    """What connections may take.

    Attributes:
        connections: At once.
        an_address: Of them from one address; a proxy's connections are everybody's, and only counted together.
        request_s: For a whole request, from the connection or the last answer on; also ends idle connections.
        answer_s: For an answer, until the client has taken it.
    """

    connections: int = 256
    an_address: int = 64
    request_s: float = 20.0
    answer_s: float = 300.0


class WebServer:
    """Serves an application while it is entered; a context manager.

    Args:
        app: The application.
        settings: Where.
        bounds: Of connections.

    Raises:
        UsageError: The address or the certificate cannot be used.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings, bounds: Bounds | None = None) -> None:
        self._certificate = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        self._socket = _listen(settings)
        self._server = _Server(_config(app, settings, bounds or Bounds(), self._certificate), self._certificate)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        host, port = self._socket.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if self._certificate else 'http'}://{name}:{port}/"

    def __enter__(self) -> WebServer:
        """Returns once requests are answered."""
        # SQLite lets go of the interpreter's lock with every row, and whoever takes it keeps it for as long as this.
        self._switch_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        self._thread.start()
        if not self._server.is_up.wait(_START_S) or not self._thread.is_alive():
            raise UsageError("the dashboard did not start; the log tells why")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends, also where somebody downloads slowly."""
        sys.setswitchinterval(self._switch_s)
        self._server.should_exit = True
        self._thread.join(_FORCE_S)
        self._server.force_exit = True
        self._thread.join(_STOP_S)
        self._socket.close()

    @property
    def is_running(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._server.is_up.set()


class Certificate:
    """A certificate as its files have it now: renewed files are taken over while it is served.

    Args:
        cert: PEM: the chain.
        key: PEM: its key; None where it lies in `cert`.

    Attributes:
        context: For connections from now on.

    Raises:
        UsageError: They cannot be used.
    """

    def __init__(self, cert: Path, key: Path | None) -> None:
        self._cert, self._key = cert, key
        self._stamp = self._stamped()
        self.context = self._read()

    def renew(self) -> None:
        """Takes over files that have changed; those that cannot be used leave everything as it was, and are told."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        # Noted first: what is wrong is told once, and what is only half written changes again.
        self._stamp = stamp
        try:
            self.context = self._read()
        except UsageError as error:
            LOGGER.error("the dashboard keeps its former certificate: %s", error)
        else:
            LOGGER.info("the dashboard has taken over its renewed certificate")

    def _stamped(self) -> list[tuple[int, int] | None]:
        return [_stamp(path) for path in (self._cert, self._key) if path is not None]

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Without a password OpenSSL would ask for one at the terminal, and wait.
            context.load_cert_chain(self._cert, self._key, "")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot use the certificate {self._cert} and key {self._key or self._cert}: {error}; give PEM files "
                "that belong together, the key without a password"
            ) from error
        return context


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _listen(settings: WebSettings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address, family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:  # Unicode: a label that no host name can have.
        raise UsageError(f"cannot listen on {host}:{port}: {error}; give another --http") from error
    # asyncio does so only for sockets that name their protocol; without it every answer takes 40 ms longer.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _config(app: ASGIApp, settings: WebSettings, bounds: Bounds, certificate: Certificate | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        # Made by calling it; a class is what it is mostly given.
        http=cast(type[_Protocol], partial(_Protocol, _Terms(bounds, bool(settings.proxies), certificate))),
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        timeout_graceful_shutdown=1,
    )


@dataclass(frozen=True, slots=True)
class _Terms:
    bounds: Bounds
    has_proxy: bool
    certificate: Certificate | None


class _Protocol(H11Protocol):
    """One connection, turned away where there are too many; it counts, and may dawdle no longer, from its first byte.

    With a certificate it speaks TLS first, by itself: the event loop would not tell us of it before that is over.
    """

    def __init__(self, terms: _Terms, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._terms = terms
        self._early: bytes | None = None
        self._phase: tuple[RequestResponseCycle | None, bool] = (None, False)
        self._since_s = time.monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        bounds = self._terms.bounds
        address = self.client[0] if self.client else ""
        peers = Counter(one.client[0] for one in self.connections if isinstance(one, _Protocol) and one.client)
        is_crowd = peers[address] > bounds.an_address and not self._terms.has_proxy
        if len(self.connections) > bounds.connections or is_crowd:
            transport.abort()
        elif self._terms.certificate is not None:
            self._early = b""
            self._handshake = self.loop.create_task(self._shake_hands(transport, self._terms.certificate))

    def data_received(self, data: bytes) -> None:
        # What comes with the handshake's last message is there before we know that it is over.
        if self._early is None:
            super().data_received(data)
        else:
            self._early += data

    def drop_if_dawdling(self, now_s: float) -> None:
        """Ends it if the client has been in one phase for too long: sending a request, or taking an answer."""
        is_answering = self.transport.get_write_buffer_size() > 0 or (
            self.cycle is not None and not self.cycle.response_complete
        )
        if self._phase[0] is not self.cycle or self._phase[1] != is_answering:
            self._phase, self._since_s = (self.cycle, is_answering), now_s
        bounds = self._terms.bounds
        if now_s - self._since_s > (bounds.answer_s if is_answering else bounds.request_s):
            self.transport.abort()

    async def _shake_hands(self, transport: asyncio.Transport, certificate: Certificate) -> None:
        try:
            secured = await self.loop.start_tls(transport, self, certificate.context, server_side=True)
        except OSError as error:  # An ssl.SSLError is one.
            LOGGER.debug("no TLS with %s: %s", self.client, error)
            secured = None
        if secured is None or transport.is_closing():
            transport.abort()
            self.connections.discard(self)
            return
        super().connection_made(secured)
        early, self._early = self._early, None
        if early:
            self.data_received(early)


class _Server(uvicorn.Server):
    """Looks after its connections twice a second, and after its certificate."""

    def __init__(self, config: uvicorn.Config, certificate: Certificate | None) -> None:
        super().__init__(config)
        self.is_up = threading.Event()
        self._certificate = certificate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % 5 == 0:
            now_s = time.monotonic()
            for one in list(self.server_state.connections):
                if isinstance(one, _Protocol):
                    one.drop_if_dawdling(now_s)
        if counter % _RENEW_TICKS == 0 and self._certificate is not None:
            self._certificate.renew()
        return await super().on_tick(counter)
