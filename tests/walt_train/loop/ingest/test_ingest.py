"""The ingest as people run it: a process of its own, a real broker, and everything dying in between."""

from __future__ import annotations

import random
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.broker import Broker, free_port
from tests.envelopes import sealed
from tests.walt_train.loop.device import Device, crop_topic, start_ingest, stop_ingest, wait_until
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import envelope_id
from walt_edge.contract.topics import Kind
from walt_train.loop.broker.arguments import default_client_id
from walt_train.loop.broker.connection import BrokerConfig, BrokerError, parse_address
from walt_train.loop.ingest.ingest import Ingest, IngestConfig
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store

FAST_BACKOFF_S = (0.05, 0.2)


class Running:
    """An ingest in a thread of the test."""

    def __init__(self, broker: Broker, store: Store, client_id: str = "worker-1") -> None:
        address = BrokerConfig(host=broker.host, port=broker.port, client_id=client_id)
        self.ingest = Ingest(store, IngestConfig(broker=address, backoff_s=FAST_BACKOFF_S))
        self._thread = threading.Thread(target=self.ingest.run)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self.ingest.connected.wait(20)
        return self

    def __exit__(self, *error: object) -> None:
        self.ingest.stop()
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()


def ready_ingest(broker: Broker, tmp_path: Path, *extra: str) -> subprocess.Popen[str]:
    """An ingest process that is subscribed; the lines it logged so far are taken from its stderr."""
    ingest = start_ingest(broker.address, tmp_path / "store", "--client-id", "worker-1", *extra)
    wait_for_line(ingest, "connected to")
    return ingest


def wait_for_line(ingest: subprocess.Popen[str], words: str) -> str:
    assert ingest.stderr is not None
    return next(line for line in iter(ingest.stderr.readline, "") if words in line)


def test_envelopes_are_stored_and_answered(broker: Broker, tmp_path: Path) -> None:
    envelopes = [sealed(n) for n in range(80)] + [sealed(90, Kind.PLATE), sealed(91, Kind.FRAME)]
    with Store(tmp_path / "store") as store, Running(broker, store), Device(broker) as device:
        device.send(envelopes)
        device.wait_acked(e.id for e in envelopes)
        assert {state for e in envelopes for state in device.states(e.id)} == {"stored"}
        device.send(envelopes[:1])
        wait_until(lambda: len(device.acks[envelopes[0].id]) == 2, 10, "a duplicate is answered again")
        assert device.states(envelopes[0].id) == ["stored", "duplicate"]
        assert set(store.ids()) == {e.id for e in envelopes}
        assert (store.counts().crops, store.counts().plates, store.counts().frames) == (80, 1, 1)


def test_hostile_envelopes_are_refused_and_the_rest_goes_on(broker: Broker, tmp_path: Path) -> None:
    good = sealed(1)
    rubbish = [random.Random(seed).randbytes(seed * 37) for seed in range(60)]
    wrong_name = "e" * 64
    with Store(tmp_path / "store") as store, Running(broker, store), Device(broker) as device:
        for data in rubbish:
            device.publish(crop_topic(envelope_id(data)), data)
        device.publish("walt/v1/test/walt-test/crop/nonsense", good.data)
        device.publish(f"walt/v1/ space /walt-test/crop/{good.id}", good.data)
        device.publish(crop_topic(wrong_name), good.data)
        device.publish(crop_topic(sealed(2).id), sealed(2).data, content_type="text/plain")
        device.send([good])
        expected = [envelope_id(data) for data in rubbish] + [wrong_name, sealed(2).id]
        device.wait_acked([*expected, good.id])
        assert {state for sha256 in expected for state in device.states(sha256)} == {"rejected"}
        assert "the topic says eeee" in device.acks[wrong_name][0].reason
        assert device.states(good.id) == ["stored"]
        assert store.ids() == [good.id]
        assert store.counts().rejected == len(rubbish) + 4


