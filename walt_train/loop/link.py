"""One connection of the ingest to the broker.

Every connection is a paho client of its own with the same client id: the broker keeps the session, and nothing of
an old connection (message ids, queued answers) can leak into a new one.
"""

from __future__ import annotations

import logging
import queue
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.messages import CONTENT_TYPE_JSON, MAX_ENVELOPE_BYTES, Ack, encode_json
from walt_train.loop.arrivals import Arrival

LOGGER = logging.getLogger(__name__)
_CONNECT_TIMEOUT_S = 10.0
_KEEPALIVE_S = 20
_TAKEN_OVER = 0x8E
# Topic and properties on top of the largest envelope; the broker keeps what is larger to itself.
_MAX_PACKET_BYTES = MAX_ENVELOPE_BYTES + 64 * 1024


class BrokerError(WaltError):
    """The broker cannot be reached, refuses us, or gave our session to another client."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """How to reach the broker.

    Attributes:
        host: Name or address.
        port: TCP port.
        client_id: Stable over restarts: the broker keeps our session under it.
        ca: Certificate authority's file; TLS is used if given.
        cert: Our certificate's file, for mutual TLS.
        key: Its key's file.
        expiry_s: How long the broker keeps our session while we are away, seconds.
        receive_maximum: How many messages the broker may send before we acknowledge one.
    """

    host: str
    port: int
    client_id: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    expiry_s: int = 600
    receive_maximum: int = 64

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"


def parse_address(text: str) -> tuple[str, int]:
    """Splits HOST:PORT (1883 if no port is given); an IPv6 address stands in brackets."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, "1883"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"'{text}' is not HOST:PORT, as in localhost:1883")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An arrival, and what the broker calls it on this connection."""

    arrival: Arrival
    message_id: int
    qos: int


class Link:
    """A subscribed connection; ends for good with the connection.

    Args:
        config: How to reach the broker.
        subscriptions: Topic filters.

    Raises:
        BrokerError: Not reachable, or refused.
    """

    def __init__(self, config: BrokerConfig, subscriptions: list[str]) -> None:
        self._config = config
        self._subscriptions = subscriptions
        # Deliveries, and the message ids of answers that the broker has confirmed.
        self._inbox: queue.Queue[Delivery | int] = queue.Queue()
        self._answered: dict[int, Delivery] = {}
        self._up = threading.Event()
        self._down = threading.Event()
        self._why = ""
        self.resumed = False
        self.taken_over = False
        self._client = self._make_client()
        self._connect()

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return not self._down.is_set()

    @property
    def why(self) -> str:
        """What ended the connection, in a few words."""
        return self._why

    def collect(self, most: int, wait_s: float, first_s: float) -> list[Delivery]:
        """Waits up to `first_s` for a message, then up to `wait_s` for more; returns at most `most`."""
        group: list[Delivery] = []
        deadline = time.monotonic() + first_s
        while len(group) < most:
            try:
                item = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(item, int):
                self.release(self._answered.pop(item))
                continue
            if not group:
                deadline = time.monotonic() + wait_s
            group.append(item)
        return group

    def answer(self, delivery: Delivery, topic: str, ack: Ack) -> None:
        """Publishes an application acknowledgement, and releases the delivery once the broker has that.

        An answer that is lost with the connection is therefore given again, on the next delivery.
        """
        properties = make_properties(PacketTypes.PUBLISH, ContentType=CONTENT_TYPE_JSON)
        published = self._client.publish(topic, encode_json(ack), qos=1, properties=properties)
        self._answered[published.mid] = delivery

    def release(self, delivery: Delivery) -> None:
        """Tells the broker that a message needs not be delivered again."""
        self._client.ack(delivery.message_id, delivery.qos)

    def close(self, flush_s: float = 2.0) -> None:
        """Sends what is still to be sent, says goodbye and keeps the session at the broker."""
        deadline = time.monotonic() + flush_s
        while self.alive and self._answered and time.monotonic() < deadline:
            self.collect(1, 0.0, 0.05)
        _wait(lambda: not self.alive or not self._client.want_write(), flush_s)
        self._client.disconnect()
        self._client.loop_stop()

    def _make_client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = lambda _, __, message_id, *___: self._inbox.put(message_id)
        if self._config.ca is not None:
            use_tls(client, self._config)
        return client

    def _connect(self) -> None:
        properties = make_properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=self._config.expiry_s,
            ReceiveMaximum=self._config.receive_maximum,
            MaximumPacketSize=_MAX_PACKET_BYTES,
        )
        try:
            self._client.connect(
                self._config.host, self._config.port, _KEEPALIVE_S, clean_start=False, properties=properties
            )
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise BrokerError(f"broker {self._config.address} cannot be reached ({words})") from error
        self._client.loop_start()
        _wait(lambda: self._up.is_set() or self._down.is_set(), _CONNECT_TIMEOUT_S)
        if not self._up.is_set() or self._down.is_set():
            self.close(flush_s=0)
            why = self._why or "no answer: is it an MQTT 5 broker?"
            raise BrokerError(f"broker {self._config.address} did not accept us ({why})")

    def _on_connect(
        self, client: mqtt.Client, _: object, flags: mqtt.ConnectFlags, reason: ReasonCode, __: object
    ) -> None:
        if reason.is_failure:
            self._why = str(reason)
            self._down.set()
            return
        self.resumed = flags.session_present
        client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._subscriptions])

    def _on_subscribe(self, client: mqtt.Client, _: object, __: int, reasons: list[ReasonCode], ___: object) -> None:
        refused = next((reason for reason in reasons if reason.is_failure), None)
        if refused is None:
            self._up.set()
        else:
            self._why = f"subscription refused: {refused}"
            self._down.set()

    def _on_disconnect(self, _: mqtt.Client, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        self._why = self._why or str(reason)
        self.taken_over = reason.value == _TAKEN_OVER
        self._down.set()

    def _on_message(self, _: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        content_type: Any = getattr(message.properties, "ContentType", "")
        named = dict(getattr(message.properties, "UserProperty", []))
        arrival = Arrival(topic, bytes(message.payload), str(content_type), str(named.get("schema", "")))
        self._inbox.put(Delivery(arrival, message.mid, message.qos))


def make_properties(packet: int, **values: object) -> Properties:
    """MQTT 5 properties of a packet, by their names in paho."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def use_tls(client: mqtt.Client, config: BrokerConfig) -> None:
    """Has a client trust the broker's authority, and show our certificate; raises UsageError for unusable files."""
    try:
        client.tls_set(
            ca_certs=str(config.ca),
            certfile=str(config.cert) if config.cert else None,
            keyfile=str(config.key) if config.key else None,
            tls_version=ssl.PROTOCOL_TLS_CLIENT,
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot use the certificates {config.ca}, {config.cert}, {config.key}: {error}") from error


def _wait(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
