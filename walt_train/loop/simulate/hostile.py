"""Devices that somebody else has got hold of: they have a certificate, and send what home must not believe."""

from __future__ import annotations

import enum
import hashlib
import random
import ssl
import time
from collections import Counter
from collections.abc import Sequence

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from walt_edge.contract.messages import (
    CONTENT_TYPE_ENVELOPE,
    Ack,
    AckState,
    EnvelopeError,
    Status,
    decode_ack,
    encode_json,
)
from walt_edge.contract.topics import ROOT, DeviceTopics, Kind
from walt_train.loop.simulate.crops import CropMaker
from walt_train.loop.simulate.participant import Participant, Shore, named

# Unanswered publishes at a time: whoever floods does not wait for home, only for the broker.
_MOST_ABOARD = 64
_BOOT = "boot-hostile"


class Trick(enum.StrEnum):
    """What a hostile device tries, in turn."""

    GARBAGE = "bytes that are no envelope"
    WRONG_HASH = "an envelope in the topic of another"
    FALSE_NAME = "an envelope that names another device"
    OTHERS_TOPIC = "a crop in another device's topic"
    FORGED_ACK = "home's answer to another device"
    FALSE_STATUS = "another device's status"


class Hostile(Participant):
    """Tries every trick, at a rate.

    Args:
        shore: What all share.
        topics: Its own site and name.
        victim: Whose name it abuses.
        tls: Its own certificate.
        maker: Makes crops that would be fine.
        per_second: Tricks a second.
        chance: Source of randomness.

    Attributes:
        tried: How often, by trick.
        rejected: Home's refusals.
        refused: The broker's refusals.
        believed: What home stored; must stay 0.
        overheard: What it could read of others; must stay 0.
    """

    def __init__(
        self,
        shore: Shore,
        topics: DeviceTopics,
        victim: DeviceTopics,
        tls: ssl.SSLContext | None,
        maker: CropMaker,
        per_second: float,
        chance: random.Random,
    ) -> None:
        super().__init__(shore, topics.device, tls, None, chance)
        self.tried: Counter[Trick] = Counter()
        self.rejected = 0
        self.refused = 0
        self.believed = 0
        self.overheard = 0
        self._topics = topics
        self._victim = victim
        self._maker = maker
        self._per_second = per_second
        self._chance = chance
        self._since_s = time.monotonic()
        self._done = 0
        self._aboard: set[int] = set()

    def subscriptions(self) -> Sequence[tuple[str, SubscribeOptions]]:
        """Its own answers, and whatever others say and are told; no two filters bring the same."""
        others = (f"{ROOT}/+/+/+", f"{ROOT}/+/+/crop/+", self._victim.acks, "$SYS/#")
        return [(topic, SubscribeOptions(qos=1)) for topic in (self._topics.acks, *others)]

    def on_online(self) -> None:
        """Begins."""
        self._aboard.clear()
        self._since_s = time.monotonic()
        self._done = 0

    def on_leaving(self) -> None:
        """Goes without a word."""

    def on_message(self, message: MQTTMessage) -> None:
        """Home's answers to its own, and whatever else the broker lets it read."""
        if not message.topic.startswith(self._topics.acks.removesuffix("+")):
            self.overheard += 1
            return
        try:
            state = decode_ack(bytes(message.payload)).state
        except EnvelopeError:
            return
        self.rejected += state is AckState.REJECTED
        self.believed += state is not AckState.REJECTED

    def on_puback(self, mid: int, reason: ReasonCode) -> None:
        """Counts what the broker refuses."""
        self._aboard.discard(mid)
        self.refused += reason.is_failure

    def tick(self, now_s: float) -> None:
        """Tries what is due."""
        super().tick(now_s)
        due = int((now_s - self._since_s) * self._per_second) - self._done
        for _ in range(min(due, _MOST_ABOARD - len(self._aboard)) if self.online else 0):
            self._done += 1
            self._try(list(Trick)[self._done % len(Trick)])

    def _try(self, trick: Trick) -> None:
        topic, payload = self._make(trick)
        properties = named(PacketTypes.PUBLISH, CONTENT_TYPE_ENVELOPE)
        mid = self.publish(topic, payload, properties, qos=1, retain=False)
        if mid is not None:
            self.tried[trick] += 1
            self._aboard.add(mid)

    def _make(self, trick: Trick) -> tuple[str, bytes]:
        now_us = time.time_ns() // 1000
        number = self._chance.getrandbits(40)
        own, other = self._topics, self._victim
        if trick is Trick.GARBAGE:
            noise = self._chance.randbytes(4096)
            return own.envelope(Kind.CROP, hashlib.sha256(noise).hexdigest()), noise
        if trick is Trick.FALSE_STATUS:
            return other.status, encode_json(Status(state="offline", boot_id=_BOOT))
        if trick is Trick.FORGED_ACK:
            return other.ack(hashlib.sha256(number.to_bytes(8, "big")).hexdigest()), encode_json(Ack(AckState.STORED))
        id_, crop = self._maker.crop(own if trick is Trick.WRONG_HASH else other, _BOOT, number, now_us)
        if trick is Trick.WRONG_HASH:
            return own.envelope(Kind.CROP, hashlib.sha256(id_.encode()).hexdigest()), crop
        return (own if trick is Trick.FALSE_NAME else other).envelope(Kind.CROP, id_), crop
