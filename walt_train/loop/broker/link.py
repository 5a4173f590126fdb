"""The ingest's connection to the broker: what it brings, the answers to it, and which of these have arrived.

The client id is the same every time, so that the broker keeps the session.
"""

from __future__ import annotations

import logging
import queue
import time
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from walt_edge.contract.messages import CONTENT_TYPE_JSON, MAX_ENVELOPE_BYTES, Ack, encode_json
from walt_train.loop.broker.connection import BrokerConfig, Connection, make_properties, topic_of, wait_for
from walt_train.loop.ingest.arrivals import Arrival

LOGGER = logging.getLogger(__name__)
# Topic and properties on top of the largest envelope; the broker keeps what is larger to itself.
_MAX_PACKET_BYTES = MAX_ENVELOPE_BYTES + 64 * 1024
_ACK_PROPERTIES = make_properties(PacketTypes.PUBLISH, ContentType=CONTENT_TYPE_JSON)


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

    Attributes:
        unpromised: Messages of QoS 0 that were passed over.

    Raises:
        BrokerError: Not reachable, or refused.
    """

    def __init__(self, config: BrokerConfig, subscriptions: list[str]) -> None:
        # Deliveries, and the message ids of answers that the broker has confirmed.
        self._inbox: queue.Queue[Delivery | int] = queue.Queue()
        self._answered: dict[int, Delivery] = {}
        self._said = False
        self.unpromised = 0
        session = {
            "SessionExpiryInterval": config.expiry_s,
            "ReceiveMaximum": config.receive_maximum,
            "MaximumPacketSize": _MAX_PACKET_BYTES,
        }

        def prepare(client: mqtt.Client) -> None:
            # Answers to all that may be on its way here at a time.
            client.max_inflight_messages_set(config.receive_maximum)
            client.on_publish = self._on_publish

        self._line = Connection(config, subscriptions, session, self._on_message, prepare, keeps_session=True)

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return self._line.alive

    @property
    def why(self) -> str:
        """What ended the connection, in a few words."""
        return self._line.why

    @property
    def resumed(self) -> bool:
        """Whether the broker had kept our session."""
        return self._line.resumed

    @property
    def taken_over(self) -> bool:
        """Whether another client of our id ended it."""
        return self._line.taken_over

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
        published = self._line.client.publish(topic, encode_json(ack), qos=1, properties=_ACK_PROPERTIES)
        self._answered[published.mid] = delivery

    def release(self, delivery: Delivery) -> None:
        """Tells the broker that a message needs not be delivered again."""
        self._line.client.ack(delivery.message_id, delivery.qos)

    def close(self, flush_s: float = 2.0) -> None:
        """Sends what is still to be sent, says goodbye and keeps the session at the broker."""
        deadline = time.monotonic() + flush_s
        while self.alive and self._answered and time.monotonic() < deadline:
            self.collect(1, 0.0, 0.05)
        wait_for(lambda: not self.alive or not self._line.client.want_write(), flush_s)
        self._line.close()

    def _on_publish(self, _: mqtt.Client, __: object, message_id: int, reason: ReasonCode, ___: object) -> None:
        if reason.is_failure and not self._said:
            self._said = True
            LOGGER.error("the broker does not let us answer devices (%s): check its ACL for ack topics", reason)
        self._inbox.put(message_id)

    def _on_message(self, message: mqtt.MQTTMessage) -> None:
        if message.qos == 0:
            # Nothing bounds how much of these may wait here, nobody would send them again, and no device does so.
            self.unpromised += 1
            return
        told: Any = message.properties
        schema = next((value for name, value in told.UserProperty if name == "schema"), "")
        arrival = Arrival(topic_of(message), bytes(message.payload), told.ContentType, schema)
        self._inbox.put(Delivery(arrival, message.mid, message.qos))
