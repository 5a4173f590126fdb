"""A store that was restored from an older copy gets back what the devices still hold, once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.broker import HOST, Broker, free_port
from tests.envelopes import sealed
from tests.fakes.home import ScriptedHome
from tests.station import ingest
from tests.waiting import wait_for
from walt_edge.contract.messages import EnvelopeError, Resend, decode_resend, encode_json
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_edge.privacy.anonymiser import SealedEnvelope
from walt_edge.spool.key import SpoolKey
from walt_edge.spool.spool import Spool
from walt_edge.uplink.uplink import Uplink, UplinkSettings
from walt_train.loop.cli import SCRIPT
from walt_train.loop.commands.resend import parse_time
from walt_train.loop.store.store import Store

FAST = UplinkSettings(
    ack_timeout_s=1.0, ack_timeout_cap_s=4.0, unheard_s=0.1, reconnect_min_s=0.05, reconnect_max_s=0.3
)
DEVICES = ("walt-1", "walt-2")


def held(folder: Path) -> list[str]:
    with Store(folder / "store") as store:
        return sorted(store.ids())


def test_everything_on_the_devices_comes_back_exactly_once(tmp_path: Path) -> None:
    made = {device: [sealed(n, device=device) for n in range(30)] for device in DEVICES}
    made["walt-1"].append(sealed(99, Kind.PLATE, device="walt-1"))
    everything = sorted(one.id for some in made.values() for one in some)
    spools = {}
    for device in DEVICES:
        (tmp_path / device).mkdir()
        spools[device] = Spool(tmp_path / device, key=SpoolKey.make())
    with Broker.start(tmp_path) as broker:

        def connect() -> list[Uplink]:
            return [
                Uplink.connect(broker.address, spools[device], site="test", device=device, settings=FAST)
                for device in DEVICES
            ]

        uplinks = connect()
        with ingest(broker.address, tmp_path):
            _send(uplinks, spools, {device: some[:10] for device, some in made.items()})
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
        with ingest(broker.address, tmp_path):
            _send(uplinks, spools, {device: some[10:] for device, some in made.items()})
        assert held(tmp_path) == everything
        uplinks[1].stop()  # It is away when home asks, and is told when it comes back.
        shutil.rmtree(tmp_path / "store")
        shutil.copytree(tmp_path / "copy", tmp_path / "store")
        assert len(held(tmp_path)) == 20
        with ingest(broker.address, tmp_path):
            assert SCRIPT.main(["resend", "--broker", broker.address, "--since", "2020-01-01"]) == 0
            wait_for(lambda: len(held(tmp_path)) == 41, 30, "for the first device")
            assert uplinks[0].wait_drained(30)
            uplinks[0].stop()
            uplinks = connect()  # A new connection, where the request is read once more.
            wait_for(lambda: held(tmp_path) == everything, 30, "for the second device")
            assert all(uplink.wait_drained(30) for uplink in uplinks)
        for uplink in uplinks:
            uplink.stop()
    for device, spool in spools.items():
        counts = spool.counts()
        assert (counts.accepted, counts.acked, counts.depth) == (len(made[device]), len(made[device]), 0)
        spool.close()
    with Store(tmp_path / "store") as store:
        assert store.counts().duplicates >= 20  # What the copy had is sent once more.


def _send(uplinks: list[Uplink], spools: dict[str, Spool], made: dict[str, list[SealedEnvelope]]) -> None:
    for device, some in made.items():
        for one in some:
            spools[device].accept(one)
    for uplink in uplinks:
        uplink.notify()
        assert uplink.wait_drained(30)


def test_a_request_is_followed_once_over_restarts(tmp_path: Path) -> None:
    with Spool(tmp_path, key=SpoolKey(bytes(32))) as spool:
        for n in range(3):
            spool.accept(sealed(n))
        spool.acked([sealed(n).id for n in range(2)])
        assert spool.resend(0, "first") == 2
        spool.acked([sealed(0).id])
    with Spool(tmp_path, key=SpoolKey(bytes(32))) as spool:
        assert spool.resend(0, "first") == 0
        counts = spool.counts()
        assert (counts.accepted, counts.acked, counts.depth) == (3, 1, 2)
        assert spool.resend(0, "second") == 1


def test_only_what_home_had_since_is_asked_for_and_an_unset_clock_may_be_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour_us = 3600 * 10**6
    with Spool(tmp_path) as spool:
        for n, hour in enumerate((100, 200, None)):
            spool.accept(sealed(n))
            monkeypatch.setattr("walt_edge.spool.spool.acked_hour", lambda hour=hour: hour)
            spool.acked([sealed(n).id])
        spool.accept(sealed(3))
        spool.rejected(sealed(3).id, "for a test")
        assert spool.resend(201 * hour_us, "a") == 1
        assert [one.id for one in spool.pending(9)] == [sealed(2).id]
        assert spool.resend(201 * hour_us - 1, "b") == 1
        assert spool.resend(0, "c") == 1
        assert spool.counts().depth == 3


def test_a_malformed_request_is_ignored_and_crops_go_on(broker: Broker, tmp_path: Path) -> None:
    topics = DeviceTopics("test", "walt-test")
    with (
        Spool(tmp_path) as spool,
        ScriptedHome(broker) as home,
        Uplink.connect(broker.address, spool, site="test", device="walt-test", settings=FAST) as uplink,
    ):
        assert uplink.wait_connected(30)
        for payload in (
            b"no",
            b'{"since_utc_us": -1, "nonce": "a"}',
            b'{"since_utc_us": 1, "nonce": "a b"}',
            b"x" * 9000,
        ):
            home.publish(topics.resend, payload)
        home.publish(topics.resend, b"")
        wait_for(lambda: uplink.stats.wishes_malformed == 4)
        spool.accept(sealed(1))
        uplink.notify()
        assert uplink.wait_drained(30)


def test_requests_travel_as_json() -> None:
    request = Resend(since_utc_us=5, nonce="a")
    assert decode_resend(encode_json(request)) == request
    with pytest.raises(EnvelopeError, match="not a request"):
        decode_resend(b"{}")


@pytest.mark.parametrize(
    ("text", "micros"),
    [("1970-01-01T00:00:01", 10**6), ("1970-01-02", 86_400 * 10**6), ("1970-01-01T01:00:00+01:00", 0)],
)
def test_times_are_utc_unless_they_say_else(text: str, micros: int) -> None:
    assert parse_time(text) == micros


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--since", "yesterday"], 2, "is no time"),
        (["--since", "2999-01-01"], 2, "between 1970 and now"),
        (["--since", "2020-01-01", "--device", "walt-1"], 1, "is not SITE/DEVICE"),
        (["--since", "2020-01-01", "--key", "k", "--cert", "c"], 2, "need --ca"),
        (["--since", "2020-01-01"], 1, "cannot be reached"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    words: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert SCRIPT.main(["resend", "--broker", f"{HOST}:{free_port()}", *words]) == code
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert line in told


def test_a_broker_that_knows_no_device_is_told(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    assert SCRIPT.main(["resend", "--broker", broker.address, "--since", "2020-01-01"]) == 1
    assert "knows no device" in capsys.readouterr().err
