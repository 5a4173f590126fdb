"""Whoever takes part in a simulation by MQTT: one paho client for each of its connections, driven by one event loop.

paho's own loop would be a thread for each; its calls for somebody else's loop cost so little that thousands of TLS
connections fit in one process (`python -m benchmarks.ingest` tells how little), so there is no client of our own.
Only connecting blocks, TLS handshake included, and is done by a few threads.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from walt_edge.contract.backoff import Backoff
from walt_edge.contract.messages import CONTENT_TYPE_JSON, SCHEMA_VERSION
from walt_train.loop.broker.connection import make_properties
from walt_train.loop.simulate.window import Times

LOGGER = logging.getLogger(__name__)
DIALLERS = 16
_MAX_PACKET_BYTES = 64 * 1024
_GOODBYE_S = 5.0


@dataclass(eq=False)
class Shore:
    """What all participants share.

    Attributes:
        host: The broker's name or address.
        port: Its port.
        times: Times and limits.
        loop: Does all the work.
        diallers: Threads that connect.
    """

    host: str
    port: int
    times: Times
    loop: asyncio.AbstractEventLoop
    diallers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(DIALLERS, "dialler"))


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when somebody vanishes."""

    topic: str
    payload: bytes


class Participant(ABC):
    """Connects, stays connected, comes back. Used by the event loop's thread alone.

    Args:
        shore: What all share.
        client_id: Stable, and its own.
        tls: Its certificate and whom it trusts; None for plain TCP.
        will: Left at the broker.
        chance: Source of jitter.

    Attributes:
        online: Whether the broker has taken it and its subscriptions.
        connects: How often it was online.
        failures: Attempts that did not come that far, and connections that were lost.
        why: The last of these, in a few words.
        leaving: Whether it says goodbye, or has.
    """

    def __init__(
        self, shore: Shore, client_id: str, tls: ssl.SSLContext | None, will: Will | None, chance: random.Random
    ) -> None:
        self.shore = shore
        self.client_id = client_id
        self.online = False
        self.connects = 0
        self.failures = 0
        self.why = ""
        self._tls = tls
        self._will = will
        self._client: Client | None = None
        self._backoff = Backoff(shore.times.reconnect_min_s, shore.times.reconnect_max_s, chance)
        self.leaving = False
        self._online_by_s = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    @abstractmethod
    def subscriptions(self) -> Sequence[tuple[str, SubscribeOptions]]:
        """Topic filters; only the first must be granted."""

    @abstractmethod
    def on_online(self) -> None:
        """The broker will pass on what we asked for: now it makes sense to send."""

    @abstractmethod
    def on_message(self, message: MQTTMessage) -> None:
        """A message on one of the subscriptions."""

    @abstractmethod
    def on_puback(self, mid: int, reason: ReasonCode) -> None:
        """The broker has taken a message, or refuses it."""

    @abstractmethod
    def on_leaving(self) -> None:
        """The last that is said."""

    def tick(self, now_s: float) -> None:
        """Called every `Times.tick_s`: keep-alive, and giving up on a broker that does not answer."""
        if self._client is None:
            return
        if not self.online and now_s > self._online_by_s:
            self.cut("no answer")
        else:
            self._client.loop_misc()

    def start(self, delay_s: float = 0.0) -> None:
        """Begins to connect after a while."""
        self._timer = self.shore.loop.call_later(delay_s, self._dial)

    def publish(self, topic: str, payload: bytes, properties: Properties, *, qos: int, retain: bool) -> int | None:
        """Publishes; gives the message's id on this connection, or None if there is no connection."""
        if self._client is None:
            return None
        sent: MQTTMessageInfo = self._client.publish(topic, payload, qos, retain, properties)
        return None if sent.rc else sent.mid

    def publish_retained(self, topic: str, payload: bytes) -> int | None:
        """Publishes a retained JSON message."""
        properties = named(PacketTypes.PUBLISH, CONTENT_TYPE_JSON)
        return self.publish(topic, payload, properties, qos=1, retain=True)

    def cut(self, why: str) -> None:
        """Ends the connection as a loss of power does: without a word, and the broker speaks the will."""
        client, self._client = self._client, None
        if client is None:
            return
        sock = client.socket()
        if sock is not None:
            # paho would tell of this end when it is collected, whenever that is.
            client.on_socket_close = client.on_socket_unregister_write = None
            self._forget(sock)
            sock.close()
        self._lost(why)

    async def leave(self) -> None:
        """Says goodbye if there is a connection, and does not come back."""
        self.leaving = True
        if self._timer is not None:
            self._timer.cancel()
        client = self._client
        if client is None:
            return
        if self.online:
            self.on_leaving()
        deadline_s = time.monotonic() + _GOODBYE_S
        while self._client is client and self.unfinished() and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)
        client.disconnect()
        while client.socket() is not None and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)
        self._client = None

    def unfinished(self) -> bool:
        """Whether the last that was said is still on its way."""
        return self._client is not None and self._client.want_write()

    # Connecting

    def _dial(self) -> None:
        self._timer = None
        attempt = self.shore.loop.run_in_executor(self.shore.diallers, self._connected)
        attempt.add_done_callback(self._dialled)

    def _connected(self) -> Client:
        """In a thread: a fresh client, so that nothing of an older connection is in it, that has said CONNECT."""
        shore = self.shore
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = shore.times.connect_timeout_s
        if self._will is not None:
            properties = named(PacketTypes.WILLMESSAGE, CONTENT_TYPE_JSON)
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True, properties=properties)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        limits = make_properties(PacketTypes.CONNECT, MaximumPacketSize=_MAX_PACKET_BYTES)
        client.connect(shore.host, shore.port, shore.times.keepalive_s, clean_start=True, properties=limits)
        return client

    def _dialled(self, attempt: asyncio.Future[Client]) -> None:
        if attempt.cancelled():
            return
        error = attempt.exception()
        if isinstance(error, OSError | ValueError):
            self._lost(getattr(error, "strerror", None) or str(error))
        elif error is not None:
            raise error
        elif self.leaving:
            attempt.result().disconnect()
        else:
            self._attach(attempt.result())

    def _attach(self, client: Client) -> None:
        self._client = client
        self._online_by_s = time.monotonic() + self.shore.times.connect_timeout_s
        loop = self.shore.loop
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = lambda _c, _u, mid, reason, _p: self.on_puback(mid, reason)
        client.on_message = lambda _c, _u, message: self.on_message(message)
        client.on_socket_register_write = lambda c, _u, sock: loop.add_writer(sock, c.loop_write)
        client.on_socket_unregister_write = lambda _c, _u, sock: _nothing(loop.remove_writer(sock))
        client.on_socket_close = lambda _c, _u, sock: self._forget(sock)
        sock = client.socket()
        if sock is None:
            self._lost("the connection was closed at once")
            return
        loop.add_reader(sock, self._read, client)
        client.loop_write()

    def _read(self, client: Client) -> None:
        client.loop_read()
        # What TLS has decrypted already, the kernel does not announce again.
        while isinstance(sock := client.socket(), ssl.SSLSocket) and sock.pending():
            client.loop_read()

    def _forget(self, sock: object) -> None:
        self.shore.loop.remove_reader(sock)  # type: ignore[arg-type]
        self.shore.loop.remove_writer(sock)  # type: ignore[arg-type]

    def _on_connect(self, client: Client, _: object, __: ConnectFlags, reason: ReasonCode, ___: object) -> None:
        if reason.is_failure:
            self.why = f"refused: {reason}"
        else:
            client.subscribe(list(self.subscriptions()))

    def _on_subscribe(self, client: Client, _: object, __: int, reasons: list[ReasonCode], ___: object) -> None:
        if client is not self._client:
            return
        if reasons[0].is_failure:
            # Not from within a callback: paho's lock is held here.
            self.shore.loop.call_soon(self.cut, f"may not subscribe to {self.subscriptions()[0][0]}: {reasons[0]}")
            return
        self.online = True
        self.connects += 1
        self.on_online()

    def _on_disconnect(self, client: Client, _: object, __: object, reason: ReasonCode, ___: object) -> None:
        if client is self._client:
            self._client = None
            self._lost(str(reason))

    def _lost(self, why: str) -> None:
        """No connection, or no more: comes back after a pause."""
        self.online = False
        if self.leaving:
            return
        self.failures += 1
        self.why = why
        self.start(self._backoff.next_s())


def _nothing(_: object) -> None:
    """Takes a value where none is wanted."""


def named(packet: int, content_type: str) -> Properties:
    """What every message says of itself."""
    return make_properties(packet, ContentType=content_type, UserProperty=[("schema", str(SCHEMA_VERSION))])
