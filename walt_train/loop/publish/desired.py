"""Tells devices which release home wants them to run: a retained message for each."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Sequence

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from walt_edge.contract.messages import CONTENT_TYPE_JSON, SCHEMA_VERSION, Desired, encode_json
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.link import BrokerConfig, BrokerError, make_properties, use_tls

_KEEPALIVE_S = 20


def set_desired(
    broker: BrokerConfig, devices: Sequence[DeviceTopics], desired: Desired, timeout_s: float = 10.0
) -> None:
    """Publishes the wish, retained, and waits until the broker has taken it for every device.

    Args:
        broker: How to reach the broker; its session settings are not used.
        devices: Whom it is for.
        desired: What they are to run.
        timeout_s: For connecting and for all acknowledgements together.

    Raises:
        BrokerError: Not reachable, refused, or no acknowledgement in time; some of the devices may have been told.
    """
    # A client of its own, under a name of its own: it must not take over the ingest's session.
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"walt-publish-{uuid.uuid4().hex[:12]}",
        protocol=mqtt.MQTTv5,
        reconnect_on_failure=False,
    )
    client.connect_timeout = timeout_s
    if broker.ca is not None:
        use_tls(client, broker)
    errand = _Errand(client, broker.address, time.monotonic() + timeout_s)
    try:
        client.connect(broker.host, broker.port, _KEEPALIVE_S, clean_start=True)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise BrokerError(f"broker {broker.address} cannot be reached ({words})") from error
    client.loop_start()
    try:
        errand.run(devices, encode_json(desired))
    finally:
        client.disconnect()
        client.loop_stop()


class _Errand:
    """One connection's work; the client's thread only puts events into the inbox."""

    def __init__(self, client: mqtt.Client, address: str, deadline_s: float) -> None:
        self._client = client
        self._address = address
        self._deadline_s = deadline_s
        self._inbox: queue.SimpleQueue[tuple[int, ReasonCode, bool]] = queue.SimpleQueue()
        put = self._inbox.put
        client.on_connect = lambda _c, _u, _f, reason, _p: put((0, reason, False))
        client.on_publish = lambda _c, _u, mid, reason, _p: put((mid, reason, False))
        client.on_disconnect = lambda _c, _u, _f, reason, _p: put((0, reason, True))

    def run(self, devices: Sequence[DeviceTopics], payload: bytes) -> None:
        """Waits for the connection, publishes, waits for the acknowledgements."""
        self._next("did not answer: is it an MQTT 5 broker?")
        properties = make_properties(
            PacketTypes.PUBLISH, ContentType=CONTENT_TYPE_JSON, UserProperty=[("schema", str(SCHEMA_VERSION))]
        )
        waiting = {
            self._client.publish(one.desired, payload, qos=1, retain=True, properties=properties).mid: one
            for one in devices
        }
        while waiting:
            names = ", ".join(f"{one.site}/{one.device}" for one in waiting.values())
            waiting.pop(self._next(f"did not confirm the desired release of {names[:200]}: publish it again"), None)

    def _next(self, otherwise: str) -> int:
        """The message id of the next event; raises BrokerError if it is a failure or does not come."""
        try:
            mid, reason, is_end = self._inbox.get(timeout=max(0.0, self._deadline_s - time.monotonic()))
        except queue.Empty:
            raise BrokerError(f"broker {self._address} {otherwise}") from None
        if is_end or reason.is_failure:
            raise BrokerError(f"broker {self._address} refused the desired release ({reason}): check its ACL")
        return mid
