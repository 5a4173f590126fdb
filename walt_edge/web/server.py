"""The server: uvicorn in a thread of its own, with bounds on connections and on how long one may dawdle."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from walt_edge.web.app import make_app
from walt_edge.web.guard import HEAD_BYTES_MAX
from walt_edge.web.settings import WebError as WebError  # Users of the server catch it.
from walt_edge.web.settings import WebSettings, is_loopback
from walt_edge.web.status import AgentView
from walt_edge.web.tls import Certificate

LOG = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 64
CONNECTIONS_PER_ADDRESS: Final = 24
_BACKLOG: Final = 64
_START_S: Final = 30.0
_STOP_S: Final = 5.0
_FORCE_S: Final = 0.4
_RENEW_TICKS: Final = 100  # of a tenth of a second


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection may take.

    Attributes:
        head_s: To send a whole request, from its connection or its last answer on. Also ends idle connections.
        answer_s: To take an answer.
    """

    head_s: float = 8.0
    answer_s: float = 10.0


class WebServer:
    """Serves the page between `start` and `stop`; use as a context manager.

    Args:
        view: The agent.
        settings: Where, and to whom.
        patience: With slow peers.

    Raises:
        WebError: The certificate cannot be used.
    """

    def __init__(self, view: AgentView, settings: WebSettings, patience: Patience | None = None) -> None:
        self._settings = settings
        self._certificate = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        self._server = _Server(_config(view, settings, self._certificate), patience or Patience(), self._certificate)
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._main, name="web", daemon=True)

    @property
    def url(self) -> str:
        """Where the page is, once it is served."""
        assert self._socket is not None, "asked before start()"
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"http{'s' if self._certificate else ''}://{host}:{self._port}/"

    def start(self) -> None:
        """Begins to serve; returns once requests are answered.

        Raises:
            WebError: The port is taken, or the address is none of this machine's.
        """
        self._socket = _bound(self._settings)
        self._port: int = self._socket.getsockname()[1]
        self._thread.start()
        if not self._server.is_up.wait(_START_S) or not self._thread.is_alive():
            raise WebError(f"the page on {self._settings.host}:{self._port} did not start; the log tells why")
        if self._certificate is None and not is_loopback(self._settings.host):
            LOG.warning(
                "the page's token travels unencrypted: give web.tls_cert and web.tls_key, or a TLS proxy before it"
            )
        LOG.info("the page is at %s%s", self.url, "" if self._settings.token is None else " (token needed)")

    def stop(self) -> None:
        """Ends within a second; harmless when repeated or never started."""
        if not self._thread.is_alive():
            return
        self._server.should_exit = True
        self._thread.join(_FORCE_S)
        self._server.force_exit = True
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            LOG.error("the page's thread does not end; it ends with the process")

    def __enter__(self) -> Self:
        """Starts."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops."""
        self.stop()

    def _main(self) -> None:
        assert self._socket is not None
        try:
            self._server.run([self._socket])
        except (Exception, SystemExit):
            LOG.exception("the page is gone; the agent watches on")
        finally:
            self._socket.close()
            self._server.is_up.set()


def _config(view: AgentView, settings: WebSettings, certificate: Certificate | None) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(view, settings),
        # Made by calling it; a class is what it is mostly given.
        http=_Protocol if certificate is None else cast(type[_Protocol], partial(_TlsProtocol, certificate)),
        loop="asyncio",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        timeout_graceful_shutdown=1,
    )


def _bound(settings: WebSettings) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # Unicode: a label that no host name can have.
        raise WebError(f"the page cannot be served on {host}: {error}; give an address of this machine") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise WebError(
            f"the page cannot be served on {host}:{port}: {error.strerror}; give another port, or 0 for a free one"
        ) from error
    return bound


class _Protocol(H11Protocol):
    """One connection, turned away where there are too many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.phase: tuple[RequestResponseCycle | None, bool] | None = None
        self.since_s = time.monotonic()
        address = self.client[0] if self.client else ""
        peers = Counter(one.client[0] for one in self.connections if isinstance(one, _Protocol) and one.client)
        if len(self.connections) > CONNECTIONS_MAX or peers[address] > CONNECTIONS_PER_ADDRESS:
            transport.abort()

    def is_dawdling(self, now_s: float, patience: Patience) -> bool:
        """Whether the peer has been in one phase for too long: sending a request, or taking an answer."""
        is_answering = self.transport.get_write_buffer_size() > 0 or (
            self.cycle is not None and not self.cycle.response_complete
        )
        phase = (self.cycle, is_answering)
        if self.phase is None or phase[0] is not self.phase[0] or phase[1] != self.phase[1]:
            self.phase, self.since_s = phase, now_s
        return now_s - self.since_s > (patience.answer_s if is_answering else patience.head_s)


class _TlsProtocol(_Protocol):
    """One connection that speaks TLS first: it counts, and may dawdle no longer, from the moment it is there."""

    def __init__(self, certificate: Certificate, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._certificate = certificate
        self._early: bytes | None = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not transport.is_closing():
            self._handshake = self.loop.create_task(self._shake_hands(transport))

    def data_received(self, data: bytes) -> None:
        # What comes with the handshake's last message is there before we know that it is over.
        if self._early is None:
            super().data_received(data)
        else:
            self._early += data

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        try:
            secured = await self.loop.start_tls(transport, self, self._certificate.context, server_side=True)
        except OSError as error:  # An ssl.SSLError is one.
            LOG.debug("no TLS with %s: %s", self.client, error)
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
    """Looks after its connections once a second, and after its certificate."""

    def __init__(self, config: uvicorn.Config, patience: Patience, certificate: Certificate | None) -> None:
        super().__init__(config)
        self.is_up = threading.Event()
        self._patience = patience
        self._certificate = certificate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % 5 == 0:
            self._drop_dawdlers()
        if counter % _RENEW_TICKS == 0 and self._certificate is not None:
            self._certificate.renew()
        return await super().on_tick(counter)

    def _drop_dawdlers(self) -> None:
        now_s = time.monotonic()
        for one in list(self.server_state.connections):
            if isinstance(one, _Protocol) and one.is_dawdling(now_s, self._patience):
                one.transport.abort()
