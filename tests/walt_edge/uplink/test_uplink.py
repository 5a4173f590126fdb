"""The uplink against a real broker: what the spool holds reaches home, and nothing leaves it without home's word."""

from __future__ import annotations

import dataclasses
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from tests.broker import HOST, Broker, free_port
from tests.envelopes import sealed
from tests.fakes.home import ScriptedHome, silent, stored
from tests.waiting import PATIENCE_S, wait_for
from walt_edge.config import Endpoint
from walt_edge.contract.messages import (
    CONTENT_TYPE_ENVELOPE,
    Ack,
    AckState,
    Info,
    SpoolCounts,
    Status,
    Telemetry,
    decode_envelope,
    encode_json,
    envelope_id,
)
from walt_edge.contract.topics import DeviceTopics, EnvelopeTopic, Kind
from walt_edge.spool.spool import Spool
from walt_edge.uplink.uplink import Uplink, UplinkSettings

TOPICS = DeviceTopics("test", "walt-test")
INFO = Info(version="1", camera="cam-1", machine="test", python="3.11", anonymiser="test")
# The rights of a device in Mosquitto's words, as docs/formats.md has them; %c is its name.
RIGHTS = "".join(
    f"pattern {right} walt/v1/+/%c/{leaf}\n"
    for right, leaves in {
        "write": ("status", "info", "reported", "telemetry", "crop/+", "plate/+", "frame/+"),
        "read": ("desired", "resend", "ack/+"),
    }.items()
    for leaf in leaves
)
FAST = UplinkSettings(ack_timeout_s=0.3, ack_timeout_cap_s=2.0, reconnect_min_s=0.05, reconnect_max_s=0.3)
# An answer that a busy machine gives late is no reason to send again: for tests that count what came.
PATIENT = dataclasses.replace(FAST, ack_timeout_s=60.0)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path) as spool:
        yield spool


@contextmanager
def running(spool: Spool, port: int, settings: UplinkSettings = FAST) -> Iterator[Uplink]:
    uplink = Uplink(Endpoint(HOST, port), TOPICS, spool, "boot-1", INFO, settings, random.Random(5))
    uplink.start()
    try:
        yield uplink
    finally:
        uplink.stop()


def telemetry() -> Telemetry:
    others = {"boot_id": "boot-1", "rejected_by_reason": {}, "spool": SpoolCounts()}
    required: dict[str, Any] = {one.name: 0 for one in msgspec.structs.fields(Telemetry) if one.required}
    return Telemetry(**required | others)


def test_everything_in_the_spool_arrives_once_with_its_bytes(broker: Broker, spool: Spool) -> None:
    made = [sealed(n) for n in range(100)] + [sealed(100, Kind.PLATE), sealed(101, Kind.FRAME)]
    for one in made[:50]:
        spool.accept(one)
    with ScriptedHome(broker) as home, running(spool, broker.port, PATIENT) as uplink:
        for one in made[50:]:
            spool.accept(one)
            uplink.notify()
        assert uplink.wait_drained(PATIENCE_S)
        assert home.received == dict.fromkeys((one.id for one in made), 1)
        for message in home.messages:
            if "/crop/" in message.topic:
                assert envelope_id(bytes(message.payload)) == EnvelopeTopic.parse(message.topic).sha256
                decode_envelope(bytes(message.payload))
    assert spool.counts().acked == len(made)


def test_envelopes_say_what_they_are_in_mqtt_5_properties(broker: Broker, spool: Spool) -> None:
    spool.accept(sealed(1))
    with ScriptedHome(broker) as home, running(spool, broker.port, PATIENT) as uplink:
        assert uplink.wait_drained(PATIENCE_S)
        (message,) = [m for m in home.messages if "/crop/" in m.topic]
    assert message.qos == 1
    properties = vars(message.properties)
    assert properties["ContentType"] == CONTENT_TYPE_ENVELOPE
    assert properties["UserProperty"] == [("schema", "1")]


def test_at_most_sixteen_are_without_homes_word(broker: Broker, spool: Spool) -> None:
    for n in range(40):
        spool.accept(sealed(n))
    with ScriptedHome(broker, silent) as home, running(spool, broker.port, PATIENT) as uplink:
        wait_for(lambda: len(home.received) == 16)
        assert not uplink.wait_drained(0.5)
        assert len(home.received) == 16
        home.answer = stored
        for id_ in list(home.received)[:4]:
            home.publish(TOPICS.ack(id_), encode_json(Ack(state=AckState.STORED)))
        wait_for(lambda: spool.counts().depth == 12 and len(home.received) == 40)


def test_what_home_does_not_acknowledge_is_sent_again(broker: Broker, spool: Spool) -> None:
    spool.accept(sealed(1))
    with ScriptedHome(broker, silent) as home, running(spool, broker.port) as uplink:
        wait_for(lambda: home.received.total() >= 3)
        assert spool.counts().depth == 1
        home.answer = lambda topic: encode_json(Ack(state=AckState.DUPLICATE))
        assert uplink.wait_drained(PATIENCE_S)
        assert uplink.stats.resent >= 2
    assert spool.counts().acked == 1


