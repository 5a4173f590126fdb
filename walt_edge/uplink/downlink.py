"""What home says to a device: what it has stored, which model it wants here, what it wants once more.

Used by the uplink's thread alone. Whatever is malformed is counted and ignored; nothing that comes from outside ends
the connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from paho.mqtt.client import MQTTMessage

from walt_edge.contract.messages import (
    AckState,
    Desired,
    EnvelopeError,
    decode_ack,
    decode_desired,
    decode_resend,
)
from walt_edge.contract.topics import DeviceTopics
from walt_edge.spool.spool import Spool, SpoolError

LOG = logging.getLogger(__name__)

_ACK_TOPIC = re.compile(r".*/ack/([0-9a-f]{64})")
_MAX_MESSAGE_BYTES = 4096
_T = TypeVar("_T")


@dataclass(slots=True)
class UplinkStats:
    """Counts since the start."""

    connects: int = 0
    sent: int = 0
    resent: int = 0
    acks_malformed: int = 0
    wishes_malformed: int = 0
    refused_by_broker: int = 0


class Downlink:
    """Takes home's messages, and keeps acknowledgements until `write_stored`, so that many make one commit.

    Args:
        topics: This device's topics.
        spool: Notes what home has.
        stats: Counts what is malformed.
        on_settled: Told of ids once the spool has noted what became of them.
        on_desired: Gives who is told of the model that home wants here, None if there is none any more; gives None
            if nobody wants to know.
    """

    def __init__(
        self,
        topics: DeviceTopics,
        spool: Spool,
        stats: UplinkStats,
        on_settled: Callable[[Sequence[str]], None],
        on_desired: Callable[[], Callable[[Desired | None], None] | None],
    ) -> None:
        self._topics = topics
        self._spool = spool
        self._stats = stats
        self._on_settled = on_settled
        self._on_desired = on_desired
        self._stored: list[str] = []

    @property
    def subscriptions(self) -> list[str]:
        """Topic filters; only the first must be granted."""
        topics = self._topics
        return [topics.acks, *([topics.desired] if self._on_desired() else []), topics.resend]

    def take(self, message: MQTTMessage) -> None:
        """One message on one of the subscriptions."""
        payload = bytes(message.payload)
        if message.topic == self._topics.desired:
            self._take_wish(payload)
        elif message.topic == self._topics.resend:
            self._take_resend(payload)
        else:
            self._take_ack(message.topic, payload)

    def write_stored(self) -> None:
        """One commit for all acknowledgements that came together."""
        stored, self._stored = self._stored, []
        if not stored:
            return
        try:
            self._spool.acked(stored)
        except SpoolError as error:
            # They stay on their way, are sent again, and home acknowledges them again.
            LOG.error("cannot note what home has: %s", error)
            return
        self._on_settled(stored)

    def _take_wish(self, payload: bytes) -> None:
        """The model that home wants here; an empty message takes the wish back."""
        tell = self._on_desired()
        assert tell is not None
        try:
            wish = _decoded(payload, decode_desired)
        except EnvelopeError as error:
            self._ignore_wish(error)
            return
        tell(wish)

    def _take_resend(self, payload: bytes) -> None:
        """Home was restored; the request is retained, so that it comes again at every connection."""
        self.write_stored()  # What home said before it was lost is lost with it.
        try:
            again = _decoded(payload, decode_resend)
            count = self._spool.resend(again.since_utc_us, again.nonce) if again else 0
        except EnvelopeError as error:
            self._ignore_wish(error)
        except SpoolError as error:
            LOG.error("cannot send again what home lost: %s; the next connection tries again", error)
        else:
            if count:
                LOG.info("home was restored and asks again for what it had: %d envelopes wait again", count)

    def _take_ack(self, topic: str, payload: bytes) -> None:
        """Home's acknowledgement; anything else on that topic is counted and ignored."""
        named = _ACK_TOPIC.fullmatch(topic)
        try:
            if named is None or len(payload) > _MAX_MESSAGE_BYTES:
                raise EnvelopeError(f"not an acknowledgement: {len(payload)} bytes on {topic}")
            ack = decode_ack(payload)
        except EnvelopeError as error:
            self._stats.acks_malformed += 1
            LOG.warning("ignored: %s", error)
            return
        if ack.state is AckState.REJECTED:
            self._reject(named.group(1), ack.reason)
        else:
            self._stored.append(named.group(1))

    def _reject(self, id_: str, reason: str) -> None:
        LOG.warning("home rejects %s: %s", id_[:12], reason)
        try:
            self._spool.rejected(id_, reason)
        except SpoolError as error:
            LOG.error("cannot note that home rejects %s: %s", id_[:12], error)
            return
        self._on_settled([id_])

    def _ignore_wish(self, error: EnvelopeError) -> None:
        self._stats.wishes_malformed += 1
        LOG.warning("ignored: %s", error)


def _decoded(payload: bytes, decode: Callable[[bytes], _T]) -> _T | None:
    """A retained message of home, or None for the empty one that takes it back."""
    if len(payload) > _MAX_MESSAGE_BYTES:
        raise EnvelopeError(f"not a message of home: {len(payload)} bytes")
    return decode(payload) if payload else None
