"""The broker as it is deployed: devices with a certificate get in, strangers do not, and it hears who is revoked."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import HOST as LOOPBACK
from tests.deploy.deployed import RUN, running, set_up
from tests.waiting import wait_for
from tests.walt_train.loop.identity.home import Caller, House
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.arguments import HOME
from walt_train.loop.identity.authority import Authority, Revoked, utc_now
from walt_train.loop.identity.mosquitto import Revocations
from walt_train.loop.identity.pairs import keep_server

A, B = DeviceTopics("north", "walt-a"), DeviceTopics("north", "walt-b")
TAKEN = ("Success", "No matching subscribers")

pytestmark = [
    pytest.mark.skipif(
        shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") is None,
        reason="mosquitto is not here: apt-get install mosquitto",
    ),
    pytest.mark.filterwarnings(
        # paho leaves a socket whose handshake failed to the garbage collector, which closes it and says so.
        "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
    ),
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return set_up(tmp_path_factory.mktemp("deployed"))


@pytest.fixture(scope="module")
def broker(house: House) -> Iterator[subprocess.Popen[bytes]]:
    with running(house) as process:
        yield process


def at_the_door(house: House, pem: Path | None) -> Caller:
    return Caller(house, pem, house.address.port, "any")


def shown(house: House, pem: Path) -> bytes:
    """The certificate that the broker shows."""
    context = ssl.create_default_context(cafile=str(house.authority.folder / "home-ca.pem"))
    context.load_cert_chain(pem)
    with (
        socket.create_connection((LOOPBACK, house.address.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=LOOPBACK) as sealed,
    ):
        return sealed.getpeercert(True) or b""


def test_a_device_gets_in_and_a_stranger_does_not(house: House, broker: subprocess.Popen[bytes]) -> None:
    with at_the_door(house, house.device("north", "walt-a")[0]) as device:
        assert device.is_in
        assert device.say(A.status) in TAKEN
        assert device.say(B.status) == "Not authorized"
    foreign = house.device("north", "walt-a", Authority.make(house.folder / "elsewhere"))[0]
    for stranger in (None, foreign, house.worker(HOME)):
        with at_the_door(house, stranger) as caller:
            assert not caller.is_in, stranger
    with Caller(house, house.device("north", "walt-a")[0], house.address.workers_port, "any") as caller:
        assert not caller.is_in


def test_who_is_revoked_is_silenced_and_the_others_stay(house: House, broker: subprocess.Popen[bytes]) -> None:
    (pem, certificate), (other, _) = house.device("north", "walt-a"), house.device("north", "walt-b")
    with at_the_door(house, pem) as thief, at_the_door(house, other) as honest:
        assert thief.say(A.status) in TAKEN
        # As walt-loop identity writes it, in another container than the broker's: nobody signals anybody.
        house.files.revoke(Revocations((Revoked(certificate.serial, utc_now()),), (A,)))
        wait_for(lambda: thief.say(A.status) == "Not authorized")
        assert honest.say(B.status) in TAKEN
        assert honest.is_in
    with at_the_door(house, pem) as again:
        assert not again.is_in


def test_a_renewed_certificate_is_shown_without_a_restart(house: House, broker: subprocess.Popen[bytes]) -> None:
    path = house.files.folder / "broker.pem"
    pem = house.device("north", "walt-b")[0]
    before = shown(house, pem)
    path.unlink()
    assert keep_server(house.authority, path, house.address.broker_names, utc_now())
    wait_for(lambda: shown(house, pem) != before)
    assert broker.poll() is None
    with at_the_door(house, pem) as device:
        assert device.is_in


def test_a_new_configuration_ends_it_for_its_supervisor(tmp_path: Path) -> None:
    house = set_up(tmp_path / "home")
    with running(house) as broker:
        conf = house.files.folder / "mosquitto.conf"
        conf.write_text(f"{conf.read_text()}# another listener\n")
        assert broker.wait(30) == 0


def test_what_a_device_was_promised_outlives_the_broker(tmp_path: Path) -> None:
    house = set_up(tmp_path / "home")
    pem = house.device("north", "walt-a")[0]
    with running(house) as broker:
        with Caller(house, house.worker(HOME), house.address.workers_port, "h") as home:
            assert home.say(A.desired, b"{}", retain=True) in TAKEN
        # SIGUSR1 has it write what it keeps, which it does by itself every minute and at its end.
        broker.send_signal(signal.SIGUSR1)
        wait_for(lambda: (house.files.folder / "data" / "mosquitto.db").exists())
        broker.kill()
        broker.wait(30)
    with running(house), at_the_door(house, pem) as device:
        device.hear(A.desired)
        wait_for(lambda: A.desired in device.got)


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    ended = subprocess.run(["sh", str(RUN), str(tmp_path)], capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "walt-loop broker writes it" in ended.stderr


def test_the_script_is_plain_sh() -> None:
    text = RUN.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert not re.search(r"\[\[|<<<|\$\{\w+/|local ", text)  # the broker's image has busybox
    assert subprocess.run(["sh", "-n", str(RUN)], check=False).returncode == 0
