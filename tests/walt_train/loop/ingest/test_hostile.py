"""Envelopes made to harm: none is accepted, none crashes, and the store is as before."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.envelopes import sealed
from tests.walt_train.loop.admission.home import GHOST, ONE, TWO, enrol
from walt_edge.contract.messages import MAX_ENVELOPE_BYTES, envelope_id
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.admission import standing
from walt_train.loop.admission.admission import Admission
from walt_train.loop.admission.policy import Policy
from walt_train.loop.ingest.arrivals import Arrival, Later, judge
from walt_train.loop.store.store import Accepted, QuarantineLimits, Refused, Store

QUIET = list(HealthCheck)
KINDS = [(kind, sealed(1, kind)) for kind in Kind]
GONE = DeviceTopics("test", "walt-gone")


class Home:
    """A store and its door."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder, QuarantineLimits(entries=20, total_bytes=1 << 24))
        enrol(self.store.engine, ONE, TWO)
        enrol(self.store.engine, GONE, revoked=True)
        for names in (ONE, TWO):
            standing.approve(self.store.engine, names, "op")
            standing.limit(self.store.engine, names, 1e12, 1e15)
        self.door = Admission(self.store.engine, Policy.ENROLLED, "worker-1")
        self.door.refresh()
        self.seen = 0

    def take(self, hostile: Arrival) -> None:
        """What an ingest does; stores only now and then, as it does with groups."""
        verdict = judge(hostile, self.door).verdict
        assert not isinstance(verdict, Accepted), f"accepted {hostile.topic}"
        if isinstance(verdict, Refused):
            assert verdict.reason.isprintable()
            self.seen += 1
            if self.seen % 50 == 0:
                self.store.add_group([], [verdict])
        else:
            assert isinstance(verdict, Later)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    with home.store:
        yield home
        assert home.store.counts().crops == home.store.counts().frames == home.store.counts().plates == 0
        assert home.store.counts().quarantined <= 20


def nested(depth: int, opening: bytes) -> bytes:
    return opening * depth


