"""Tokens are good once, certificates are renewed in their time, and a kill leaves all of it or nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine, func, select

from tests.walt_train.loop.identity.home import Hand
from walt_edge.contract.enrolment import Token
from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.identity.authority import Authority, DeviceCertificate, RequestError
from walt_train.loop.identity.registry import Issue, RefusedError, Registry, WrongTokenError, key_hash
from walt_train.loop.identity.tables import certificates, enrolment_tokens
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import open_database

A = DeviceTopics("north", "walt-a")


class Desk:
    """A registry with its authority, and devices that come to it."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.clock = Hand()
        self.authority = Authority.make(folder, self.clock)
        self.registry = Registry(engine, self.clock)
        self.engine = engine

    def token(self, device: str | None = None, site: str = "north", hours: float = 24.0) -> Token:
        return self.registry.make_token(self.authority.fingerprint, site, device, hours)

    def enrol(self, token: Token, key: ec.EllipticCurvePrivateKey, device: str | None = None) -> DeviceCertificate:
        given = self.registry.enrol(token, device, key_hash(key.public_key()), self.issue(key))
        return self.read(given)

    def renew(self, shown: DeviceCertificate, key: ec.EllipticCurvePrivateKey) -> DeviceCertificate:
        return self.read(self.registry.renew(shown, key_hash(key.public_key()), self.issue(key)))

    def issue(self, key: ec.EllipticCurvePrivateKey) -> Issue:
        return partial(self.authority.issue_device, public=key.public_key())

    def read(self, given: DeviceCertificate | str) -> DeviceCertificate:
        return self.authority.read_device(given) if isinstance(given, str) else given


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    engine = open_database(StoreConfig.local(tmp_path).database)
    yield Desk(engine, tmp_path / "ca")
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def shared_desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """Where several at once matter: on both databases."""
    config = StoreConfig.local(tmp_path)
    if request.param == "postgres":
        config = StoreConfig(request.getfixturevalue("database_url"), str(tmp_path))
    engine = open_database(config.database)
    yield Desk(engine, tmp_path / "ca")
    engine.dispose()


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_a_token_lets_one_device_in_once(shared_desk: Desk) -> None:
    desk = shared_desk
    token, first = desk.token(), key()
    given = desk.enrol(token, first, "walt-a")
    found = desk.registry.get("walt-a")
    assert found is not None
    assert (found.names, found.serial, found.revoked_us) == (A, given.serial, None)
    # The answer may have been lost: the same key gets the same certificate again, another key nothing.
    assert desk.enrol(token, first, "walt-a").serial == given.serial
    for other in (None, "walt-a", "walt-b"):
        with pytest.raises(RefusedError, match="was used"):
            desk.enrol(token, key(), other)
    assert desk.registry.all() == [found]


def test_nothing_of_a_token_is_kept_but_its_hash(desk: Desk) -> None:
    token = desk.token()
    with desk.engine.connect() as connection:
        (row,) = connection.execute(select(enrolment_tokens)).mappings()
    assert token.secret not in str(dict(row))


@pytest.mark.parametrize("wrong", ["id", "secret"])
def test_a_wrong_token_is_refused(desk: Desk, wrong: str) -> None:
    token = desk.token()
    bad = Token("0" * 16, token.secret, "") if wrong == "id" else Token(token.id, "0" * 64, "")
    with pytest.raises(WrongTokenError):
        desk.enrol(bad, key(), "walt-a")
    assert desk.enrol(token, key(), "walt-a")


@pytest.mark.parametrize(("day", "good"), [(0.99, True), (1.0, False), (30.0, False)])
def test_a_token_ends(desk: Desk, day: float, good: bool) -> None:
    token = desk.token(hours=24)
    desk.clock.day(day)
    if good:
        assert desk.enrol(token, key())
        return
    with pytest.raises(RefusedError, match="too old"):
        desk.enrol(token, key())
    assert desk.registry.all() == []


