"""Whatever bytes come, a device's message is taken whole or not at all, and nobody crashes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.walt_train.loop.fleet.fleet import BEGIN, SECOND, Device, telemetry
from walt_edge.contract.messages import Info, Reported, Status
from walt_edge.contract.telemetry import MAX_TELEMETRY_BYTES, Lens, SpoolCounts, Telemetry, decode_telemetry
from walt_train.loop.fleet.fleet import Fleet, Outcome
from walt_train.loop.fleet.heard import MAX_CAMERAS, HeardError, hear

LEAVES = ("status", "info", "reported", "telemetry")
WHO = "walt/v1/yard/walt-1"
GOOD: dict[str, bytes] = {
    "status": msgspec.json.encode(Status(state="online", boot_id="b")),
    "info": msgspec.json.encode(
        Info(version="1", camera="c", machine="m", python="3", anonymiser="a", cameras=("c",))
    ),
    "reported": msgspec.json.encode(Reported(release=1, sha256="", state="active")),
    "telemetry": msgspec.json.encode(telemetry()),
}
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=12,
)


def is_heard(topic: str, payload: bytes) -> bool:
    try:
        hear(topic, payload)
    except HeardError:
        return False
    return True


@pytest.mark.parametrize("leaf", LEAVES)
def test_what_a_device_sends_is_heard(leaf: str) -> None:
    heard = hear(f"{WHO}/{leaf}", GOOD[leaf])
    assert (heard.who.site, heard.who.device) == ("yard", "walt-1")
    assert msgspec.json.encode(heard.told) == GOOD[leaf]


def bad_telemetry() -> st.SearchStrategy[bytes]:
    """Real telemetry of which one field, or one within it, is something that it cannot be."""
    fields = {field.name: field for field in msgspec.structs.fields(Telemetry)}
    wrong: dict[str, Any] = {
        "text": st.sampled_from(["\x00", "x" * 65, 5, None, [], "a\nb"]),
        "count": st.sampled_from([-1, 2**53 + 1, 10**400, 1.5, "1", None, True, [], {}]),
        "figure": st.sampled_from([-2.0, 1e13, 10**400, "1", None, True, [], {}]),
    }
    kinds = {
        "boot_id": "text",
        **{name: "count" for name in fields if name.startswith(("frames_", "objects", "crops", "camera_", "anonym"))},
        **{name: "figure" for name in fields if "_ms_" in name or name in ("uptime_s", "silence_s")},
        "utc_us": "count",
        "failures_in_a_row": "count",
    }
    flat = st.sampled_from(sorted(kinds)).flatmap(lambda name: st.tuples(st.just((name,)), wrong[kinds[name]]))
    inner = st.sampled_from(
        [
            (("spool", "depth"), -1),
            (("spool", "bytes"), 2**70),
            (("spool",), None),
            (("lens", "detail"), [0.1] * 15),
            (("lens", "detail"), [0.1] * 17),
            (("lens", "detail"), [-0.1] * 16),
            (("lens", "brightness"), 256),
            (("lens",), []),
            (("disk", "free_bytes"), -2),
            (("clock",), "right"),
            (("camera",), "../etc"),
            (("camera",), "a/b"),
            (("camera",), "+"),
            (("rejected_by_reason",), {f"r{n}": 1 for n in range(65)}),
            (("rejected_by_reason",), {"x" * 65: 1}),
            (("rejected_by_reason",), {"a": -1}),
            (("rejected_by_reason",), {"a\u0000": 1}),
        ]
    )

    def spoil(change: tuple[tuple[str, ...], Any]) -> bytes:
        tree: Any = json.loads(GOOD["telemetry"])
        place, (path, value) = tree, change
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        return json.dumps(tree).encode()

    return (flat | inner).map(spoil)


def hostile() -> st.SearchStrategy[tuple[str, bytes]]:
    """Topic and payload of which one at least is none that a device sends."""
    leaf = st.sampled_from(LEAVES)
    cut = st.tuples(leaf, st.floats(0, 0.99)).map(
        lambda one: (one[0], GOOD[one[0]][: int(len(GOOD[one[0]]) * one[1])])
    )
    foreign = st.permutations(LEAVES).map(lambda one: (one[0], GOOD[one[1]])).filter(lambda one: one[0] != "info")
    payload = (
        st.tuples(leaf, st.binary(max_size=300))
        | st.tuples(leaf, JUNK.map(lambda tree: json.dumps(tree).encode()))
        | cut
        | foreign
        | st.tuples(st.just("telemetry"), bad_telemetry())
    )
    topics = st.sampled_from(
        [
            "walt/v1/yard/walt-1",
            "walt/v1//walt-1/telemetry",
            "walt/v1/../walt-1/telemetry",
            "walt/v2/yard/d/telemetry",
            "walt/v1/yard/d/telemetry/x",
            "walt/v1/yard/d/desired",
            "",
            "/",
            "$SYS/broker",
        ]
    )
    named = st.text(max_size=80).map(lambda name: f"walt/v1/yard/{name}\x00/telemetry")
    return payload.map(lambda one: (f"{WHO}/{one[0]}", one[1])) | st.tuples(
        topics | named, st.just(GOOD["telemetry"])
    )


def check_hostile(message: tuple[str, bytes]) -> None:
    fleet = Fleet()
    assert not is_heard(*message), message
    assert fleet.take(*message, BEGIN) is Outcome.MALFORMED
    assert not fleet.devices
    assert not fleet.batch.buckets
    assert fleet.last.isprintable()


@given(hostile())
@example((f"{WHO}/status", b"[" * 100_000))
@example((f"{WHO}/telemetry", b'{"a":' * 3000))
@example((f"{WHO}/telemetry", GOOD["telemetry"] + b" " * MAX_TELEMETRY_BYTES))
@example((f"{WHO}/status", b'{"state":"online","boot_id":"\\ud800"}'))
@example((f"{WHO}/status", b'{"state":"online","boot_id":"\xff"}'))
@example((f"{WHO}/reported", b'{"release":-1,"sha256":"","state":"active"}'))
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_hostile_is_heard(message: tuple[str, bytes]) -> None:
    check_hostile(message)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(hostile())
@settings(max_examples=50_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_hostile_is_heard_at_length(message: tuple[str, bytes]) -> None:
    check_hostile(message)


def test_an_older_device_is_understood_and_so_is_a_newer_one() -> None:
    tree = json.loads(GOOD["telemetry"])
    optional = {field.name for field in msgspec.structs.fields(Telemetry) if not field.required}
    older = {name: value for name, value in tree.items() if name not in optional}
    told = decode_telemetry(json.dumps(older).encode())
    assert (told.clock, told.silence_s, told.lens, told.disk) == ("", -1.0, None, None)
    assert decode_telemetry(json.dumps(tree | {"of_tomorrow": {"a": [1]}}).encode()) == telemetry()


def test_a_reason_with_control_characters_is_shown_as_one_line() -> None:
    reported = Reported(release=1, sha256="", state="refused", reason="a\nb\x1b[31m")
    told = hear(f"{WHO}/reported", msgspec.json.encode(reported)).told
    assert isinstance(told, Reported)
    assert told.reason == "a b [31m"


def test_strangers_floods_and_crowds_are_bounded() -> None:
    fleet = Fleet(is_known=lambda site, device: device != "stranger", most=10)
    for number in range(50):
        Device(fleet, name=f"walt-{number}").watches(BEGIN)
    Device(fleet, name="stranger").watches(BEGIN)
    assert len(fleet.devices) == 10
    talker = Device(fleet, name="walt-0")
    for number in range(200):
        talker.watches(BEGIN + 10 * SECOND, camera=f"cam-{number}")
    assert len(fleet.cameras) == 9 + MAX_CAMERAS
    for number in range(1000):
        talker.watches(BEGIN + 20 * SECOND + number, camera="cam-1")
    assert fleet.outcomes == {
        Outcome.TAKEN: 10 + (MAX_CAMERAS - 1) + 1,
        Outcome.TOO_MANY: 40 + 200 - (MAX_CAMERAS - 1),
        Outcome.STRANGER: 1,
        Outcome.TOO_OFTEN: 999,
    }


def test_a_device_speaks_of_itself_alone() -> None:
    fleet = Fleet()
    first, other = Device(fleet, name="walt-1"), Device(fleet, name="walt-2")
    first.watches(BEGIN)
    before = fleet.cameras[first.key].told
    other.watches(BEGIN + SECOND, camera="gate", spool=SpoolCounts(dropped=99), lens=Lens(moves=5))
    assert fleet.cameras[first.key].told is before
    assert set(fleet.devices) == {("yard", "walt-1"), ("yard", "walt-2")}
