"""Retained messages of home: one short connection that leaves them at the broker, or asks which devices are there."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from walt_edge.contract.messages import CONTENT_TYPE_JSON, SCHEMA_VERSION
from walt_edge.contract.topics import STATUSES, DeviceTopics, TopicError, device_of
from walt_train.loop.broker.connection import BrokerConfig, BrokerError, make_properties, use_tls
from walt_train.loop.broker.steady import SteadyClient

_KEEPALIVE_S = 20
_QUIET_S = 0.5


def publish_retained(broker: BrokerConfig, messages: Mapping[str, bytes], what: str, timeout_s: float = 10.0) -> None:
    """Publishes JSON messages, retained, and waits until the broker has taken each.

    Args:
        broker: How to reach the broker; its session settings are not used.
        messages: Payloads by topic.
        what: What they are, for the error's line.
        timeout_s: For connecting and for all acknowledgements together.

    Raises:
        BrokerError: Not reachable, refused, or no acknowledgement in time; some may have been published.
    """
    with _errand(broker, what, timeout_s) as errand:
        properties = make_properties(
            PacketTypes.PUBLISH, ContentType=CONTENT_TYPE_JSON, UserProperty=[("schema", str(SCHEMA_VERSION))]
        )
        waiting = {
            errand.client.publish(topic, payload, qos=1, retain=True, properties=properties).mid: topic
            for topic, payload in messages.items()
        }
        while waiting:
            devices = (device_of(topic) for topic in waiting.values())
            names = ", ".join(f"{one.site}/{one.device}" for one in devices)
            waiting.pop(errand.next(f"did not confirm {what} of {names[:200]}: publish it again"), None)


def known_devices(broker: BrokerConfig, timeout_s: float = 10.0) -> list[DeviceTopics]:
    """The devices that the broker has a status of, online or not, sorted by site and name.

    Raises:
        BrokerError: Not reachable, or refused.
    """
    found: set[DeviceTopics] = set()
    came = [time.monotonic()]

    def note(_: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        try:
            found.add(device_of(message.topic))
        except (TopicError, UnicodeDecodeError):
            return
        came[0] = time.monotonic()

    with _errand(broker, "the list of devices", timeout_s) as errand:
        errand.client.on_message = note
        errand.client.subscribe(STATUSES, qos=1)
        errand.next("did not answer a subscription")
        # Retained messages follow the answer at once, and nothing marks the last.
        end, came[0] = time.monotonic() + timeout_s, time.monotonic()
        while time.monotonic() < min(came[0] + _QUIET_S, end):
            time.sleep(0.02)
    return sorted(found, key=lambda one: (one.site, one.device))


class _Errand:
    """One connection's work; the client's thread only puts events into the inbox."""

    def __init__(self, client: mqtt.Client, address: str, what: str, deadline_s: float) -> None:
        self.client = client
        self._address = address
        self._what = what
        self._deadline_s = deadline_s
        self._inbox: queue.SimpleQueue[tuple[int, ReasonCode, bool]] = queue.SimpleQueue()
        put = self._inbox.put
        client.on_connect = lambda _c, _u, _f, reason, _p: put((0, reason, False))
        client.on_publish = lambda _c, _u, mid, reason, _p: put((mid, reason, False))
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: put((mid, reasons[0], False))
        client.on_disconnect = lambda _c, _u, _f, reason, _p: put((0, reason, True))

    def next(self, otherwise: str) -> int:
        """The message id of the next event; raises BrokerError if it is a failure or does not come."""
        try:
            mid, reason, is_end = self._inbox.get(timeout=max(0.0, self._deadline_s - time.monotonic()))
        except queue.Empty:
            raise BrokerError(f"broker {self._address} {otherwise}") from None
        if is_end or reason.is_failure:
            raise BrokerError(f"broker {self._address} refused {self._what} ({reason}): check its ACL")
        return mid


@contextmanager
def _errand(broker: BrokerConfig, what: str, timeout_s: float) -> Iterator[_Errand]:
    # A client of its own, under a name of its own: it must not take over the ingest's session.
    client = SteadyClient(
        CallbackAPIVersion.VERSION2,
        client_id=f"walt-publish-{uuid.uuid4().hex[:12]}",
        protocol=mqtt.MQTTv5,
        reconnect_on_failure=False,
    )
    client.connect_timeout = timeout_s
    if broker.ca is not None:
        use_tls(client, broker)
    errand = _Errand(client, broker.address, what, time.monotonic() + timeout_s)
    try:
        client.connect(broker.host, broker.port, _KEEPALIVE_S, clean_start=True)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise BrokerError(f"broker {broker.address} cannot be reached ({words})") from error
    client.loop_start()
    try:
        errand.next("did not answer: is it an MQTT 5 broker?")
        yield errand
    finally:
        client.disconnect()
        client.loop_stop()
