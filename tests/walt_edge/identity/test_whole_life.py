"""A device's life with everything real: desk, Mosquitto with mutual TLS, ingest, uplink, `walt-edge` itself."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.envelopes import sealed
from tests.material import ROOT
from tests.waiting import wait_for
from tests.walt_train.loop.identity.home import SETTLED_S, Caller, Hand, House, Served, serving
from walt_edge.config import Endpoint, Home
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Info
from walt_edge.contract.topics import DeviceTopics
from walt_edge.doctor import State
from walt_edge.doctor.enrolment import check_certificate
from walt_edge.doctor.network import check_broker
from walt_edge.identity.credentials import Credentials
from walt_edge.identity.enrolling import enrol
from walt_edge.identity.renewal import Renewal
from walt_edge.identity.using import device_of, endpoint_of
from walt_edge.settings.tree import AgentConfig
from walt_edge.spool.spool import Spool
from walt_edge.uplink.uplink import Uplink, UplinkSettings
from walt_train.loop.broker.arguments import GROUP_FILE, HOME, INGEST
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.ingest.ingest import Ingest, IngestConfig
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store

pytestmark = pytest.mark.filterwarnings(
    # paho leaves a socket whose handshake failed to the garbage collector, which closes it and says so.
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning",
)
EDGE = [sys.executable, "-c", "from walt_edge.cli import main; main()"]
INFO = Info(version="1", camera="cam-1", machine="test", python="3.11", anonymiser="test")
FAST = UplinkSettings(reconnect_min_s=0.05, reconnect_max_s=0.3)


def days_ago(days: float) -> Hand:
    """Mosquitto looks at the real clock; so what is to be old is made in the past."""
    return Hand(datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days))


@contextmanager
def ingesting(house: House, folder: Path) -> Iterator[Store]:
    """Home's ingest at its own door, with its own certificate and its secret group."""
    pem = house.worker(INGEST)
    address = house.address
    broker = BrokerConfig(
        address.workers_host, address.workers_port, "ingest-1", pem.parent / "home-ca.pem", pem, pem
    )
    group = (pem.parent / GROUP_FILE).read_text().strip()
    with Store(StoreConfig.local(folder)) as store:
        ingest = Ingest(store, IngestConfig(broker, group=group))
        thread = threading.Thread(target=ingest.run)
        thread.start()
        try:
            assert ingest.connected.wait(SETTLED_S)
            yield store
        finally:
            ingest.stop()
            thread.join()


def enrolled(served: Served, path: Path) -> DeviceTopics:
    with Home(path) as home:
        given = enrol(home, served.url, served.token())
    return DeviceTopics(given.site, given.device)


@pytest.mark.parametrize(
    ("day", "before", "after"),
    [
        (29.0, True, "the old one"),
        (30.1, True, "a new one"),
        (91.0, False, "a new one"),
        (269.0, False, "a new one"),
        (271.0, False, "none"),
    ],
)
def test_crops_come_home_on_any_day(tmp_path: Path, day: float, before: bool, after: str) -> None:
    hand, path = days_ago(day), tmp_path / "walt"
    with serving(tmp_path, clock=hand) as served:
        names, config = enrolled(served, path), AgentConfig(home=path)
        old = Credentials(path).read()
        assert old is not None
        hand.now = datetime.datetime.now(datetime.UTC)
        served.house.files.write(served.registry.revocations())
        with served.house.start_broker(), ingesting(served.house, tmp_path / "store") as store, Spool(path) as spool:
            spool.accept(sealed(1, site=names.site, device=names.device))
            uplink = Uplink(endpoint_of(config), names, spool, "boot-1", INFO, FAST)
            renewal = Renewal(path, lambda: setattr(uplink, "endpoint", endpoint_of(config)))
            uplink.certificate = renewal.state
            uplink.start()
            try:
                if before:
                    assert uplink.wait_drained(SETTLED_S)
                renewal.turn()
                spool.accept(sealed(2, site=names.site, device=names.device))
                uplink.notify()
                if after == "none":
                    assert not uplink.connected
                    assert spool.counts().depth == 2
                else:
                    assert uplink.wait_drained(2 * SETTLED_S)
                    assert store.counts().crops == 2
            finally:
                uplink.stop()
        new = Credentials(path).read()
        assert (new != old) is (after == "a new one")


def test_the_next_connection_shows_the_new_certificate(tmp_path: Path) -> None:
    hand, path = days_ago(40), tmp_path / "walt"
    with serving(tmp_path, clock=hand) as served:
        names, config = enrolled(served, path), AgentConfig(home=path)
        hand.now = datetime.datetime.now(datetime.UTC)
        served.house.files.write(served.registry.revocations())
        with served.house.start_broker() as broker, Spool(path) as spool:
            uplink = Uplink(endpoint_of(config), names, spool, "boot-1", INFO, FAST)
            uplink.start()
            try:
                assert uplink.wait_connected(SETTLED_S)
                first = uplink.endpoint
                renewal = Renewal(path, lambda: setattr(uplink, "endpoint", endpoint_of(config)))
                renewal.turn()
                assert uplink.endpoint != first
                assert uplink.connected  # what stands is not cut
                connects = uplink.stats.connects
                broker.restart()
                wait_for(lambda: uplink.stats.connects > connects and uplink.connected, SETTLED_S)
                assert first.tls is not None
                assert first.tls.cert is not None
                assert not first.tls.cert.exists()
            finally:
                uplink.stop()


# -- what is said explicitly goes before ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("home")) as served:
        yield served


