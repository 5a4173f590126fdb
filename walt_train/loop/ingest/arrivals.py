"""What arrives by MQTT, and the checks that it must pass before it is stored.

Headers and hashes only: an image is never decoded here, so a hostile one can harm nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from walt_edge.contract.messages import (
    CONTENT_TYPE_ENVELOPE,
    SCHEMA_VERSION,
    EnvelopeError,
    decode_envelope,
    envelope_id,
)
from walt_edge.contract.topics import DeviceTopics, EnvelopeTopic, TopicError
from walt_train.loop.admission.policy import Decision, Entry
from walt_train.loop.store.store import Accepted, Refused

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
class Later:
    """What is neither stored nor answered: the device sends it again when it finds that nobody has."""

    reason: str


@dataclass(frozen=True, slots=True)
class Judged:
    """An arrival after the checks.

    Attributes:
        verdict: What to store, what to quarantine, or that it is let go without a word.
        ack_topic: Where the device waits for the answer; "" if the topic names no device.
    """

    verdict: Accepted | Refused | Later
    ack_topic: str


class Door(Protocol):
    """Who may send and what is held, as `walt_train.loop.admission.admission.Admission` tells."""

    def enter(self, topic: EnvelopeTopic | None, size: int) -> Decision:
        """Whether a message is looked into."""

    def held(self, device: str, camera: str) -> str | None:
        """Why a crop may not train yet."""

    def refused(self, device: str, site: str) -> None:
        """Counts a refusal."""


def judge(arrival: Arrival, door: Door | None = None) -> Judged:
    """Checks an arrival; whatever it holds, the answer is a verdict and never an exception.

    Args:
        arrival: What came.
        door: Who may send; everybody without one.
    """
    try:
        topic = EnvelopeTopic.parse(arrival.topic)
    except TopicError as error:
        if door and (decision := door.enter(None, len(arrival.payload))).entry is not Entry.OPEN:
            return Judged(Later(decision.reason), "")
        return Judged(_refuse(arrival, error), "")
    if door is None:
        return Judged(_checked(arrival, topic), _ack_topic(topic))
    decision = door.enter(topic, len(arrival.payload))
    if decision.entry in (Entry.OVER_RATE, Entry.UNKNOWN):
        return Judged(Later(decision.reason), "")
    is_open = decision.entry is Entry.OPEN
    verdict = _checked(arrival, topic) if is_open else _refuse(arrival, EnvelopeError(decision.reason))
    if isinstance(verdict, Refused):
        door.refused(topic.device, topic.site)
    elif held := door.held(topic.device, verdict.envelope.header.origin.camera):
        verdict = replace(verdict, held=held)
    return Judged(verdict, _ack_topic(topic))


def _ack_topic(topic: EnvelopeTopic) -> str:
    return DeviceTopics(topic.site, topic.device).ack(topic.sha256)


def _checked(arrival: Arrival, topic: EnvelopeTopic) -> Accepted | Refused:
    try:
        return _check(arrival, topic)
    except EnvelopeError as error:
        return _refuse(arrival, error)


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
