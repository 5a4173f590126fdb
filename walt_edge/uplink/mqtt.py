"""One MQTT 5 client for one connection, as the uplink wants it."""

from __future__ import annotations

import threading

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from walt_edge.config import Tls
from walt_edge.contract.messages import CONTENT_TYPE_JSON, SCHEMA_VERSION


class StoppableClient(Client):
    """paho's client, which may be stopped at any moment."""

    def loop_stop(self) -> MQTTErrorCode:
        """Ends the client's thread and waits for it.

        paho asks for its thread twice; one that ends by itself is forgotten in between, and it would wait for None.
        """
        thread = self._thread
        if thread is None:
            return MQTTErrorCode.MQTT_ERR_INVAL
        self._thread_terminate = True
        if thread is not threading.current_thread():
            thread.join()
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def make_client(client_id: str, tls: Tls | None, will_topic: str, will: bytes, connect_timeout_s: float) -> Client:
    """A client that neither reconnects by itself nor keeps anything from an older connection.

    Args:
        client_id: Stable.
        tls: How to trust the broker, or None for plain TCP.
        will_topic: Where the broker publishes `will`, retained, when we vanish.
        will: JSON.
        connect_timeout_s: How long an attempt may take.

    Raises:
        OSError: A certificate's file cannot be used.
    """
    client = StoppableClient(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=MQTTProtocolVersion.MQTTv5,
        reconnect_on_failure=False,
    )
    client.connect_timeout = connect_timeout_s
    properties = make_properties(PacketTypes.WILLMESSAGE, CONTENT_TYPE_JSON)
    client.will_set(will_topic, will, qos=1, retain=True, properties=properties)
    if tls is not None:
        ca, cert, key = (str(path) if path else None for path in (tls.ca, tls.cert, tls.key))
        client.tls_set(ca, cert, key)
    return client


def make_properties(packet: int, content_type: str) -> Properties:
    """What every message says of itself."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.ContentType = content_type
    properties.UserProperty = [("schema", str(SCHEMA_VERSION))]
    return properties


def connect_properties(max_packet_bytes: int) -> Properties:
    """What a connection says of itself: the broker sends it no larger packet."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = max_packet_bytes
    return properties
