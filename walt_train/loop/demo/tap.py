"""Listens at the broker: the agent's telemetry and home's answers, as a witness of its own."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from walt_edge.contract.messages import AckState, EnvelopeError, Telemetry, decode_ack
from walt_edge.contract.topics import ROOT
from walt_train.loop.broker.steady import SteadyClient
from walt_train.loop.children import StationError

_CONNECT_S = 10.0


class Tap:
    """Counts answers and keeps the newest telemetry; a context manager.

    Raises:
        StationError: The broker does not answer.
    """

    def __init__(self, host: str, port: int) -> None:
        self.telemetry: Telemetry | None = None
        self._answers: dict[str, AckState] = {}
        self._subscribed = threading.Event()
        self._client = SteadyClient(CallbackAPIVersion.VERSION2, client_id="walt-demo-tap", protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(f"{ROOT}/+/+/telemetry", 1), (f"{ROOT}/+/+/ack/+", 1)]
        )
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect(host, port)
        self._client.loop_start()
        if not self._subscribed.wait(_CONNECT_S):
            raise StationError(f"broker: no answer on {host}:{port} within {_CONNECT_S:.0f} s")

    @property
    def acknowledged(self) -> int:
        """Envelopes that home has stored, now or before."""
        counts = Counter(self._answers.values())
        return counts[AckState.STORED] + counts[AckState.DUPLICATE]

    @property
    def rejected(self) -> int:
        """Envelopes that home has refused."""
        return Counter(self._answers.values())[AckState.REJECTED]

    def __enter__(self) -> Tap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        try:
            if message.topic.endswith("/telemetry"):
                self.telemetry = msgspec.json.decode(message.payload, type=Telemetry)
            else:
                self._answers[message.topic.rpartition("/")[2]] = decode_ack(bytes(message.payload)).state
        except (msgspec.DecodeError, EnvelopeError, UnicodeDecodeError):
            return  # a witness counts what it understands; the stations complain themselves