def test_a_killed_ingest_loses_and_doubles_nothing(broker: Broker, tmp_path: Path) -> None:
    envelopes = [sealed(n, side_px=96) for n in range(360)]
    fuse = random.Random(5)
    ingest = ready_ingest(broker, tmp_path)
    with Device(broker) as device:
        for kill in range(6):
            answered = len(device.acks)
            device.send(envelopes[kill * 60 : kill * 60 + 60])
            enough = answered + fuse.randrange(1, 60)
            wait_until(lambda enough=enough: len(device.acks) >= enough, 30, f"{enough} answers")  # type: ignore[misc]
            ingest.kill()
            ingest.communicate()
            ingest = ready_ingest(broker, tmp_path)
        device.wait_acked(e.id for e in envelopes)
        status, log = stop_ingest(ingest)
        assert status == 0, log
        stored_answers = [device.states(e.id).count("stored") for e in envelopes]
    assert max(stored_answers) == 1
    with Store(tmp_path / "store") as store:
        assert set(store.ids()) == {e.id for e in envelopes}
        assert all(store.get(e.id).envelope == e.envelope for e in envelopes[::20])
        assert store.counts().quarantined == 0


def test_a_killed_broker_is_found_again(tmp_path: Path) -> None:
    envelopes = [sealed(n) for n in range(60)]
    with (
        Broker.start(tmp_path, persistence=True) as broker,
        Store(tmp_path / "store") as store,
        Running(broker, store) as running,
        Device(broker) as device,
    ):
        for start in range(0, 60, 20):
            device.send(envelopes[start : start + 20])
            device.wait_acked([envelopes[start].id])
            broker.kill()
            broker.restart()
            wait_until(lambda: not running.ingest.connected.is_set(), 10, "the ingest has noticed")
            assert running.ingest.connected.wait(10)
            device.wait_connected()
            # What the broker had not written down is the device's to send again.
            device.send([e for e in envelopes[: start + 20] if e.id not in device.acks])
        device.wait_acked(e.id for e in envelopes)
        assert set(store.ids()) == {e.id for e in envelopes}


def test_what_arrives_while_the_ingest_is_away_waits_for_it(broker: Broker, tmp_path: Path) -> None:
    envelopes = [sealed(n) for n in range(20)]
    with Store(tmp_path / "store") as store, Device(broker) as device:
        with Running(broker, store):
            device.send(envelopes[:1])
            device.wait_acked([envelopes[0].id])
        device.send(envelopes[1:])
        with Running(broker, store):
            device.wait_acked(e.id for e in envelopes)
        assert all(device.states(e.id) == ["stored"] for e in envelopes)


def test_two_workers_share_the_load(broker: Broker, tmp_path: Path) -> None:
    envelopes = [sealed(n) for n in range(100)]
    with (
        Store(tmp_path / "store") as store,
        Running(broker, store, "worker-1") as one,
        Running(broker, store, "worker-2") as two,
        Device(broker) as device,
    ):
        numbers = iter(range(1000, 2000))
        while not (one.ingest.tally.states.total() and two.ingest.tally.states.total()):
            extra = sealed(next(numbers))
            device.send([extra])
            device.wait_acked([extra.id])
        device.send(envelopes)
        device.wait_acked(e.id for e in envelopes)
        assert all(device.states(e.id) == ["stored"] for e in envelopes)


def test_a_full_disk_stops_the_answers_and_is_survived(broker: Broker, tmp_path: Path) -> None:
    ingest = ready_ingest(broker, tmp_path)
    with Device(broker) as device:
        device.send([sealed(1)])
        device.wait_acked([sealed(1).id])
        _, hard = resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE, (1000, hard))
        device.send([sealed(2)])
        line = wait_for_line(ingest, "cannot write to the store")
        assert "nothing is acknowledged until it can be written" in line
        assert sealed(2).id not in device.acks
        resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE, (hard, hard))
        device.wait_acked([sealed(2).id])
        assert device.states(sealed(2).id) == ["stored"]
    assert stop_ingest(ingest)[0] == 0