def wrong(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes that are not the envelope's, in one of the ways in which bytes go wrong."""
    how = draw(st.integers(0, 6))
    if how == 0:
        return data[: draw(st.integers(0, len(data) - 1))]
    if how == 1:
        return data + draw(st.binary(min_size=1, max_size=20))
    if how == 2:
        return draw(st.binary(max_size=300))
    if how == 3:
        depth = draw(st.integers(1, 50_000))
        return nested(depth, draw(st.sampled_from([b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01"])))
    if how == 4:
        # Lengths that promise gigabytes.
        return draw(st.sampled_from([b"\xc6", b"\xdb", b"\xdd", b"\xdf"])) + b"\xff\xff\xff\xff" + data[:50]
    if how == 5:
        return b"\x85" + data[1:] if data[:1] != b"\x85" else b"\x8f" + data[1:]
    at = draw(st.integers(0, 40))
    return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]


HUGE: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([2**63, 2**64 - 1, -(2**63), -1, 1e308, float("nan"), float("inf"), float("-inf"), None]),
    st.sampled_from(["", "\x00", "a" * 100_000, "../../etc/passwd", "\ud7ff" * 9, [], {}, [[]], b"\xff" * 50]),
)
# What each of these says cannot be so, whatever stands there.
FIELDS: list[tuple[Any, ...]] = [
    ("schema",),
    ("media_type",),
    ("image_wh",),
    ("image_wh", 0),
    ("header", "type"),
    ("header", "origin"),
    ("header", "origin", "site"),
    ("header", "origin", "device"),
    ("header", "origin", "frame_wh"),
    ("header", "origin", "frame_wh", 1),
    ("header", "captured"),
    ("header", "captured", "utc_us"),
    ("header", "captured", "monotonic_ns"),
    ("header", "captured", "clock"),
]
CROP_FIELDS: list[tuple[Any, ...]] = [
    ("header", "mask"),
    ("header", "mask", "size"),
    ("header", "mask", "counts"),
    ("header", "label"),
    ("header", "score"),
    ("header", "unoccluded_confidence"),
    ("header", "track_id"),
    ("header", "box_xyxy"),
    ("header", "box_xyxy", 2),
    ("header", "crop_xy"),
    ("header", "crop_xy", 0),
    ("header", "holdout"),
]


def forged(draw: st.DrawFn, data: bytes, kind: Kind) -> bytes:
    """A well-formed message that says what cannot be."""
    tree = copy.deepcopy(msgspec.msgpack.decode(data))
    path = draw(st.sampled_from(FIELDS + (CROP_FIELDS if kind is Kind.CROP else [])))
    at = tree
    for key in path[:-1]:
        at = at[key]
    if draw(st.booleans()):
        at[path[-1]] = draw(HUGE)
    elif isinstance(at, dict) and draw(st.booleans()):
        del at[path[-1]]
    elif isinstance(at, dict):
        at[f"{path[-1]}x"] = 1
    else:
        at[path[-1]] = draw(HUGE)
    return msgspec.msgpack.encode(tree)


@st.composite
def hostile(draw: st.DrawFn) -> Arrival:
    kind, envelope = draw(st.sampled_from(KINDS))
    names, data, how = ONE, envelope.data, draw(st.integers(0, 5))
    if how <= 1:
        data = wrong(draw, data)
    elif how <= 3:
        data = forged(draw, data, kind)
    if how == 4:
        # Whole, in the topic of another device, site, kind or hash, or of no envelope.
        others = [TWO, GONE, GHOST, DeviceTopics("elsewhere", ONE.device)]
        topics = [one.envelope(kind, envelope.id) for one in others]
        topics += [ONE.envelope(one, envelope.id) for one in Kind if one is not kind]
        topics += [ONE.envelope(kind, "0" * 64), ONE.ack(envelope.id), ONE.desired, "", "$SYS/broker", "walt/v1/+/#"]
        return Arrival(draw(st.sampled_from(topics) | st.text(max_size=50)), data)
    topic = names.envelope(kind, envelope_id(data))
    if how == 5:
        words = draw(st.tuples(st.text(max_size=30), st.text(max_size=5)).filter(lambda pair: pair[1] != "1"))
        return Arrival(topic, data, *words)
    return Arrival(topic, data)


@settings(max_examples=2000, deadline=None, suppress_health_check=QUIET)
@given(one=hostile())
def test_two_thousand_hostile_envelopes(home: Home, one: Arrival) -> None:
    home.take(one)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=100_000, deadline=None, suppress_health_check=QUIET)
@given(one=hostile())
def test_a_hundred_thousand_hostile_envelopes(home: Home, one: Arrival) -> None:
    home.take(one)


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(position=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_flipped_bit_is_another_envelope(home: Home, position: int, flip: int) -> None:
    envelope = KINDS[0][1]
    data = bytearray(envelope.data)
    data[position % len(data)] ^= flip
    home.take(Arrival(ONE.envelope(Kind.CROP, envelope.id), bytes(data)))


def pack_map(*pairs: tuple[str, Any]) -> bytes:
    body = b"".join(msgspec.msgpack.encode(part) for pair in pairs for part in pair)
    return bytes([0x80 | len(pairs)]) + body


def test_a_key_that_comes_twice_counts_once_and_is_checked(home: Home) -> None:
    tree = msgspec.msgpack.decode(KINDS[0][1].data)
    bad = {**tree["header"], "origin": {**tree["header"]["origin"], "device": TWO.device}}
    for header in (("header", bad), ("header", tree["header"])), (("header", tree["header"]), ("header", bad)):
        rest = [(name, value) for name, value in tree.items() if name != "header"]
        data = pack_map(*header, *rest)
        verdict = judge(Arrival(TWO.envelope(Kind.CROP, envelope_id(data)), data), home.door).verdict
        if isinstance(verdict, Accepted):
            # Whichever of the two counts, it is the one that was checked.
            assert verdict.envelope.header.origin.device == TWO.device


@pytest.mark.parametrize("counts", ["0" * (MAX_ENVELOPE_BYTES - 10_000), "o" * 5_000_000, "1" * 4_000_000])
def test_a_mask_of_megabytes_is_refused_soon(home: Home, counts: str) -> None:
    tree = msgspec.msgpack.decode(KINDS[0][1].data)
    tree["header"]["mask"]["counts"] = counts
    data = msgspec.msgpack.encode(tree)
    home.take(Arrival(ONE.envelope(Kind.CROP, envelope_id(data)), data))
