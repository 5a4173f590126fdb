"""The broker from the written configuration: a real Mosquitto, and everybody who tries what is not theirs."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.broker import Broker
from tests.waiting import wait_for
from tests.walt_train.loop.identity.home import SETTLED_S, Caller, House, key_pem, until_connected
from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import DeviceTopics, subscriptions
from walt_train.loop.broker.arguments import GROUP_FILE, HOME, INGEST
from walt_train.loop.identity.authority import Authority, Revoked, utc_now
from walt_train.loop.identity.mosquitto import Address, Revocations, access_list

A, B = DeviceTopics("north", "walt-a"), DeviceTopics("north", "walt-b")
SHA, LAST = "0" * 64, "f" * 64
TAKEN = ("Success", "No matching subscribers")
WRITTEN = ("status", "info", "reported", "telemetry", f"crop/{SHA}", f"plate/{SHA}", f"frame/{SHA}")
READ = ("desired", "resend", f"ack/{SHA}")
SOMEBODY = {
    "a neighbour": "walt/v1/north/walt-b",
    "itself elsewhere": "walt/v1/south/walt-a",
    "a site": "walt/v1/north",
    "nobody": "walt/v1/north/walt-a/x",
    "outside": "other/v1/north/walt-a",
    "a worker": f"walt/v1/north/{INGEST}",
}

pytestmark = pytest.mark.filterwarnings(
    # paho leaves a socket whose handshake failed to the garbage collector, which closes it and says so.
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House.build(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def broker(house: House) -> Iterator[Broker]:
    with house.start_broker() as broker:
        yield broker


@pytest.fixture(scope="module")
def pems(house: House) -> dict[DeviceTopics, Path]:
    return {names: house.device(names.site, names.device)[0] for names in (A, B)}


@pytest.fixture
def call(house: House, broker: Broker, pems: dict[DeviceTopics, Path]) -> Callable[..., Caller]:
    """Makes a client at the door where it belongs."""

    def make(who: DeviceTopics | str, client_id: str = "any", will: str = "") -> Caller:
        if isinstance(who, str):
            return Caller(house, house.worker(who), house.address.workers_port, client_id, will)
        return Caller(house, pems[who], house.address.port, client_id, will)

    return make


def _settle(device: Caller, ingest: Caller) -> None:
    """Whatever `device` of B was to hear before, it has heard: the broker keeps the order."""
    assert ingest.say(B.ack(LAST)) in TAKEN
    wait_for(lambda: B.ack(LAST) in device.got, SETTLED_S)


@pytest.mark.parametrize("leaf", [*WRITTEN, *READ])
def test_a_device_writes_its_own_topics_alone(call: Callable[..., Caller], leaf: str) -> None:
    with call(A) as caller:
        assert (caller.say(f"walt/v1/north/walt-a/{leaf}") in TAKEN) == (leaf in WRITTEN)
        for who, above in SOMEBODY.items():
            assert caller.say(f"{above}/{leaf}") == "Not authorized", who


def test_a_device_reads_its_own_topics_alone(call: Callable[..., Caller]) -> None:
    with call(A) as device, call(B) as neighbour, call(HOME, "h") as home, call(INGEST, "i") as ingest:
        neighbour.hear("#", "+/v1/#", "walt/v1/+/+/#", "$SYS/#", f"{A.acks}", A.desired, "$share/all/#", B.acks)
        for leaf in WRITTEN:
            device.say(f"walt/v1/north/walt-a/{leaf}")
        for names in (A, B):
            ingest.say(names.ack(SHA))
            home.say(names.resend)
        home.say(B.desired)
        _settle(neighbour, ingest)
        assert set(neighbour.got) == {B.ack(SHA), B.resend, B.desired, B.ack(LAST)}


def test_what_is_retained_of_others_does_not_leak(call: Callable[..., Caller]) -> None:
    with call(A) as device, call(HOME, "h") as home:
        device.say(A.status, retain=True)
        for names in (A, B):
            home.say(names.desired, retain=True)
            home.say(names.resend, retain=True)
    with call(B) as neighbour, call(INGEST, "i") as ingest:
        neighbour.hear("#", "walt/v1/north/+/status", A.desired)
        _settle(neighbour, ingest)
        assert set(neighbour.got) == {B.resend, B.desired, B.ack(LAST)}


def test_home_reads_all_and_writes_what_is_its(call: Callable[..., Caller]) -> None:
    with call(A) as device, call(HOME, "h") as home, call(INGEST, "i") as ingest:
        home.hear("walt/v1/#")
        ingest.hear("walt/v1/#")
        for leaf in WRITTEN:
            device.say(f"walt/v1/north/walt-a/{leaf}")
        wait_for(lambda: A.telemetry in home.got and f"walt/v1/north/walt-a/frame/{SHA}" in ingest.got, SETTLED_S)
        assert set(home.got) == {A.status, A.info, A.reported, A.telemetry} | {
            topic for topic in home.got if topic.endswith(("desired", "resend"))
        }
        assert set(ingest.got) == {f"walt/v1/north/walt-a/{leaf}" for leaf in WRITTEN if leaf.endswith(SHA)}
        assert ingest.say(A.desired) == "Not authorized"
        assert home.say(A.ack(SHA)) == "Not authorized"
        assert ingest.say(f"walt/v1/north/walt-a/crop/{SHA}") == "Not authorized"


def test_a_device_takes_no_turns_of_the_ingest(house: House, call: Callable[..., Caller]) -> None:
    group = (house.folder / "workers" / GROUP_FILE).read_text().strip()
    topics = [f"walt/v1/north/walt-a/crop/{number:064x}" for number in range(20)]
    with call(A) as device, call(B) as thief, call(INGEST, "i") as ingest:
        ingest.hear(*subscriptions(group))
        thief.hear(*subscriptions("ingest"), *subscriptions("walt-ingest"), "$share/#", "$share/+/walt/v1/#")
        for topic in topics:
            device.say(topic)
        wait_for(lambda: len(ingest.got) == len(topics), SETTLED_S)
        assert sorted(ingest.got) == topics
        _settle(thief, ingest)
        assert all(topic.startswith("walt/v1/north/walt-b/") for topic in thief.got)


@pytest.mark.parametrize("client_id", ["north/walt-a", "ingest-1", "walt-a"])
def test_a_device_cannot_end_the_session_of_another(call: Callable[..., Caller], client_id: str) -> None:
    with call(A, "walt-a") as device, call(INGEST, "ingest-1") as ingest, call(B, client_id) as thief:
        assert thief.is_in
        assert thief.say(B.status) in TAKEN
        assert device.say(A.status) in TAKEN
        assert device.is_in
        assert ingest.is_in


@pytest.mark.parametrize("will", [A.status, A.desired, A.ack(SHA), f"walt/v1/north/walt-a/crop/{SHA}"])
def test_a_last_will_of_another_is_not_carried_out(call: Callable[..., Caller], will: str) -> None:
    with call(HOME, "h") as home, call(INGEST, "i") as ingest, call(A) as device:
        home.hear("walt/v1/+/+/#")
        ingest.hear("walt/v1/+/+/#")
        device.hear("#")
        assert home.say(A.resend) in TAKEN  # what was retained before, home has heard when it hears this
        wait_for(lambda: home.got[-1:] == [A.resend], SETTLED_S)
        before = [one.got.count(will) for one in (home, ingest, device)]
        honest_before = home.got.count(B.status)
        with call(B, will=will) as hostile:
            if hostile.is_in:
                hostile.vanish()
        with call(B, will=B.status) as honest:
            honest.vanish()
            wait_for(lambda: home.got.count(B.status) > honest_before, SETTLED_S)
        assert [one.got.count(will) for one in (home, ingest, device)] == before


# -- who is let in ----------------------------------------------------------------------------------------------


def _foreign(house: House) -> Path:
    return house.device("north", "walt-a", Authority.make(house.folder / "elsewhere"))[0]


def _old(house: House) -> Path:
    long_ago = utc_now() - datetime.timedelta(days=91)
    return house.device("north", "walt-a", Authority(house.authority.folder, lambda: long_ago))[0]


def _others_key(house: House) -> Path:
    path, certificate = house.device("north", "walt-a")
    path.write_bytes(certificate.pem + key_pem(ec.generate_private_key(ec.SECP256R1())))
    return path


STRANGERS: dict[str, tuple[Callable[[House], Path | None], str]] = {
    "no certificate": (lambda house: None, "port"),
    "a foreign authority's": (_foreign, "port"),
    "an expired one": (_old, "port"),
    "a worker at the devices' door": (lambda house: house.worker(INGEST), "port"),
    "home's own server": (lambda house: house.files.folder / "broker.pem", "port"),
    "nobody at the workers' door": (lambda house: None, "workers_port"),
    "a device at the workers' door": (lambda house: house.device("north", "walt-a")[0], "workers_port"),
    "a device called as a worker": (lambda house: house.device("walt-home", "walt-home")[0], "workers_port"),
    "a server as a worker": (lambda house: house.files.folder / "broker.pem", "workers_port"),
}


@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_are_refused(house: House, broker: Broker, who: str) -> None:
    make, door = STRANGERS[who]
    with Caller(house, make(house), getattr(house.address, door), "stranger") as caller:
        assert caller.state.startswith(("refused", "lost"))


def test_a_key_that_is_not_the_certificates_is_no_identity(house: House, broker: Broker) -> None:
    with pytest.raises(OSError, match=r"(?i)key.values.mismatch"):
        Caller(house, _others_key(house), house.address.port, "thief").__enter__()


def test_a_revoked_device_is_silenced_at_once_and_refused_from_then_on(tmp_path: Path) -> None:
    house = House.build(tmp_path)
    path, certificate = house.device("north", "walt-a")
    other, _ = house.device("north", "walt-b")
    with house.start_broker(), Caller(house, path, house.address.port, "a") as device:
        device.hear(A.desired)
        assert device.say(A.status) in TAKEN
        house.files.revoke(Revocations((Revoked(certificate.serial, utc_now()),), (A,)))
        assert house.files.reload()
        wait_for(lambda: device.say(A.status) == "Not authorized", SETTLED_S)
        with Caller(house, path, house.address.port, "a") as again:
            assert again.state.startswith("lost")
        with until_connected(lambda: Caller(house, other, house.address.port, "b")) as neighbour:
            assert neighbour.say(B.status) in TAKEN
        with Caller(house, house.worker(HOME), house.address.workers_port, "h") as home:
            home.say(A.desired)
        assert device.got == []


# -- the files --------------------------------------------------------------------------------------------------


def test_what_is_written_again_keeps_what_lasts(tmp_path: Path) -> None:
    now = [utc_now()]
    house = House.build(tmp_path, lambda: now[0])
    path = house.files.folder / "broker.pem"
    first = path.read_bytes()
    house.files.write()
    assert path.read_bytes() == first
    now[0] += datetime.timedelta(days=500)
    house.files.write()
    assert path.read_bytes() != first
    assert path.stat().st_mode & 0o777 == 0o600
    assert not house.files.reload()  # nobody runs here


@pytest.mark.parametrize("pid", ["1", "99999999", "no number", ""])
def test_only_a_mosquitto_is_told_to_reload(tmp_path: Path, pid: str) -> None:
    house = House.build(tmp_path)
    (house.files.folder / "data" / "mosquitto.pid").write_text(pid)
    assert not house.files.reload()


@pytest.mark.parametrize("host", ["", "a b", "home.local\nlistener 1", "*.local", "-a", "a/b", "ü.local"])
def test_a_host_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    house = House.build(tmp_path)
    with pytest.raises(UsageError, match="host name"):
        house.authority.issue_server([host])


def test_an_address_is_asked_for_before_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="walt-loop broker"):
        Address.read(tmp_path)
    Address(hosts=("::1", "home")).write(tmp_path)
    assert Address.read(tmp_path).url == "https://[::1]:8843"
    assert Address.read(tmp_path).broker == "[::1]:8883"


def test_nobody_is_named_but_home_and_the_silenced() -> None:
    users = [line for line in access_list(["north/walt-a"]).splitlines() if line.startswith("user ")]
    assert users == [f"user {INGEST}", f"user {HOME}", "user north/walt-a"]