def test_a_disk_that_stays_full_ends_the_ingest(broker: Broker, tmp_path: Path) -> None:
    ingest = ready_ingest(broker, tmp_path, "--patience-s", "0")
    with Device(broker) as device:
        device.send([sealed(1)])
        device.wait_acked([sealed(1).id])
        resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE, (1000, 1_000_000_000))
        device.send([sealed(2)])
        _, log = ingest.communicate(timeout=20)
        assert ingest.returncode == 1
        assert "walt-loop: cannot write to the store" in log
        again = ready_ingest(broker, tmp_path)
        device.wait_acked([sealed(2).id])
    assert stop_ingest(again)[0] == 0


def test_another_client_with_our_id_is_suspected(broker: Broker, tmp_path: Path) -> None:
    first, second = ready_ingest(broker, tmp_path), ready_ingest(broker, tmp_path)
    wait_for_line(first, "is another client connected as 'worker-1'? Give each worker its own --client-id")
    assert [stop_ingest(first)[0], stop_ingest(second)[0]] == [0, 0]


def test_a_broker_that_is_down_is_named_and_waited_for(tmp_path: Path) -> None:
    port = free_port()
    ingest = start_ingest(f"127.0.0.1:{port}", tmp_path / "store", "--client-id", "worker-1")
    wait_for_line(ingest, f"broker 127.0.0.1:{port} cannot be reached (Connection refused): trying again")
    with Broker.start(tmp_path, port=port) as broker, Device(broker) as device:
        wait_for_line(ingest, "connected to")
        device.send([sealed(1)])
        device.wait_acked([sealed(1).id])
        status, log = stop_ingest(ingest)
    assert status == 0, log


def test_a_broker_that_is_down_may_be_an_error(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    ingest = start_ingest(address, tmp_path / "store", "--no-wait")
    _, log = ingest.communicate(timeout=20)
    assert ingest.returncode == 1
    assert log.splitlines()[-1] == f"walt-loop: broker {address} cannot be reached (Connection refused)"


def test_something_else_on_the_port_is_no_broker(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = BrokerConfig(host="127.0.0.1", port=server.getsockname()[1], client_id="worker-1")

        def hang_up() -> None:
            server.accept()[0].close()

        threading.Thread(target=hang_up).start()
        with Store(tmp_path) as store, pytest.raises(BrokerError, match="did not accept us"):
            Ingest(store, IngestConfig(broker=config, wait_for_broker=False)).run()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("home.local", ("home.local", 1883)),
        ("home.local:8883", ("home.local", 8883)),
        ("[::1]:1884", ("::1", 1884)),
        ("[::1]", ("::1", 1883)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", ":1883", "host:", "host:mqtt", "host:0", "host:65536"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        parse_address(text)


def test_the_client_id_is_stable_and_its_own(tmp_path: Path) -> None:
    one, two = StoreConfig.local(tmp_path / "one"), StoreConfig.local(tmp_path / "two")
    assert default_client_id(one, "ingest") == default_client_id(
        StoreConfig.local(tmp_path / "two" / ".." / "one"), "ingest"
    )
    assert default_client_id(one, "ingest") != default_client_id(two, "ingest")
    assert default_client_id(one, "ingest") != default_client_id(one, "fleet")


@pytest.mark.parametrize(
    ("extra", "says"), [(("--cert", "x.pem"), "--cert and --key need --ca"), (("--expiry-s", "0"), "loses messages")]
)
def test_wrong_usage(extra: tuple[str, ...], says: str, tmp_path: Path) -> None:
    ingest = start_ingest("localhost:1", tmp_path / "store", *extra)
    _, log = ingest.communicate(timeout=20)
    assert (ingest.returncode, says in log) == (2, True)


def test_no_torch_comes_with_it() -> None:
    code = "import sys, walt_train.loop.commands.ingest; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
