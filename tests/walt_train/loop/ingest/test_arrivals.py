from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.envelopes import sealed
from tests.walt_train.loop.device import TOPICS
from walt_edge.contract.masks import decode_rle
from walt_edge.contract.messages import MAX_ENVELOPE_BYTES, CropHeader, envelope_id
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.ingest.arrivals import Arrival, judge
from walt_train.loop.store.store import Accepted, Refused

GOOD = sealed(1)
MANY = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))


def arrival(data: bytes, kind: Kind = Kind.CROP) -> Arrival:
    """Bytes in the topic that fits them: only what is in them can be wrong."""
    return Arrival(TOPICS.envelope(kind, envelope_id(data)), data)


def refusal(it: Arrival) -> str:
    verdict = judge(it).verdict
    assert isinstance(verdict, Refused)
    assert verdict.data == it.payload
    assert verdict.reason.isprintable()
    assert verdict.topic.isprintable()
    assert 0 < len(verdict.reason) <= 500
    return verdict.reason


@pytest.mark.parametrize("kind", list(Kind))
def test_a_whole_envelope_is_accepted(kind: Kind) -> None:
    envelope = sealed(7, kind)
    judged = judge(arrival(envelope.data, kind))
    assert judged.verdict == Accepted(envelope.id, envelope.envelope, envelope.data)
    assert judged.ack_topic == TOPICS.ack(envelope.id)


@pytest.mark.parametrize(
    ("it", "says"),
    [
        (Arrival("walt/v1/test/walt-test/crop/abc", GOOD.data), "does not end in"),
        (Arrival("walt/v1/test/walt-test/ack/" + GOOD.id, GOOD.data), "does not end in"),
        (Arrival("walt/v1/../walt-test/crop/" + GOOD.id, GOOD.data), "is not a name"),
        (Arrival("", GOOD.data), "is not walt/v1"),
        (Arrival("walt/v1/a\nb\x1b[31m/c/crop/" + GOOD.id, GOOD.data), "is not a name"),
        (Arrival(TOPICS.envelope(Kind.CROP, "0" * 64), GOOD.data), "the topic says 0000"),
        (Arrival(TOPICS.envelope(Kind.PLATE, GOOD.id), GOOD.data), "a crop in the topic of a plate"),
        (Arrival(DeviceTopics("test", "other").envelope(Kind.CROP, GOOD.id), GOOD.data), "the topic test/other"),
        (Arrival(DeviceTopics("else", "walt-test").envelope(Kind.CROP, GOOD.id), GOOD.data), "topic else/walt-test"),
        (Arrival(TOPICS.envelope(Kind.CROP, GOOD.id), GOOD.data, ""), "content type ''"),
        (Arrival(TOPICS.envelope(Kind.CROP, GOOD.id), GOOD.data, "text/html"), "content type 'text/html'"),
        (Arrival(TOPICS.envelope(Kind.CROP, GOOD.id), GOOD.data, schema="2"), "schema '2', this ingest reads 1"),
        (arrival(b""), "not a valid envelope"),
        (arrival(GOOD.data + b"\0"), "not a valid envelope"),
        (arrival(GOOD.data[:-1]), "not a valid envelope"),
        (arrival(b"\x91" * 100_000), "not a valid envelope"),
        (arrival(b"\0" * (MAX_ENVELOPE_BYTES + 1)), "above the limit"),
    ],
)
def test_what_does_not_fit_is_refused(it: Arrival, says: str) -> None:
    assert says in refusal(it)


def test_the_device_is_told_wherever_the_topic_names_one() -> None:
    assert judge(arrival(b"rubbish")).ack_topic == TOPICS.ack(envelope_id(b"rubbish"))
    assert judge(Arrival("walt/v1/test/walt-test/crop/nonsense", b"rubbish")).ack_topic == ""


@MANY
@given(data=st.binary(max_size=2000))
def test_random_bytes_are_refused(data: bytes) -> None:
    refusal(arrival(data))


@MANY
@given(st.text(max_size=200), st.binary(max_size=100), st.text(max_size=20))
def test_random_topics_are_refused(topic: str, data: bytes, content_type: str) -> None:
    refusal(Arrival(topic, data, content_type))


JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.text(max_size=80),
    st.binary(max_size=40),
    st.integers(min_value=-(2**63), max_value=-1),
    st.sampled_from([float("nan"), float("inf"), -1.0, 2**63, 2**64 - 1, [], {}, [1], [[[]]], {"a": -1}]),
)
PLAIN: dict[str, Any] = msgspec.msgpack.decode(GOOD.data)


def places(tree: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every path into the envelope's map."""
    keys: Any = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [at] * bool(at) + [path for key in keys for path in places(tree[key], (*at, key))]


def put(path: tuple[str | int, ...], value: Any) -> bytes:
    tree = msgspec.msgpack.decode(GOOD.data)
    at: Any = tree
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return msgspec.msgpack.encode(tree)


# Any text or name may be valid where one is asked for, any finite number for a ground point or a stream's
# time, and what an image holds is nobody's business here.
FREE = {"camera", "model", "anonymiser", "boot_id", "plate", "media_time_s", "ground_xy", "stationary_us", "image"}
TARGETS = [path for path in places(PLAIN) if not FREE & set(path)]
VALID: list[tuple[str, Any]] = [("confidence_parts", {}), ("filled", None)]


@MANY
@given(path=st.sampled_from(TARGETS), value=JUNK)
def test_junk_in_a_field_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    if (path[-1], value) not in VALID:
        refusal(arrival(put(path, value)))


@MANY
@given(path=st.sampled_from(places(PLAIN)), value=JUNK)
def test_junk_anywhere_harms_nobody(path: tuple[str | int, ...], value: Any) -> None:
    judge(arrival(put(path, value)))


@MANY
@given(position=st.integers(0, len(GOOD.data) - 1), flip=st.integers(1, 255))
def test_a_flipped_byte_never_passes_for_the_original(position: int, flip: int) -> None:
    data = bytearray(GOOD.data)
    data[position] ^= flip
    refusal(Arrival(TOPICS.envelope(Kind.CROP, GOOD.id), bytes(data)))
    judge(arrival(bytes(data)))


@MANY
@given(counts=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=300), max_size=60))
def test_random_masks_are_refused_or_fit(counts: str) -> None:
    verdict = judge(arrival(put(("header", "mask", "counts"), counts))).verdict
    if isinstance(verdict, Accepted):
        assert isinstance(verdict.envelope.header, CropHeader)
        assert decode_rle(verdict.envelope.header.mask).any()
