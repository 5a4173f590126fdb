"""Counts what the broker brings home of statuses, infos and telemetry: what was said must be heard."""

from __future__ import annotations

import random
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec
from paho.mqtt.client import MQTTMessage
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from walt_edge.contract.messages import Status
from walt_edge.contract.topics import ROOT, STATUSES, TopicError, device_of
from walt_train.loop.simulate.participant import Participant, Shore

_NOT_WHAT_LIES_THERE = 2


class Ear(Participant):
    """A subscriber of its own, beside whoever listens at home.

    Args:
        shore: What all share.
        client_id: Its own.
        tls: A certificate that may read what devices say.
        site: Only this site's devices are counted.
        chance: Source of jitter.

    Attributes:
        heard: Messages by their topic's last word; what was retained before is not among them.
        statuses: Each device's last status: its state and its boot.
    """

    def __init__(
        self, shore: Shore, client_id: str, tls: ssl.SSLContext | None, site: str, chance: random.Random
    ) -> None:
        super().__init__(shore, client_id, tls, None, chance)
        self.heard: Counter[Literal["status", "info", "telemetry"]] = Counter()
        self.statuses: dict[str, Status] = {}
        self.heard_s = 0.0
        self._site = site

    def subscriptions(self) -> Sequence[tuple[str, SubscribeOptions]]:
        """What comes from now on; a second subscription brings what lies there when it comes back."""
        fresh = SubscribeOptions(qos=1, retainHandling=_NOT_WHAT_LIES_THERE if self.connects == 0 else 0)
        topics = (STATUSES, f"{ROOT}/+/+/info", f"{ROOT}/+/+/telemetry")
        return [(topic, fresh) for topic in topics]

    def on_online(self) -> None:
        """Nothing to say."""

    def on_leaving(self) -> None:
        """Nothing to say."""

    def on_puback(self, mid: int, reason: ReasonCode) -> None:
        """It publishes nothing."""

    def on_message(self, message: MQTTMessage) -> None:
        """Counts it."""
        self.heard_s = time.monotonic()
        try:
            topics = device_of(message.topic)
        except TopicError:
            return
        if topics.site != self._site:
            return
        leaf = message.topic.rpartition("/")[2]
        if leaf == "status":
            self._note(topics.device, bytes(message.payload))
        if not message.retain and leaf in ("status", "info", "telemetry"):
            self.heard[leaf] += 1  # type: ignore[index]

    def _note(self, device: str, payload: bytes) -> None:
        try:
            self.statuses[device] = msgspec.json.decode(payload, type=Status)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.statuses.pop(device, None)
