"""What arrives by MQTT, and the checks that it must pass before it is stored.

Headers and hashes only: an image is never decoded here, so a hostile one can harm nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from walt_edge.contract.messages import (
    CONTENT_TYPE_ENVELOPE,
    SCHEMA_VERSION,
    EnvelopeError,
    decode_envelope,
    envelope_id,
)
from walt_edge.contract.topics import DeviceTopics, EnvelopeTopic, TopicError
from walt_train.loop.store import Accepted, Refused

_REASON_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it came.

    Attributes:
        topic: Where it was published.
        payload: Its bytes.
        content_type: The MQTT 5 property, "" if absent.
        schema: The user property of that name, "" if absent.
    """

    topic: str
    payload: bytes
    content_type: str = CONTENT_TYPE_ENVELOPE
    schema: str = str(SCHEMA_VERSION)


@dataclass(frozen=True, slots=True)
class Judged:
    """An arrival after the checks.

    Attributes:
        verdict: What to store, or what to quarantine.
        ack_topic: Where the device waits for the answer; "" if the topic names no device.
    """

    verdict: Accepted | Refused
    ack_topic: str


def judge(arrival: Arrival) -> Judged:
    """Checks an arrival; whatever it holds, the answer is a verdict and never an exception."""
    try:
        topic = EnvelopeTopic.parse(arrival.topic)
    except TopicError as error:
        return Judged(_refuse(arrival, error), "")
    ack_topic = DeviceTopics(topic.site, topic.device).ack(topic.sha256)
    try:
        return Judged(_check(arrival, topic), ack_topic)
    except EnvelopeError as error:
        return Judged(_refuse(arrival, error), ack_topic)


def _check(arrival: Arrival, topic: EnvelopeTopic) -> Accepted:
    """Checks the whole: properties, hash, types and ranges, and that topic and header tell the same story."""
    if arrival.content_type != CONTENT_TYPE_ENVELOPE:
        raise EnvelopeError(f"content type '{arrival.content_type[:80]}', expected '{CONTENT_TYPE_ENVELOPE}'")
    if arrival.schema != str(SCHEMA_VERSION):
        raise EnvelopeError(f"schema '{arrival.schema[:20]}', this ingest reads {SCHEMA_VERSION}: update it first")
    found = envelope_id(arrival.payload)
    if found != topic.sha256:
        raise EnvelopeError(f"the bytes hash to {found}, the topic says {topic.sha256}")
    envelope = decode_envelope(arrival.payload)
    origin = envelope.header.origin
    if (origin.site, origin.device) != (topic.site, topic.device):
        raise EnvelopeError(f"the header says {origin.site}/{origin.device}, the topic {topic.site}/{topic.device}")
    if envelope.kind is not topic.kind:
        raise EnvelopeError(f"a {envelope.kind} in the topic of a {topic.kind}")
    return Accepted(found, envelope, arrival.payload)


def _refuse(arrival: Arrival, error: Exception) -> Refused:
    # A reason goes into one log line and one row; control characters of a hostile topic must not get there.
    reason = "".join(letter if letter.isprintable() else "?" for letter in str(error))
    topic = "".join(letter if letter.isprintable() else "?" for letter in arrival.topic)
    return Refused(topic[:_REASON_LENGTH], arrival.payload, reason[:_REASON_LENGTH])
