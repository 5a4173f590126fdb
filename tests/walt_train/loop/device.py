"""A device's side of the protocol, as plain as can be, and the ingest as a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.broker import Broker
from walt_edge.contract.messages import CONTENT_TYPE_ENVELOPE, Ack, decode_ack
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_edge.privacy.anonymiser import SealedEnvelope

TOPICS = DeviceTopics("test", "walt-test")


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


class Device:
    """Publishes envelopes and keeps every answer."""

    def __init__(self, broker: Broker) -> None:
        self.acks: dict[str, list[Ack]] = defaultdict(list)
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="test-device", protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(TOPICS.acks, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._client.on_message = self._on_message
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        self.wait_connected()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_connected(self) -> None:
        assert self._subscribed.wait(20)

    def publish(self, topic: str, data: bytes, content_type: str = CONTENT_TYPE_ENVELOPE) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = content_type
        properties.UserProperty = [("schema", "1")]
        self._client.publish(topic, data, qos=1, properties=properties)

    def send(self, envelopes: Iterable[SealedEnvelope]) -> None:
        for envelope in envelopes:
            self.publish(TOPICS.envelope(envelope.kind, envelope.id), envelope.data)

    def wait_acked(self, ids: Iterable[str], timeout_s: float = 30.0) -> None:
        wanted = set(ids)
        wait_until(lambda: wanted <= self.acks.keys(), timeout_s, "every envelope is answered")

    def states(self, sha256: str) -> list[str]:
        return [ack.state.value for ack in self.acks[sha256]]

    def _on_message(self, _: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        self.acks[message.topic.rsplit("/", 1)[1]].append(decode_ack(bytes(message.payload)))


def start_ingest(broker: str, store: Path, *extra: str) -> subprocess.Popen[str]:
    """`walt-loop ingest` as a child; its log is on stderr."""
    program = Path(sys.executable).with_name("walt-loop")
    words = [str(program), "ingest", "--broker", broker, "--store", str(store), *extra]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def stop_ingest(process: subprocess.Popen[str]) -> tuple[int, str]:
    """SIGTERM; returns the exit status and what it had logged."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    return process.returncode, log


def crop_topic(sha256: str, kind: Kind = Kind.CROP) -> str:
    return TOPICS.envelope(kind, sha256)
