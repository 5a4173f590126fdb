"""A home that answers as it is told: it speaks MQTT to the real broker and stores in memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.broker import Broker
from tests.waiting import PATIENCE_S
from walt_edge.contract.messages import Ack, AckState, encode_json
from walt_edge.contract.topics import ROOT, DeviceTopics, EnvelopeTopic, TopicError

Answer = Callable[[EnvelopeTopic], bytes | None]


def stored(topic: EnvelopeTopic) -> bytes | None:
    return encode_json(Ack(state=AckState.STORED))


def silent(topic: EnvelopeTopic) -> bytes | None:
    return None


@dataclass(eq=False)
class ScriptedHome:
    """Subscribes to everything; answers every envelope with what `answer` gives, or not at all.

    Attributes:
        broker: The real broker.
        answer: May be replaced at any time.
        received: How often each envelope id came.
        messages: Everything that came, in order.
    """

    broker: Broker
    answer: Answer = stored
    received: Counter[str] = field(default_factory=Counter)
    messages: list[MQTTMessage] = field(default_factory=list)

    def __enter__(self) -> ScriptedHome:
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{ROOT}/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect(self.broker.host, self.broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE_S)
        return self

    def __exit__(self, *error: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(PATIENCE_S)

    def on(self, leaf: str) -> list[MQTTMessage]:
        """The messages on the topics that end in `leaf`."""
        return [message for message in list(self.messages) if message.topic.endswith(f"/{leaf}")]

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = EnvelopeTopic.parse(message.topic)
        except TopicError:
            self.messages.append(message)
            return
        self.received[topic.sha256] += 1
        self.messages.append(message)
        reply = self.answer(topic)
        if reply is not None:
            client.publish(DeviceTopics(topic.site, topic.device).ack(topic.sha256), reply, qos=1)