def test_who_has_no_id_gets_one_and_a_token_may_say_which(desk: Desk) -> None:
    assert desk.enrol(desk.token(), key()).names.device.startswith("walt-")
    assert desk.enrol(desk.token("walt-b"), key()).names.device == "walt-b"
    assert desk.enrol(desk.token("walt-c"), key(), "walt-c").names.device == "walt-c"
    with pytest.raises(RefusedError, match="is for walt-d"):
        desk.enrol(desk.token("walt-d"), key(), "walt-e")


def test_a_known_device_is_taken_over_only_by_a_token_that_names_it(desk: Desk) -> None:
    first = desk.enrol(desk.token(), key(), "walt-a")
    for site in ("north", "south"):
        with pytest.raises(RefusedError, match="enrolled already"):
            desk.enrol(desk.token(site=site), key(), "walt-a")
    second = desk.enrol(desk.token("walt-a", site="south"), key())
    assert second.names == DeviceTopics("south", "walt-a")
    # Whoever has the old disk has no identity any more, and the device is not silenced for it.
    revocations = desk.registry.revocations()
    assert [one.serial for one in revocations.certificates] == [first.serial]
    assert revocations.devices == ()
    desk.clock.day(31)
    with pytest.raises(RefusedError, match="revoked"):
        desk.renew(first, key())
    assert desk.renew(second, key()).names.site == "south"


RENEWALS = {
    0.0: "may be renewed from",
    29.0: "may be renewed from",
    29.99: "may be renewed from",
    30.0: "",
    60.0: "",
    89.0: "",
    91.0: "",
    269.0: "",
    269.99: "",
    270.0: "too long ago",
    271.0: "too long ago",
    4000.0: "too long ago",
}


@pytest.mark.parametrize("day", RENEWALS)
def test_when_a_certificate_is_renewed(desk: Desk, day: float) -> None:
    first = desk.enrol(desk.token(), key(), "walt-a")
    desk.clock.day(day)
    if RENEWALS[day]:
        with pytest.raises(RefusedError, match=RENEWALS[day]):
            desk.renew(first, key())
        return
    second = desk.renew(first, key())
    found = desk.registry.get("walt-a")
    assert found is not None
    assert found.serial == second.serial != first.serial
    assert (second.expires - desk.clock()).days == 90
    assert desk.registry.revocations().certificates == ()


def test_a_renewal_whose_answer_was_lost_is_given_again(desk: Desk) -> None:
    first, second = desk.enrol(desk.token(), key(), "walt-a"), key()
    desk.clock.day(40)
    given = desk.renew(first, second)
    desk.clock.day(41)
    assert desk.renew(first, second).serial == given.serial
    # And with another key, for a device that lost that too.
    assert desk.renew(first, key()).serial != given.serial


def test_a_renewal_takes_a_new_key(desk: Desk) -> None:
    old = key()
    first = desk.enrol(desk.token(), old, "walt-a")
    desk.clock.day(40)
    with pytest.raises(RefusedError, match="new key"):
        desk.renew(first, old)


def test_a_device_cannot_collect_certificates(desk: Desk) -> None:
    first = desk.enrol(desk.token(), key(), "walt-a")
    desk.clock.day(40)
    for _ in range(7):
        desk.renew(first, key())
    with pytest.raises(RefusedError, match="use the newest"):
        desk.renew(first, key())
    with desk.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(certificates)) == 8


def test_a_revoked_device_gets_nothing_until_a_token_names_it(shared_desk: Desk) -> None:
    desk = shared_desk
    token = desk.token()
    old = key()
    first = desk.enrol(token, old, "walt-a")
    desk.clock.day(40)
    second = desk.renew(first, key())
    assert desk.registry.revoke(A, "stolen")
    assert not desk.registry.revoke(A, "again")
    found = desk.registry.get("walt-a")
    assert found is not None
    assert found.revoked_us is not None
    assert found.revoked_reason == "stolen"
    revocations = desk.registry.revocations()
    assert {one.serial for one in revocations.certificates} == {first.serial, second.serial}
    assert revocations.devices == (A,)
    for shown in (first, second):
        desk.clock.day(75)
        with pytest.raises(RefusedError, match="is revoked"):
            desk.renew(shown, key())
    with pytest.raises(RefusedError, match="enrolled already"):
        desk.enrol(desk.token(), key(), "walt-a")
    third = desk.enrol(desk.token("walt-a"), key())
    assert desk.registry.revocations().devices == ()
    desk.clock.day(110)
    assert desk.renew(third, key())


