"""The way home: spooled envelopes over MQTT 5, each until home itself acknowledges it.

The spool is the truth. Nothing is handed to the MQTT client while it is offline, each connection gets a fresh
client (so that no hidden queue survives a reconnect), and at most `window` envelopes are without home's own
acknowledgement; a PUBACK counts for nothing. One thread does all the work; the MQTT client's thread only puts
events into its inbox.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Literal, Self

import msgspec
from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from walt_edge.capture.clock import boot_id
from walt_edge.config import Endpoint, Tls
from walt_edge.contract.backoff import Backoff
from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import (
    CONTENT_TYPE_ENVELOPE,
    CONTENT_TYPE_JSON,
    Desired,
    Info,
    Reported,
    Status,
    Telemetry,
    encode_json,
)
from walt_edge.contract.telemetry import Certificate
from walt_edge.contract.topics import DeviceTopics
from walt_edge.spool.spool import Spool, SpoolError
from walt_edge.uplink.downlink import Downlink, UplinkStats
from walt_edge.uplink.mqtt import connect_properties, make_client, make_properties
from walt_edge.uplink.window import UplinkSettings, Window

__all__ = ["Uplink", "UplinkSettings", "UplinkStats"]

LOG = logging.getLogger(__name__)

# Nothing that is sent to us is nearly as large; the broker keeps what is to itself.
_MAX_PACKET_BYTES = 64 * 1024
_NO_MATCHING_SUBSCRIBERS = 0x10
_IDLE_S = 5.0
_GOODBYE_S = 2.0


class _LostError(WaltError):
    """The connection is gone; the text says why."""


@dataclass(eq=False)
class Uplink:
    """Sends what the spool holds; runs in a thread of its own between `start` and `stop`.

    Attributes:
        endpoint: The broker.
        topics: This device's topics.
        spool: Where envelopes wait.
        boot_id: Written in status messages.
        info: Published, retained, at every connection.
        settings: Times and limits.
        chance: Source of jitter.
        stats: Counts since the start.
        certificate: Says how long the device's certificate lasts, for telemetry; None where there is none. `endpoint`
            may be replaced at any time: the next connection goes there.
        on_desired: Called, in this thread, with the model that home wants here, or None if there is none any more;
            it may come again unchanged. Set before `start`, or nothing is subscribed to.
    """

    endpoint: Endpoint
    topics: DeviceTopics
    spool: Spool
    boot_id: str
    info: Info
    settings: UplinkSettings = field(default_factory=UplinkSettings)
    chance: random.Random = field(default_factory=random.Random)
    stats: UplinkStats = field(default_factory=UplinkStats)
    on_desired: Callable[[Desired | None], None] | None = None
    certificate: Callable[[], Certificate | None] = lambda: None

    def __post_init__(self) -> None:
        options = self.settings
        self._window = Window(
            options.window, options.ack_timeout_s, options.ack_timeout_cap_s, self.chance, options.unheard_s
        )
        self._backoff = Backoff(options.reconnect_min_s, options.reconnect_max_s, self.chance)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._answered = False
        self._client: Client | None = None
        self._ids_by_mid: dict[int, str] = {}
        self._downlink = Downlink(self.topics, self.spool, self.stats, self._settle, lambda: self.on_desired)
        self._reported: Reported | None = None
        self._stopping = threading.Event()
        self._online = threading.Event()
        self._settled = threading.Condition()
        self._thread = threading.Thread(target=self._main, name="uplink", daemon=True)

    @classmethod
    def connect(
        cls,
        broker: str,
        spool: Spool,
        *,
        site: str,
        device: str,
        tls: Tls | None = None,
        settings: UplinkSettings | None = None,
    ) -> Uplink:
        """An uplink that has begun to send what the spool holds; `with` stops it.

            with Spool(folder, key=key) as spool, Uplink.connect("home.local", spool, site="s", device="d") as uplink:
                spool.accept(sealed)
                uplink.notify()
                uplink.wait_drained(timeout_s=60)

        Args:
            broker: HOST or HOST:PORT of an MQTT 5 broker; it need not be there yet.
            spool: Where envelopes wait; they name the same site and device.
            site: The site's name.
            device: The globally unique device id.
            tls: How to trust the broker and be trusted, or None for plain TCP.
            settings: Times and limits.

        Raises:
            UsageError: `broker` is not HOST:PORT.
            TopicError: A name cannot stand in a topic.
        """
        info = Info(
            version=version("walt-amodal"),
            camera="",
            machine=platform.machine(),
            python=platform.python_version(),
            anonymiser="",
        )
        endpoint, topics = Endpoint.parse(broker, tls), DeviceTopics(site, device)
        uplink = cls(endpoint, topics, spool, boot_id(), info, settings or UplinkSettings())
        uplink.start()
        return uplink

    @property
    def connected(self) -> bool:
        """Whether the broker has taken us and will pass on home's acknowledgements."""
        return self._online.is_set()

    def start(self) -> None:
        """Begins to connect, and keeps at it."""
        self._thread.start()

    def notify(self) -> None:
        """Something new is in the spool."""
        self._inbox.put(_nothing)

    def send_telemetry(self, telemetry: Telemetry) -> None:
        """Publishes telemetry if there is a connection; it is not kept otherwise."""
        told = msgspec.structs.replace(telemetry, certificate=self.certificate())
        self._inbox.put(partial(self._publish_telemetry, encode_json(told)))

    def report(self, reported: Reported) -> None:
        """Publishes what runs here, retained, now and at every connection."""
        self._reported = reported
        self._inbox.put(self._publish_reported)

    def wait_connected(self, timeout_s: float) -> bool:
        """Waits for a connection."""
        return self._online.wait(timeout_s)

    def wait_drained(self, timeout_s: float) -> bool:
        """Waits until home has acknowledged everything in the spool; False if it did not within the time."""
        with self._settled:
            return self._settled.wait_for(lambda: self.spool.counts().depth == 0, timeout_s)

    def stop(self) -> None:
        """Says goodbye (status offline) if there is a connection, and ends the thread."""
        self._stopping.set()
        self.notify()
        self._thread.join(timeout=self.settings.connect_timeout_s + 2 * _GOODBYE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _main(self) -> None:
        while not self._stopping.is_set():
            try:
                self._session()
            except (OSError, ValueError, _LostError) as error:
                pause_s = self._backoff.next_s()
                LOG.warning(
                    "no connection to the broker %s (%s): watching on, crops wait on disk; next attempt in %.1f s",
                    self.endpoint,
                    getattr(error, "strerror", None) or str(error),
                    pause_s,
                )
                self._stopping.wait(pause_s)
            except Exception:
                # The thread's boundary: an agent that watches and never sends again would be worse than this line.
                LOG.exception("the uplink failed and begins anew")
                self._stopping.wait(self._backoff.next_s())

    def _session(self) -> None:
        """One connection, from the first packet until it is lost (raises) or we stop (returns)."""
        self._inbox = queue.SimpleQueue()
        self._answered = False
        client = self._make_client()
        options = self.settings
        client.connect(
            self.endpoint.host,
            self.endpoint.port,
            options.keepalive_s,
            clean_start=True,
            properties=connect_properties(_MAX_PACKET_BYTES),
        )
        client.loop_start()
        try:
            deadline = time.monotonic() + options.connect_timeout_s
            while not self._online.is_set() and not self._stopping.is_set():
                if time.monotonic() > deadline:
                    raise _LostError(f"no answer within {options.connect_timeout_s:g} s")
                self._work_until(deadline)
            while not self._stopping.is_set():
                self._pump(client)
                self._work_until(min(self._window.next_due, time.monotonic() + _IDLE_S))
            self._say_goodbye(client)
        finally:
            self._online.clear()
            self._client = None
            client.disconnect()
            client.loop_stop()

    def _work_until(self, deadline: float) -> None:
        """Waits for one event, handles it and all that came with it, then writes what they settled."""
        try:
            event: Callable[[], None] | None = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return
        while event is not None:
            event()
            try:
                event = self._inbox.get_nowait()
            except queue.Empty:
                event = None
        self._downlink.write_stored()

    def _pump(self, client: Client) -> None:
        """Sends as many waiting envelopes as the window has room for."""
        now = time.monotonic()
        self._window.expire(now)
        try:
            waiting = self.spool.pending(self._window.room, skip=self._window.known)
        except SpoolError as error:
            LOG.error("cannot read the spool: %s", error)
            return
        for one in waiting:
            properties = make_properties(PacketTypes.PUBLISH, CONTENT_TYPE_ENVELOPE)
            sent = client.publish(self.topics.envelope(one.kind, one.id), one.data, qos=1, properties=properties)
            if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return  # The connection is going; the event that says so is on its way.
            self._ids_by_mid[sent.mid] = one.id
            self.stats.sent += 1
            self.stats.resent += self._window.sent(one.id, now)

    def _make_client(self) -> Client:
        client = make_client(
            self.topics.device,
            self.endpoint.tls,
            self.topics.status,
            self._status("offline"),
            self.settings.connect_timeout_s,
        )
        inbox = self._inbox
        client.on_connect = lambda c, _u, _f, reason, _p: inbox.put(partial(self._on_connect, c, reason))
        client.on_subscribe = lambda c, _u, _m, reasons, _p: inbox.put(partial(self._on_subscribe, c, reasons))
        client.on_disconnect = lambda _c, _u, _f, reason, _p: inbox.put(partial(self._on_disconnect, reason))
        client.on_publish = lambda _c, _u, mid, reason, _p: inbox.put(partial(self._on_publish, mid, reason))
        client.on_message = lambda _c, _u, message: inbox.put(partial(self._downlink.take, message))
        return client

    def _on_connect(self, client: Client, reason: ReasonCode) -> None:
        self._answered = True
        if reason.is_failure:
            raise _LostError(f"refused: {reason}")
        client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._downlink.subscriptions])

    def _on_subscribe(self, client: Client, reasons: list[ReasonCode]) -> None:
        """Acknowledgements can reach us: from here on it makes sense to send."""
        for topic, reason in zip(self._downlink.subscriptions, reasons, strict=False):
            if reason.is_failure:
                refused = f"may not subscribe to {topic}: {reason}; check the broker's ACL"
                if topic == self.topics.acks:
                    raise _LostError(refused)
                lacking = "no model will be taken from home" if topic == self.topics.desired else "no resend for home"
                LOG.error("%s: %s", lacking, refused)
        self._window.reset()
        self._ids_by_mid.clear()
        self._client = client
        self.stats.connects += 1
        self._publish_retained(client, self.topics.status, self._status("online"))
        self._publish_retained(client, self.topics.info, encode_json(self.info))
        self._publish_reported()
        self._online.set()
        LOG.info("connected to the broker %s as %s", self.endpoint, self.topics.device)

    def _on_disconnect(self, reason: ReasonCode) -> None:
        if self._stopping.is_set():
            return
        if self.endpoint.tls is not None and not self._answered:
            # By TLS 1.3 our certificate is judged after the handshake, and a refusal is a connection that ends.
            raise _LostError(
                "it hung up before it said a word, as brokers do that do not take our certificate: absent, expired, "
                "revoked, or another authority's (walt-edge doctor tells; walt-edge enroll gets one)"
            )
        raise _LostError(f"connection lost: {reason}")

    def _on_publish(self, mid: int, reason: ReasonCode) -> None:
        """A PUBACK is no delivery, but it may tell that there was none."""
        id_ = self._ids_by_mid.pop(mid, None)
        if reason.is_failure:
            self.stats.refused_by_broker += 1
            LOG.warning("the broker %s refuses what we publish (%s): check its ACL", self.endpoint, reason)
        elif id_ is not None and reason.value == _NO_MATCHING_SUBSCRIBERS:
            self._window.unheard(id_, time.monotonic())

    def _settle(self, ids: Sequence[str]) -> None:
        """Home has spoken about these, and the spool has noted it."""
        self._backoff.reset()
        now = time.monotonic()
        for id_ in ids:
            self._window.settled(id_, now)
        with self._settled:
            self._settled.notify_all()

    def _say_goodbye(self, client: Client) -> None:
        if self._online.is_set():
            with contextlib.suppress(RuntimeError, ValueError):  # The broker went away at this very moment.
                self._publish_retained(client, self.topics.status, self._status("offline")).wait_for_publish(
                    _GOODBYE_S
                )

    def _status(self, state: Literal["online", "offline"]) -> bytes:
        return encode_json(Status(state=state, boot_id=self.boot_id))

    def _publish_retained(self, client: Client, topic: str, payload: bytes) -> MQTTMessageInfo:
        properties = make_properties(PacketTypes.PUBLISH, CONTENT_TYPE_JSON)
        return client.publish(topic, payload, qos=1, retain=True, properties=properties)

    def _publish_reported(self) -> None:
        if self._client is not None and self._reported is not None:
            self._publish_retained(self._client, self.topics.reported, encode_json(self._reported))

    def _publish_telemetry(self, payload: bytes) -> None:
        if self._client is not None:
            properties = make_properties(PacketTypes.PUBLISH, CONTENT_TYPE_JSON)
            properties.MessageExpiryInterval = self.settings.telemetry_expiry_s
            self._client.publish(self.topics.telemetry, payload, qos=0, properties=properties)


def _nothing() -> None:
    """Wakes the thread."""
