"""A simulated device: what the real one says by MQTT, without a camera, a spool or a disk."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Sequence
from itertools import islice
from typing import Literal

import msgspec
from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from walt_edge.contract.messages import (
    CONTENT_TYPE_ENVELOPE,
    CONTENT_TYPE_JSON,
    Ack,
    EnvelopeError,
    Info,
    Reported,
    SpoolCounts,
    Status,
    Telemetry,
    decode_ack,
    decode_desired,
    encode_json,
)
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.simulate.agent import Agent, Pace
from walt_train.loop.simulate.crops import CropMaker, camera_of
from walt_train.loop.simulate.ledger import Ledger
from walt_train.loop.simulate.participant import Participant, Shore, Will, named
from walt_train.loop.simulate.window import Window

_NO_MATCHING_SUBSCRIBERS = 0x10
_AT_ONCE = Pace()
_INFO = Info(version="simulated", camera="", machine="simulated", python="", anonymiser="1 faces=head-only")


class Device(Participant):
    """One device of the fleet.

    Args:
        shore: What all share.
        topics: Its site and its name.
        tls: Its certificate.
        maker: Makes its crops.
        ledger: The fleet's books.
        boot_id: Written in everything it says.
        chance: Source of jitter.
        pace: How long it takes with releases.

    Attributes:
        agent: What it does with releases.
        status_sent: Statuses it has published.
        telemetry_sent: Telemetry messages it has published.
        said: Its last status.
    """

    def __init__(
        self,
        shore: Shore,
        topics: DeviceTopics,
        tls: ssl.SSLContext | None,
        maker: CropMaker,
        ledger: Ledger,
        boot_id: str,
        chance: random.Random,
        pace: Pace = _AT_ONCE,
    ) -> None:
        will = Will(topics.status, encode_json(Status(state="offline", boot_id=boot_id)))
        super().__init__(shore, topics.device, tls, will, chance)
        self.topics = topics
        self.status_sent = 0
        self.telemetry_sent = 0
        self.said: Literal["online", "offline"] = "offline"
        self._maker = maker
        self._ledger = ledger
        self._boot_id = boot_id
        self._chance = chance
        self._window = Window(shore.times, chance)
        # Capture times of what home has not spoken about, by number, oldest first: the spool.
        self._waiting: dict[int, int] = {}
        self._made = 0
        self._id_by_mid: dict[int, str] = {}
        self._reported: Reported | None = None
        self._goodbye: int | None = None
        now_s = time.monotonic()
        self.agent = Agent(pace, random.Random(chance.getrandbits(64)), self._note_report, now_s)
        self._telemetry_at_s = now_s + chance.uniform(0.0, shore.times.telemetry_s)

    @property
    def pending(self) -> int:
        """Crops that home has not spoken about."""
        return len(self._waiting)

    def accept(self, captured_us: int) -> None:
        """The device has seen something whole, and promises to bring it home."""
        self._waiting[self._made] = captured_us
        self._made += 1
        self._ledger.accepted += 1
        self._pump(time.monotonic())

    def subscriptions(self) -> Sequence[tuple[str, SubscribeOptions]]:
        """As the real one: answers, the wished model, requests to send again."""
        topics = (self.topics.acks, self.topics.desired, self.topics.resend)
        return [(topic, SubscribeOptions(qos=1)) for topic in topics]

    def on_online(self) -> None:
        """Says who it is, then sends what waits."""
        self._window.reset()
        self._id_by_mid.clear()
        self._say("online")
        self.publish_retained(
            self.topics.info, encode_json(msgspec.structs.replace(_INFO, camera=camera_of(self.topics)))
        )
        self._report()
        self._pump(time.monotonic())

    def on_leaving(self) -> None:
        """Says that it goes."""
        self._goodbye = self._say("offline")

    def unfinished(self) -> bool:
        """Whether the broker has not taken the last word."""
        return self._goodbye is not None

    def on_puback(self, mid: int, reason: ReasonCode) -> None:
        """No delivery, but it may tell that there was none."""
        id_ = self._id_by_mid.pop(mid, None)
        if mid == self._goodbye:
            self._goodbye = None
        if reason.is_failure:
            self._ledger.refused += 1
            self.why = f"the broker refuses what we publish: {reason}"
        elif id_ is not None and reason.value == _NO_MATCHING_SUBSCRIBERS:
            self._ledger.unheard += 1
            self._window.unheard(id_, time.monotonic())

    def on_message(self, message: MQTTMessage) -> None:
        """Home's answers and wishes."""
        payload = bytes(message.payload)
        try:
            if message.topic == self.topics.desired:
                self.agent.desire(decode_desired(payload) if payload else None, time.monotonic())
            elif message.topic != self.topics.resend:  # It keeps nothing that home has had.
                self._take_ack(message.topic.rsplit("/", 1)[1], decode_ack(payload))
        except EnvelopeError:
            self._ledger.malformed += 1

    def tick(self, now_s: float) -> None:
        """Keep-alive, telemetry, resends."""
        super().tick(now_s)
        if self.leaving:
            return  # Its last word is its last.
        if self.agent.tick(now_s):
            self.cut("the agent ended")
        if now_s >= self._telemetry_at_s:
            self._telemetry_at_s = now_s + self.shore.times.telemetry_s * self._chance.uniform(0.75, 1.25)
            self._send_telemetry(now_s)
        if self._waiting:
            self._pump(now_s)

    def _pump(self, now_s: float) -> None:
        """Sends as many waiting crops as the window has room for, the oldest first."""
        if not self.online:
            return
        window = self._window
        window.expire(now_s)
        if window.room <= 0:
            return
        oldest = islice(self._waiting, window.extent + window.room)
        for number in [number for number in oldest if not window.waits(number)][: window.room]:
            id_, data = self._maker.crop(self.topics, self._boot_id, number, self._waiting[number])
            properties = named(PacketTypes.PUBLISH, CONTENT_TYPE_ENVELOPE)
            mid = self.publish(self.topics.envelope(Kind.CROP, id_), data, properties, qos=1, retain=False)
            if mid is None:
                return  # The connection is going.
            self._id_by_mid[mid] = id_
            self._ledger.note_sent(window.sent(id_, number, now_s), now_s)

    def _take_ack(self, id_: str, ack: Ack) -> None:
        now_s = time.monotonic()
        flight = self._window.settled(id_, now_s)
        if flight is None:
            self._ledger.again(id_, ack.state)
            return
        self._backoff.reset()
        del self._waiting[flight.number]
        self._ledger.settle(id_, ack.state, flight.first_sent_s, now_s)
        self._pump(now_s)

    def _note_report(self, reported: Reported) -> None:
        self._reported = reported
        self._report()

    def _report(self) -> None:
        if self._reported is not None:
            self.publish_retained(self.topics.reported, encode_json(self._reported))

    def _say(self, state: Literal["online", "offline"]) -> int | None:
        mid = self.publish_retained(self.topics.status, encode_json(Status(state=state, boot_id=self._boot_id)))
        if mid is not None:
            self.status_sent += 1
            self.said = state
        return mid

    def _send_telemetry(self, now_s: float) -> None:
        """As the real one: what cannot be said now is not kept."""
        if not self.online:
            return
        properties = named(PacketTypes.PUBLISH, CONTENT_TYPE_JSON)
        properties.MessageExpiryInterval = self.shore.times.telemetry_expiry_s
        payload = encode_json(self._telemetry(now_s))
        if self.publish(self.topics.telemetry, payload, properties, qos=0, retain=False) is not None:
            self.telemetry_sent += 1

    def _telemetry(self, now_s: float) -> Telemetry:
        agent = self.agent
        agent.see(now_s)
        counts, infer_ms = agent.counts, agent.infer_ms
        acked = self._made - len(self._waiting)
        return Telemetry(
            boot_id=self._boot_id,
            utc_us=time.time_ns() // 1000,
            uptime_s=now_s - agent.born_s,
            frames_received=int(counts.frames),
            frames_processed=int(counts.frames),
            frames_skipped=0,
            frame_age_ms_p50=100.0,
            frame_age_ms_p99=300.0,
            step_ms_p50=infer_ms,
            step_ms_p99=50.0 + infer_ms,
            camera_reconnects=0,
            anonymiser_failures=0,
            objects_seen=int(counts.objects),
            crops_chosen=int(counts.crops),
            rejected_by_reason={"small": self._made, "border": self._made},
            spool=SpoolCounts(accepted=self._made, acked=acked, depth=len(self._waiting)),
            camera=camera_of(self.topics),
            model_release=agent.running.release if agent.running else 0,
            infer_ms_p50=infer_ms,
            looks=int(counts.looks),
            scored=int(counts.scored),
            score_milli=int(counts.score_milli),
        )