def test_a_spent_token_does_not_undo_a_revocation(desk: Desk) -> None:
    token, old = desk.token(), key()
    desk.enrol(token, old, "walt-a")
    desk.registry.revoke(A, "stolen")
    with pytest.raises(RefusedError, match="no longer counts"):
        desk.enrol(token, old, "walt-a")


@pytest.mark.parametrize("names", [DeviceTopics("north", "walt-b"), DeviceTopics("south", "walt-a")])
def test_only_a_known_device_is_revoked(desk: Desk, names: DeviceTopics) -> None:
    desk.enrol(desk.token(), key(), "walt-a")
    with pytest.raises(UsageError, match="no device"):
        desk.registry.revoke(names, "stolen")


def test_what_is_of_no_use_any_more_goes(desk: Desk) -> None:
    desk.enrol(desk.token(), key(), "walt-a")
    desk.clock.day(269)
    desk.registry.forget_old()
    with desk.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(certificates)) == 1
        assert connection.scalar(select(func.count()).select_from(enrolment_tokens)) == 0
    desk.clock.day(271)
    desk.registry.forget_old()
    with desk.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(certificates)) == 0
    assert desk.registry.get("walt-a") is not None


def test_an_expired_certificate_needs_no_revocation(desk: Desk) -> None:
    desk.enrol(desk.token(), key(), "walt-a")
    desk.registry.revoke(A, "stolen")
    desk.clock.day(91)
    revocations = desk.registry.revocations()
    assert (revocations.certificates, revocations.devices) == ((), (A,))


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_token_without_an_end_is_not_made(desk: Desk, hours: float) -> None:
    with pytest.raises(UsageError, match="hours"):
        desk.token(hours=hours)


def test_a_token_for_a_name_that_fits_no_certificate_is_not_made(desk: Desk) -> None:
    with pytest.raises(RequestError, match="64"):
        desk.token(site="s" * 60)


def test_many_at_once_with_one_token_are_one_device(shared_desk: Desk) -> None:
    desk = shared_desk
    token, keys = desk.token(), [key() for _ in range(6)]

    def come(one: ec.EllipticCurvePrivateKey) -> str:
        try:
            return desk.enrol(token, one).serial
        except RefusedError:
            return ""

    with ThreadPoolExecutor(6) as pool:
        serials = list(pool.map(come, keys))
    assert len([serial for serial in serials if serial]) == 1
    assert len(desk.registry.all()) == 1


def test_two_tokens_for_one_id_make_one_device(shared_desk: Desk) -> None:
    desk = shared_desk
    tokens = [desk.token() for _ in range(6)]

    def come(token: Token) -> str:
        try:
            return desk.enrol(token, key(), "walt-a").serial
        except RefusedError:
            return ""

    with ThreadPoolExecutor(6) as pool:
        assert len([serial for serial in pool.map(come, tokens) if serial]) == 1


def _killed(work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


def test_a_kill_in_the_middle_leaves_the_token_as_it_was(tmp_path: Path) -> None:
    config = StoreConfig.local(tmp_path)
    desk = Desk(open_database(config.database), tmp_path / "ca")
    token, one = desk.token(), key()

    def dies(names: DeviceTopics) -> DeviceCertificate:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def work(issue: Issue, dies_after: bool) -> None:
        registry = Registry(open_database(config.database), desk.clock)
        registry.enrol(token, "walt-a", key_hash(one.public_key()), issue)
        if dies_after:
            os.kill(os.getpid(), signal.SIGKILL)

    desk.engine.dispose()
    _killed(lambda: work(dies, dies_after=False))
    assert desk.registry.all() == []
    desk.engine.dispose()
    _killed(lambda: work(desk.issue(one), dies_after=True))
    (found,) = desk.registry.all()
    assert desk.enrol(token, one, "walt-a").serial == found.serial
    desk.engine.dispose()
