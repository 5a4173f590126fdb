"""Home's side as a person sets it up: broker, desk, token, revocation; and what keeps it from expiring."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from tests.broker import HOST, Broker, free_port
from tests.material import ROOT
from tests.waiting import wait_for
from tests.walt_train.loop.identity.home import SETTLED_S, Caller, Hand, House, p256
from walt_edge.contract.topics import DeviceTopics
from walt_edge.identity.credentials import Credentials
from walt_train.loop.broker.arguments import HOME
from walt_train.loop.identity.authority import Authority
from walt_train.loop.identity.mosquitto import Address, BrokerFiles
from walt_train.loop.identity.registry import Registry, key_hash
from walt_train.loop.identity.upkeep import Household, Upkeep
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import open_database

LOOP = [sys.executable, "-c", "from walt_train.loop.cli import main; main()"]
EDGE = [sys.executable, "-c", "from walt_edge.cli import main; main()"]


def run(script: list[str], *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*script, *map(str, words)], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )


@contextmanager
def identity(*words: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*LOOP, "identity", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("https://")
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_from_nothing_to_a_revoked_device(tmp_path: Path) -> None:
    home, device = tmp_path / "loop", tmp_path / "walt"
    where = ("--store", tmp_path / "store", "--home", home)
    ports = ("--port", free_port(), "--workers-port", free_port(), "--enroll-port", free_port())
    made = run(LOOP, "broker", *where, "--host", HOST, "--listen", HOST, "--user", "root", *ports)
    assert made.returncode == 0, made.stderr
    address = Address.read(home / "identity")
    with Broker(home / "mosquitto", HOST, address.port) as broker, identity(*where, "--listen", HOST):
        broker.restart()
        line = run(LOOP, "enroll", *where, "--site", "north").stdout.split()
        assert line[:2] == ["walt-edge", "enroll"]
        done = run(EDGE, *line[1:], "--home", device)
        assert done.returncode == 0, done.stderr
        credentials = Credentials(device)
        enrolled = credentials.read()
        assert enrolled is not None
        house = House(home, Authority(home / "identity"), address, BrokerFiles(Authority(home / "identity"), address))
        topics = DeviceTopics(enrolled.site, enrolled.device)
        pem = credentials.folder / enrolled.certificate
        with (
            Caller(house, pem, address.port, "device") as caller,
            Caller(house, house.worker(HOME), address.workers_port, "home") as worker,
        ):
            assert worker.is_in
            assert caller.say(topics.status) in ("Success", "No matching subscribers")
            name = f"{topics.site}/{topics.device}"
            revoked = run(LOOP, "revoke", name, "--reason", "stolen", *where)
            assert "the broker refuses it from now on" in revoked.stdout, revoked.stderr
            wait_for(lambda: caller.say(topics.status) == "Not authorized", SETTLED_S)
        again = run(LOOP, "enroll", *where, "--site", "north", "--device", topics.device)
        assert "was revoked and is replaced" in again.stderr
        # Writing all anew forgets nobody.
        run(LOOP, "broker", *where, "--host", HOST, "--listen", HOST, "--user", "root", *ports)
        with Caller(house, pem, address.port, "device") as caller:
            assert caller.state.startswith("lost")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("enroll", "--site", "north"), "walt-loop broker makes one"),
        (("identity",), "walt-loop broker makes one"),
        (("revoke", "north/walt-a", "--reason", "x"), "walt-loop broker makes one"),
        (("revoke", "walt-a", "--reason", "x"), "SITE/DEVICE"),
        (("broker", "--host", "a b"), "host name"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = run(LOOP, *words, "--store", tmp_path / "store", "--home", tmp_path / "loop")
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# -- unattended -------------------------------------------------------------------------------------------------


@pytest.fixture
def unattended(tmp_path: Path) -> Iterator[tuple[Hand, Registry, Household, Upkeep]]:
    hand = Hand()
    house = House.build(tmp_path / "house", hand)
    engine = open_database(StoreConfig.local(tmp_path).database)
    registry = Registry(engine, hand)
    household = Household(tmp_path / "house", house.authority, house.address, house.files, hand)
    yield hand, registry, household, Upkeep(registry, household, hand)
    engine.dispose()


def crl(household: Household) -> x509.CertificateRevocationList:
    assert household.broker is not None
    return x509.load_pem_x509_crl((household.broker.folder / "devices.crl").read_bytes())


def test_lists_and_certificates_do_not_expire(unattended: tuple[Hand, Registry, Household, Upkeep]) -> None:
    hand, _, household, upkeep = unattended
    assert upkeep.turn()  # the server's certificate is new
    renewed = 0
    for day in range(0, 1500, 20):
        hand.day(day + 1.1)
        renewed += upkeep.turn()
        until = crl(household).next_update_utc
        assert until is not None
        assert until - hand.now > datetime.timedelta(days=29)
        for path in (household.server, household.broker.folder / "broker.pem" if household.broker else Path()):
            found = x509.load_pem_x509_certificate(path.read_bytes())
            assert found.not_valid_after_utc - hand.now > datetime.timedelta(days=200)
    assert renewed in (2, 3)


def test_a_revocation_made_elsewhere_reaches_the_broker(
    unattended: tuple[Hand, Registry, Household, Upkeep], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, registry, household, upkeep = unattended
    told: list[bool] = []

    def reload(_: BrokerFiles) -> bool:
        told.append(True)
        return True

    monkeypatch.setattr(BrokerFiles, "reload", reload)
    upkeep.turn()
    upkeep.turn()
    assert told == [True]
    key = p256().public_key()
    token = registry.make_token(household.authority.fingerprint, "north")
    registry.enrol(token, "walt-a", key_hash(key), lambda names: household.authority.issue_device(names, key))
    registry.revoke(DeviceTopics("north", "walt-a"), "stolen")
    upkeep.turn()
    assert told == [True, True]
    assert len(list(crl(household))) == 1


def test_a_disk_that_is_full_ends_nothing(
    unattended: tuple[Hand, Registry, Household, Upkeep],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hand, _, household, upkeep = unattended
    upkeep.turn()
    hand.day(2)
    monkeypatch.setattr(
        "walt_train.loop.identity.mosquitto.write_whole",
        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    upkeep.turn()
    assert "No space left on device" in caplog.text
    monkeypatch.undo()
    upkeep.turn()
    until = crl(household).next_update_utc
    assert until is not None
    assert until - hand.now > datetime.timedelta(days=29)
