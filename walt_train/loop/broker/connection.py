"""Connections to the broker: how it is reached, and one that is subscribed and ends for good when it is lost.

Every connection is a paho client of its own: nothing of an old one (message ids, queued answers) can leak into a new
one.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from walt_edge.contract.errors import UsageError, WaltError
from walt_train.loop.broker.steady import SteadyClient

_CONNECT_TIMEOUT_S: Final = 10.0
_KEEPALIVE_S: Final = 20
_TAKEN_OVER: Final = 0x8E


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


class Connection:
    """A subscribed connection; ends for good with itself, however its client's thread ends.

    Args:
        config: How to reach the broker.
        subscriptions: Topic filters.
        session: MQTT 5 properties of CONNECT, by their names in paho.
        on_message: Called in the client's thread with every message.
        prepare: Sets what else the client needs, before it connects.
        keeps_session: Whether the broker keeps the session and a message until it is released.

    Attributes:
        client: Publishes and acknowledges.
        resumed: Whether the broker had kept our session.
        taken_over: Whether another client of our id ended it.

    Raises:
        BrokerError: Not reachable, or refused.
    """

    def __init__(
        self,
        config: BrokerConfig,
        subscriptions: Sequence[str],
        session: Mapping[str, object],
        on_message: Callable[[mqtt.MQTTMessage], None],
        prepare: Callable[[mqtt.Client], None] = lambda _: None,
        *,
        keeps_session: bool = False,
    ) -> None:
        self._config = config
        self._subscriptions = subscriptions
        self._up, self._down = threading.Event(), threading.Event()
        self._why = ""
        self.resumed = False
        self.taken_over = False
        self.client = self._make_client(on_message, manual_ack=keeps_session)
        prepare(self.client)
        self._connect(session, clean_start=not keeps_session)

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return not self._down.is_set()

    @property
    def why(self) -> str:
        """What ended the connection, in a few words."""
        return self._why

    def close(self) -> None:
        """Says goodbye."""
        self.client.disconnect()
        self.client.loop_stop()

    def _make_client(self, on_message: Callable[[mqtt.MQTTMessage], None], *, manual_ack: bool) -> SteadyClient:
        client = SteadyClient(
            CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=manual_ack,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.on_end = self._on_end
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _, __, message: on_message(message)
        if self._config.ca is not None:
            use_tls(client, self._config)
        return client

    def _connect(self, session: Mapping[str, object], *, clean_start: bool) -> None:
        config, properties = self._config, make_properties(PacketTypes.CONNECT, **session)
        try:
            self.client.connect(
                config.host, config.port, _KEEPALIVE_S, clean_start=clean_start, properties=properties
            )
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise BrokerError(f"broker {config.address} cannot be reached ({words})") from error
        self.client.loop_start()
        wait_for(lambda: self._up.is_set() or self._down.is_set(), _CONNECT_TIMEOUT_S)
        if not self._up.is_set() or self._down.is_set():
            self.close()
            why = self._why or "no answer: is it an MQTT 5 broker?"
            raise BrokerError(f"broker {config.address} did not accept us ({why})")

    def _on_connect(
        self, client: mqtt.Client, _: object, flags: mqtt.ConnectFlags, reason: ReasonCode, __: object
    ) -> None:
        if reason.is_failure:
            self._why = str(reason)
            self._down.set()
            return
        self.resumed = flags.session_present
        client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._subscriptions])

    def _on_subscribe(self, _: mqtt.Client, __: object, ___: int, reasons: list[ReasonCode], ____: object) -> None:
        refused = next((reason for reason in reasons if reason.is_failure), None)
        if refused is None:
            self._up.set()
        else:
            self._why = f"subscription refused: {refused}; check the broker's ACL"
            self._down.set()

    def _on_disconnect(self, _: mqtt.Client, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        self._why = self._why or str(reason)
        self.taken_over = reason.value == _TAKEN_OVER
        self._down.set()

    def _on_end(self) -> None:
        self._why = self._why or "its client ended"
        self._down.set()


def topic_of(message: mqtt.MQTTMessage) -> str:
    """A message's topic; "" for one that is no text."""
    try:
        return str(message.topic)
    except UnicodeDecodeError:
        return ""


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    """Waits until something is so, or the time is up."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


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