def test_a_home_that_comes_later_need_not_be_waited_for_long(broker: Broker, spool: Spool) -> None:
    for n in range(40):
        spool.accept(sealed(n))
    with running(spool, broker.port, changed(FAST, ack_timeout_s=300.0, unheard_s=0.1)) as uplink:
        wait_for(lambda: uplink.stats.sent > 32)
        with ScriptedHome(broker):
            assert uplink.wait_drained(PATIENCE_S)


def test_a_rejected_envelope_frees_its_row_and_is_counted(broker: Broker, spool: Spool) -> None:
    bad, good = sealed(1), sealed(2)
    spool.accept(bad)
    spool.accept(good)

    def answer(topic: EnvelopeTopic) -> bytes:
        state = AckState.REJECTED if topic.sha256 == bad.id else AckState.STORED
        return encode_json(Ack(state=state, reason="not ours"))

    with ScriptedHome(broker, answer), running(spool, broker.port) as uplink:
        assert uplink.wait_drained(PATIENCE_S)
    counts = spool.counts()
    assert (counts.rejected, counts.acked, counts.depth) == (1, 1, 0)


@pytest.mark.parametrize(
    ("leaf", "payload"),
    [
        ("f" * 64, b"not json"),
        ("f" * 64, b'{"state":"perhaps"}'),
        ("f" * 64, b"\xff\xfe"),
        ("f" * 64, b'{"state":"stored","reason":"' + b"x" * 9000 + b'"}'),
        ("short", b'{"state":"stored"}'),
    ],
)
def test_malformed_acknowledgements_are_counted_and_ignored(
    broker: Broker, spool: Spool, leaf: str, payload: bytes
) -> None:
    spool.accept(sealed(1))
    with ScriptedHome(broker, silent) as home, running(spool, broker.port) as uplink:
        assert uplink.wait_connected(PATIENCE_S)
        home.publish(f"walt/v1/test/walt-test/ack/{leaf}", payload)
        wait_for(lambda: uplink.stats.acks_malformed == 1)
        home.answer = stored
        assert uplink.wait_drained(PATIENCE_S)


def test_the_broker_keeps_to_itself_what_is_absurdly_large(broker: Broker, spool: Spool) -> None:
    spool.accept(sealed(1))
    with ScriptedHome(broker, silent) as home, running(spool, broker.port) as uplink:
        assert uplink.wait_connected(PATIENCE_S)
        home.publish(TOPICS.ack("e" * 64), b"x" * 1_000_000)
        home.publish(TOPICS.ack("e" * 64), b"x" * 5_000)
        wait_for(lambda: uplink.stats.acks_malformed > 0)
        home.answer = stored
        assert uplink.wait_drained(PATIENCE_S)
        assert uplink.stats.acks_malformed == 1
        assert uplink.stats.connects == 1


def test_acknowledgements_of_unknown_envelopes_change_nothing(broker: Broker, spool: Spool) -> None:
    spool.accept(sealed(1))
    with ScriptedHome(broker, silent) as home, running(spool, broker.port) as uplink:
        assert uplink.wait_connected(PATIENCE_S)
        home.publish(TOPICS.ack("e" * 64), encode_json(Ack(state=AckState.STORED)))
        home.answer = stored
        assert uplink.wait_drained(PATIENCE_S)
    assert spool.counts().acked == 1


