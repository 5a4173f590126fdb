"""A device enrols at a real home and renews in its time, whatever is lost on the way."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.killing import kill_at_every_step
from tests.walt_train.loop.identity.home import Hand, Served, p256, serving
from walt_edge.config import Home, HomeError
from walt_edge.contract.enrolment import Credentials as Given
from walt_edge.contract.enrolment import RenewRequest, Token
from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import DeviceTopics
from walt_edge.identity.credentials import Credentials, Enrolled, IdentityError, make_request
from walt_edge.identity.enrolling import enrol
from walt_edge.identity.office import Office, RefusedError, fetch_ca
from walt_edge.identity.renewal import Renewal, renew
from walt_train.loop.identity.authority import serial_text


@dataclass
class Device:
    """An agent's folder, and the home that it belongs to."""

    path: Path
    served: Served
    hand: Hand

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.path)

    @property
    def enrolled(self) -> Enrolled:
        enrolled = self.credentials.read()
        assert enrolled is not None
        return enrolled

    @property
    def serial(self) -> str:
        return serial_text(self.credentials.certificate(self.enrolled).whole)

    def enrol(self, token: Token | None = None) -> Enrolled:
        with Home(self.path) as home:
            return enrol(home, self.served.url, token or self.served.token())

    def renew(self) -> Enrolled | None:
        return renew(self.credentials, self.hand)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Hand]]:
    hand = Hand()
    with serving(tmp_path_factory.mktemp("home"), clock=hand) as served:
        yield served, hand


@pytest.fixture
def device(home: tuple[Served, Hand], tmp_path: Path) -> Device:
    served, hand = home
    hand.day(0)
    return Device(tmp_path / "walt", served, hand)


def test_a_device_becomes_known(device: Device) -> None:
    enrolled = device.enrol()
    assert enrolled.site == "north"
    assert enrolled.broker == device.served.house.address.broker
    known = device.served.registry.get(enrolled.device)
    assert known is not None
    assert known.serial == device.serial
    with Home(device.path) as home:
        assert (home.device().device, home.device().site) == (enrolled.device, "north")
    assert device.credentials.folder.stat().st_mode & 0o777 == 0o700
    files = list(device.credentials.folder.iterdir())
    assert len(files) == 3
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_an_id_survives_enrolments(device: Device) -> None:
    with Home(device.path) as home:
        own = home.device("elsewhere").device
    first = device.enrol()
    assert (first.device, first.site) == (own, "north")
    second = device.enrol(device.served.registry.make_token(device.served.house.authority.fingerprint, "south", own))
    assert (second.device, second.site) == (own, "south")
    with pytest.raises(RefusedError, match="enrolled already"):
        device.enrol()
    assert device.enrolled == second


def test_a_new_machine_takes_the_id_that_its_token_names(device: Device) -> None:
    token = device.served.registry.make_token(device.served.house.authority.fingerprint, "north", "walt-gate-7")
    assert device.enrol(token).device == "walt-gate-7"


def test_a_home_that_is_not_the_tokens_is_told_nothing(device: Device) -> None:
    good = device.served.token()
    with pytest.raises(IdentityError, match="another certificate authority"):
        device.enrol(Token(good.id, good.secret, "0" * 64))
    assert device.credentials.read() is None
    assert device.enrol(good)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "127.0.0.1:1",
        "https://",
        "https://u:p@h:1",
        "https://h:1/x",
        "https://h:1?x",
        "https://h:x",
    ],
)
def test_an_address_that_is_none(device: Device, url: str) -> None:
    with Home(device.path) as home, pytest.raises(UsageError, match="https://HOST:PORT"):
        enrol(home, url, device.served.token())


def test_a_name_that_the_servers_certificate_does_not_have_is_not_believed(device: Device) -> None:
    ca = fetch_ca(device.served.url, device.served.house.authority.fingerprint)
    office = Office(device.served.url.replace("127.0.0.1", "localhost"), ca)
    with pytest.raises(IdentityError, match="cannot be reached"):
        office.nonce()


