"""The reader of messages: what paho reads it reads alike, and what would stop paho does not stop it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from walt_train.loop.broker.steady import Publication, Told, read_publish

MANY = settings(max_examples=300, deadline=None)
# What paho takes and MQTT allows.
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF, exclude_characters="\x7f"), max_size=60)


def packet(topic: str, message_id: int, properties: Properties, payload: bytes) -> bytes:
    head = len(topic.encode()).to_bytes(2, "big") + topic.encode()
    packed: bytes = properties.pack()  # type: ignore[no-untyped-call]
    return head + message_id.to_bytes(2, "big") + packed + payload


def made(**values: object) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


@MANY
@given(
    topic=TEXT,
    message_id=st.integers(1, 65535),
    content_type=TEXT,
    users=st.lists(st.tuples(TEXT, TEXT), max_size=5),
    payload=st.binary(max_size=300),
    expiry=st.none() | st.integers(0, 2**32 - 1),
    alias=st.none() | st.integers(1, 65535),
    correlation=st.none() | st.binary(max_size=40),
)
def test_what_paho_writes_is_read(
    topic: str,
    message_id: int,
    content_type: str,
    users: list[tuple[str, str]],
    payload: bytes,
    expiry: int | None,
    alias: int | None,
    correlation: bytes | None,
) -> None:
    values: dict[str, object] = {"ContentType": content_type, "PayloadFormatIndicator": 1, "ResponseTopic": "a/b"}
    values |= {"UserProperty": users} if users else {}
    values |= {"MessageExpiryInterval": expiry} if expiry is not None else {}
    values |= {"TopicAlias": alias} if alias is not None else {}
    values |= {"CorrelationData": correlation} if correlation is not None else {}
    data = packet(topic, message_id, made(**values), payload)
    expected = Publication(topic.encode(), message_id, Told(content_type[:256], tuple(users)), payload)
    assert read_publish(data, qos=1) == expected
    assert read_publish(bytearray(data), qos=1) == expected


def test_without_properties_and_without_a_promise() -> None:
    assert read_publish(b"\x00\x01a\x00xyz", qos=0) == Publication(b"a", 0, Told(), b"xyz")


@pytest.mark.parametrize("odd", ["\ufeff", "\ufffe", "\U0010ffff", "\x01", "é" * 500])
def test_odd_letters_are_read(odd: str) -> None:
    raw = odd.encode()
    property_ = b"\x03" + len(raw).to_bytes(2, "big") + raw
    length = len(property_)
    size = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
    found = read_publish(b"\x00\x01a\x00\x07" + size + property_ + b"body", qos=1)
    assert found.payload == b"body"
    assert found.told.ContentType.startswith(odd[0])


def test_a_million_properties_cost_nothing() -> None:
    users = b"\x26\x00\x00\x00\x00" * 1_600_000
    size = len(users)
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])
    found = read_publish(b"\x00\x01a\x00\x07" + length + users + b"body", qos=1)
    assert (found.payload, len(found.told.UserProperty)) == (b"body", 32)


@MANY
@given(data=st.binary(max_size=200), qos=st.sampled_from([0, 1]))
def test_anything_is_read_or_refused(data: bytes, qos: int) -> None:
    try:
        read_publish(data, qos)
    except (IndexError, ValueError):
        return