def test_explicit_options_win_and_an_address_alone_takes_no_encryption_away(home: Served, tmp_path: Path) -> None:
    path = tmp_path / "walt"
    enrolled(home, path)
    pem = tmp_path / "other.pem"
    pem.write_text("x")

    def of(**broker: object) -> Endpoint:
        return endpoint_of(AgentConfig.model_validate({"home": path, "broker": broker}))

    chosen = of()
    assert str(chosen) == home.house.address.broker
    assert chosen.tls is not None
    assert chosen.tls.cert == chosen.tls.key
    assert (str(of(address="other:1883")), of(address="other:1883").tls) == ("other:1883", chosen.tls)
    assert of(tls=False).tls is None
    assert of(ack_timeout_s=5.0).tls == chosen.tls
    explicit = of(ca=pem).tls
    assert explicit is not None
    assert (explicit.ca, explicit.cert) == (pem, None)
    assert endpoint_of(AgentConfig(home=tmp_path / "bare")).tls is None


def test_an_agent_is_who_its_certificate_says(home: Served, tmp_path: Path) -> None:
    path = tmp_path / "walt"
    names = enrolled(home, path)
    (path / "device.json").unlink()
    with Home(path) as folder:
        found = device_of(folder, AgentConfig(home=path), "gate")
        assert (found.site, found.device, found.camera) == (names.site, names.device, "gate")
        with pytest.raises(UsageError, match="enrolled for the site north"):
            device_of(folder, AgentConfig(home=path, site="south"), None)
        assert device_of(folder, AgentConfig(home=path, site="north"), None).site == "north"


# -- the doctor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "state", "said"),
    [
        (0.5, State.OK, "89 days left"),
        (45.0, State.OK, "44 days left"),
        (70.0, State.WARN, "could have been renewed since"),
        (100.0, State.FAIL, "expired"),
        (300.0, State.FAIL, "walt-loop enroll --site north --device"),
    ],
)
def test_the_doctor_tells_how_long_it_lasts(tmp_path: Path, day: float, state: State, said: str) -> None:
    with serving(tmp_path, clock=days_ago(day)) as served:
        enrolled(served, tmp_path / "walt")
    (found,) = check_certificate(AgentConfig(home=tmp_path / "walt"))
    assert found.state is state
    assert said in f"{found.text} {found.remedy}"


def test_the_doctor_on_a_device_that_is_not_enrolled_or_damaged(home: Served, tmp_path: Path) -> None:
    (found,) = check_certificate(AgentConfig(home=tmp_path / "bare"))
    assert (found.state, "walt-edge enroll" in found.text) == (State.OK, True)
    enrolled(home, tmp_path / "walt")
    (tmp_path / "walt" / "credentials" / "enrolled.json").write_text("{")
    (found,) = check_certificate(AgentConfig(home=tmp_path / "walt"))
    assert found.state is State.FAIL
    (broker,) = check_broker(AgentConfig(home=tmp_path / "walt"))
    assert broker.state is State.FAIL


# -- as a person does it ----------------------------------------------------------------------------------------


def walt_edge(*words: object, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGE, *map(str, words)], input=given, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )


def test_enrol_and_run_without_a_word_about_tls(home: Served, tmp_path: Path) -> None:
    path, film, token = tmp_path / "walt", tmp_path / "film", home.token()
    film.mkdir()
    for number in range(3):
        cv2.imwrite(str(film / f"{number}.png"), np.full((120, 160, 3), 90 + number, np.uint8))
    done = walt_edge("enroll", home.url, "--token-file", "-", "--home", path, given=f"{token}\n")
    assert done.returncode == 0, done.stderr
    names = Credentials(path).read()
    assert names is not None
    assert f"this device is north/{names.device}" in done.stdout
    topics = DeviceTopics("north", names.device)
    with (
        home.house.start_broker(),
        Caller(home.house, home.house.worker(HOME), home.house.address.workers_port, "h") as us,
    ):
        us.hear("walt/v1/+/+/#")
        ran = walt_edge("run", "--input", film, "--home", path, "--drain-s", "1")
        assert ran.returncode == 0, ran.stderr
        wait_for(lambda: {topics.status, topics.info, topics.telemetry} <= set(us.got), SETTLED_S)
        assert all(topic.startswith(f"walt/v1/north/{names.device}/") for topic in us.got)
        found = list(check_broker(AgentConfig(home=path)))
    assert [one.state for one in found] == [State.OK] * len(found), found
    assert token.secret not in done.stderr + done.stdout + ran.stderr


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (("https://127.0.0.1:1", "walt1.x"), "", "this is no token"),
        (("https://127.0.0.1:1",), "", "this is no token"),
        (("https://127.0.0.1:1", "--token-file", "/absent"), "", "cannot be read"),
        (("https://127.0.0.1:1", f"walt1.{'0' * 16}.{'1' * 64}.{'2' * 64}"), "", "cannot be reached"),
        (("http://127.0.0.1:1", f"walt1.{'0' * 16}.{'1' * 64}.{'2' * 64}"), "", "https://HOST:PORT"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, words: tuple[str, ...], given: str, said: str) -> None:
    done = walt_edge("enroll", *words, "--home", tmp_path / "walt", given=given)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "1" * 64 not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else's")
def test_root_does_not_enrol_for_somebody_else(home: Served, tmp_path: Path) -> None:
    path = tmp_path / "walt"
    path.mkdir()
    os.chown(path, 65534, -1)
    done = walt_edge("enroll", home.url, home.token(), "--home", path)
    assert done.returncode == 2
    assert "sudo -u" in done.stderr