DAYS = {0.0: False, 29.0: False, 29.9: False, 30.1: True, 60.0: True, 89.0: True, 91.0: True, 269.0: True}


@pytest.mark.parametrize("day", DAYS)
def test_when_it_renews(device: Device, day: float) -> None:
    device.enrol()
    first = device.serial
    device.hand.day(day)
    assert (device.renew() is not None) is DAYS[day]
    assert (device.serial != first) is DAYS[day]
    known = device.served.registry.get(device.enrolled.device)
    assert known is not None
    assert known.serial == device.serial
    assert device.renew() is None


@pytest.mark.parametrize("day", [270.1, 271.0, 1000.0])
def test_after_too_long_it_must_be_enrolled_anew(device: Device, day: float) -> None:
    device.enrol()
    device.hand.day(day)
    with pytest.raises(IdentityError, match="enrol anew"):
        device.renew()
    known = device.served.registry
    token = known.make_token(device.served.house.authority.fingerprint, "north", device.enrolled.device)
    device.enrol(token)
    assert device.renew() is None


@pytest.mark.parametrize("year", [1970, 2000, 2090])
def test_a_clock_that_is_far_off_renews_when_home_says_so(device: Device, year: int) -> None:
    device.enrol()
    wrong = Hand(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC))
    first = device.serial
    device.hand.day(10)
    assert renew(device.credentials, wrong) is None
    device.hand.day(31)
    assert renew(device.credentials, wrong) is not None
    assert device.serial != first


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_answers_that_get_lost_brick_nothing(device: Device, monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    device.enrol()
    first = device.serial
    device.hand.day(31)
    ask = Office.renew

    def loses(self: Office, asked: RenewRequest) -> Given:
        ask(self, asked)
        raise IdentityError("the connection broke")

    monkeypatch.setattr(Office, "renew", loses)
    for _ in range(lost):
        with pytest.raises(IdentityError, match="broke"):
            device.renew()
    assert device.serial == first
    monkeypatch.undo()
    assert device.renew() is not None
    known = device.served.registry.get(device.enrolled.device)
    assert known is not None
    assert known.serial == device.serial  # one new certificate, however often it was asked for


def test_an_enrolment_whose_answer_gets_lost_is_done_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    token, ask = device.served.token(), Office.enrol

    def loses(self: Office, asked: object) -> Given:
        ask(self, asked)  # type: ignore[arg-type]
        raise IdentityError("the connection broke")

    monkeypatch.setattr(Office, "enrol", loses)
    with pytest.raises(IdentityError, match="broke"):
        device.enrol(token)
    monkeypatch.undo()
    assert device.enrol(token).site == "north"


def test_a_revoked_device_is_told(device: Device) -> None:
    enrolled = device.enrol()
    device.served.registry.revoke(DeviceTopics(enrolled.site, enrolled.device), "stolen")
    device.hand.day(31)
    with pytest.raises(RefusedError, match="is revoked"):
        device.renew()
    assert device.enrolled == enrolled


def test_what_home_gives_must_be_what_was_asked_for(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.enrol()
    before = device.enrolled
    device.hand.day(31)
    authority = device.served.house.authority
    names = DeviceTopics(before.site, before.device)
    for certificate in (
        authority.issue_device(names, p256().public_key()).pem.decode(),
        authority.home_pem.decode(),
        "",
        "-----BEGIN CERTIFICATE-----\n",
    ):
        given = Given(site=names.site, device=names.device, certificate=certificate, broker="evil:1")
        monkeypatch.setattr(Office, "renew", lambda _self, _asked, given=given: given)
        with pytest.raises(IdentityError, match="home gave"):
            device.renew()
        assert device.enrolled == before


def test_a_renewal_does_not_change_where_home_is(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.enrol()
    before, ask = device.enrolled, Office.renew
    device.hand.day(31)

    def moves(self: Office, asked: RenewRequest) -> Given:
        given = ask(self, asked)
        return Given(site=given.site, device=given.device, certificate=given.certificate, broker="evil:1")

    monkeypatch.setattr(Office, "renew", moves)
    assert device.renew() is not None
    assert (device.enrolled.broker, device.enrolled.url, device.enrolled.ca) == (before.broker, before.url, before.ca)


# -- by itself --------------------------------------------------------------------------------------------------


def test_it_looks_daily_and_after_a_failure_sooner(device: Device) -> None:
    device.enrol()
    used: list[str] = []
    renewal = Renewal(device.path, lambda: used.append(device.serial), clock=device.hand)
    assert 0.7 * 86_400 < renewal.turn() < 1.3 * 86_400
    assert used == []
    state = renewal.state()
    assert state is not None
    assert (round(state.days_left), state.trouble) == (90, False)
    device.hand.day(31)
    assert renewal.turn() > 60_000
    assert used == [device.serial]
    state = renewal.state()
    assert state is not None
    assert round(state.days_left) == 90


def test_a_home_that_cannot_be_reached_is_logged_and_told(
    device: Device, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.enrol()
    device.hand.day(60)
    monkeypatch.setattr(Office, "nonce", lambda _: (_ for _ in ()).throw(IdentityError("cannot be reached")))
    renewal = Renewal(device.path, lambda: None, clock=device.hand)
    waits = [renewal.turn() for _ in range(12)]
    assert waits[0] <= 60
    assert 3 * 3600 <= waits[-1] <= 6 * 3600
    assert "cannot renew this device's certificate: cannot be reached" in caplog.text
    monkeypatch.undo()
    assert renewal.turn() > 60_000
    state = renewal.state()
    assert state is not None
    assert not state.trouble


# -- on the disk ------------------------------------------------------------------------------------------------


def test_a_kill_leaves_the_old_certificate_or_the_new_one(device: Device, tmp_path: Path) -> None:
    authority, names = device.served.house.authority, DeviceTopics("north", "walt-a")
    ca = authority.home_pem.decode()
    bare = Enrolled(url="https://h:1", broker="h:1", site="north", device="walt-a", ca="-", certificate="-")
    steps = 0

    def prepare() -> Callable[[], object]:
        credentials = Credentials(tmp_path / str(steps))
        old = credentials.next_key()
        credentials.keep(bare, ca, authority.issue_device(names, old.public_key()).pem.decode(), old)
        new = credentials.next_key(old)
        pem = authority.issue_device(names, new.public_key()).pem.decode()
        return lambda: credentials.keep(bare, ca, pem, new)

    for step in kill_at_every_step(prepare):
        credentials = Credentials(tmp_path / str(steps))
        enrolled = credentials.read()
        assert enrolled is not None
        certificate, key = credentials.certificate(enrolled), credentials.key(enrolled)
        assert certificate.whole.public_key() == key.public_key()
        assert credentials.tls(enrolled).cert is not None
        # A key that counts already is not asked for again.
        assert credentials.next_key(key).public_key() != key.public_key()
        steps = step
    assert steps > 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("enrolled.json", b"{}"),
        ("enrolled.json", b"\xff"),
        ("enrolled.json", b"[" * 100_000),
        (
            "enrolled.json",
            b'{"url":"https://h:1","broker":"h:1","site":"n","device":"d","ca":"../x","certificate":"c.pem"}',
        ),
        ("ca", b"nothing"),
        ("certificate", b"nothing"),
        ("certificate", b""),
    ],
)
def test_what_is_damaged_is_told(device: Device, name: str, content: bytes) -> None:
    enrolled = device.enrol()
    device.hand.day(31)
    (device.credentials.folder / getattr(enrolled, name, name)).write_bytes(content)
    with pytest.raises(IdentityError):
        device.renew()


def test_a_device_that_is_another_now_is_not_adopted(device: Device) -> None:
    device.enrol()
    with Home(device.path) as home, pytest.raises(HomeError, match="walt-edge enroll"):
        home.adopt("walt-other", "north")


def test_a_request_says_nothing_of_the_device() -> None:
    from cryptography import x509

    assert list(x509.load_pem_x509_csr(make_request(p256()).encode()).subject) == []