def test_a_broker_that_is_down_is_told_and_found_when_it_comes(
    tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    spool.accept(sealed(1))
    with running(spool, port) as uplink:
        wait_for(lambda: "no connection to the broker" in caplog.text)
        assert "watching on" in caplog.text
        with Broker.start(tmp_path, port) as broker, ScriptedHome(broker):
            assert uplink.wait_drained(PATIENCE_S)


def test_a_broker_that_accepts_and_says_nothing_is_given_up(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server((HOST, 0)) as mute:
        settings = changed(FAST, connect_timeout_s=0.3)
        with running(spool, mute.getsockname()[1], settings):
            wait_for(lambda: "no answer within 0.3 s" in caplog.text)


def test_a_broker_that_hangs_is_given_up_and_taken_again_when_it_wakes(broker: Broker, spool: Spool) -> None:
    quick = changed(FAST, connect_timeout_s=1.0, keepalive_s=1)
    with ScriptedHome(broker), running(spool, broker.port, quick) as uplink:
        assert uplink.wait_connected(PATIENCE_S)
        broker.freeze()  # The kernel still takes packets for it: a half-open line looks the same.
        spool.accept(sealed(1))
        uplink.notify()
        wait_for(lambda: not uplink.connected, 15, "for the keep-alive to notice")
        assert not uplink.wait_connected(1.5)  # It takes our connection and does not answer.
        broker.thaw()
        assert uplink.wait_drained(PATIENCE_S)
        assert uplink.stats.connects >= 2


def test_a_device_reads_and_writes_what_is_its_own_and_nothing_else(tmp_path: Path, spool: Spool) -> None:
    rights = tmp_path / "acl"
    rights.write_text(RIGHTS)
    rights.chmod(0o644)
    with (
        Broker.start(tmp_path, extra=[f"acl_file {rights}"]) as broker,
        Uplink(Endpoint(HOST, broker.port), TOPICS, spool, "boot-1", INFO, FAST, on_desired=lambda _: None) as uplink,
    ):
        uplink.start()
        assert uplink.wait_connected(PATIENCE_S)
        spool.accept(sealed(1))
        uplink.notify()
        wait_for(lambda: uplink.stats.sent > 0)
        assert not uplink.wait_drained(0.3)
        assert uplink.stats.refused_by_broker == 0
    with Broker.start(tmp_path / "other", extra=[f"acl_file {rights}"]) as broker:
        other = DeviceTopics("test", "walt-other")
        taken = []
        for topic in (other.status, other.envelope(Kind.CROP, "a" * 64), TOPICS.ack("a" * 64), TOPICS.resend):
            client = Client(CallbackAPIVersion.VERSION2, client_id=TOPICS.device, protocol=MQTTProtocolVersion.MQTTv5)
            client.on_publish = lambda _c, _u, _m, reason, _p: taken.append(str(reason))
            client.connect(HOST, broker.port)
            client.loop_start()
            client.publish(topic, b"", qos=1).wait_for_publish(PATIENCE_S)
            client.disconnect()
            client.loop_stop()
        assert taken == ["Not authorized"] * 4


def test_nothing_is_lost_when_the_broker_is_killed_again_and_again(tmp_path: Path, spool: Spool) -> None:
    chance = random.Random(11)
    made = [sealed(n) for n in range(300)]
    with Broker.start(tmp_path) as broker, running(spool, broker.port) as uplink:
        for first in range(0, 300, 30):
            with ScriptedHome(broker) as home:
                for one in made[first : first + 30]:
                    spool.accept(one)
                    uplink.notify()
                enough = chance.randrange(1, 30)
                wait_for(lambda: home.received.total() >= enough)  # noqa: B023 (ends within the round)
                broker.kill()
            broker.restart()
        with ScriptedHome(broker):
            assert uplink.wait_drained(PATIENCE_S)
    assert spool.counts() == msgspec.structs.replace(spool.counts(), accepted=300, acked=300, depth=0)


def test_status_info_and_last_will(broker: Broker, spool: Spool) -> None:
    def states(home: ScriptedHome) -> list[str]:
        return [msgspec.json.decode(m.payload, type=Status).state for m in home.on("status")]

    with ScriptedHome(broker) as home:
        with running(spool, broker.port) as uplink:
            assert uplink.wait_connected(PATIENCE_S)
            wait_for(lambda: states(home) == ["online"] and home.on("info"))
        wait_for(lambda: states(home) == ["online", "offline"])
        assert msgspec.json.decode(home.on("info")[0].payload, type=Info) == INFO
        with running(spool, broker.port) as uplink:
            wait_for(lambda: states(home) == ["online", "offline", "online"])
            client = uplink._client
            assert client is not None
            line = client.socket()
            assert isinstance(line, socket.socket)
            line.shutdown(socket.SHUT_RDWR)  # without an MQTT DISCONNECT: the broker tells our last will
            wait_for(lambda: states(home) == ["online", "offline", "online", "offline", "online"])
    with ScriptedHome(broker) as late:
        wait_for(lambda: late.on("status") and late.on("info"))
        assert late.on("status")[0].retain
        assert states(late) == ["offline"]


def test_telemetry_expires_and_is_not_kept_while_offline(broker: Broker, spool: Spool) -> None:
    with ScriptedHome(broker) as home, running(spool, broker.port) as uplink:
        assert uplink.wait_connected(PATIENCE_S)
        uplink.send_telemetry(telemetry())
        wait_for(lambda: home.on("telemetry"))
        (message,) = home.on("telemetry")
        assert message.qos == 0
        assert 0 < vars(message.properties)["MessageExpiryInterval"] <= FAST.telemetry_expiry_s
        assert msgspec.json.decode(message.payload, type=Telemetry) == telemetry()
        broker.kill()
        wait_for(lambda: not uplink.connected)
        uplink.send_telemetry(telemetry())
        broker.restart()
        wait_for(lambda: uplink.connected)
        assert uplink.wait_drained(PATIENCE_S)
        assert len(home.on("telemetry")) == 1


def test_a_broker_that_forbids_wishes_keeps_no_crop_at_home(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    uplink = Uplink(Endpoint(HOST, 1), TOPICS, spool, "boot-1", INFO, FAST)
    uplink.on_desired = lambda wish: None
    granted, refused = (ReasonCode(PacketTypes.SUBACK, identifier=code) for code in (1, 0x87))
    uplink._on_subscribe(Client(CallbackAPIVersion.VERSION2), [granted, refused])
    assert uplink.connected
    assert f"no model will be taken from home: may not subscribe to {TOPICS.desired}" in caplog.text


def changed(settings: UplinkSettings, **changes: float) -> UplinkSettings:
    return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]
