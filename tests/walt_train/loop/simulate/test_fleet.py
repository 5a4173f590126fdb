"""Small fleets against a real broker: the books are right whatever home does."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.broker import HOST, Broker, free_port
from tests.envelopes import sealed
from tests.fakes.home import ScriptedHome, silent, stored
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Ack, AckState, encode_json
from walt_edge.contract.topics import DeviceTopics, EnvelopeTopic
from walt_train.loop.simulate.audit import audit
from walt_train.loop.simulate.fleet import Fleet, SimulationError, Story, raise_file_limit
from walt_train.loop.simulate.ledger import Ledger
from walt_train.loop.simulate.outcome import Outcome
from walt_train.loop.simulate.window import Times
from walt_train.loop.store.store import Accepted, Store

TIMES = Times(reconnect_min_s=0.05, reconnect_max_s=0.5, telemetry_s=0.5)
STORY = Story(devices=20, crops_per_second=60, crop_kb=3, seconds=1.5, patience_s=30, times=TIMES)


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Broker]:
    with Broker.start(tmp_path, max_queued_messages=10_000) as broker:
        yield broker


def play(broker: Broker, story: Story) -> tuple[Outcome, Ledger]:
    async def play() -> tuple[Outcome, Ledger]:
        fleet = Fleet(story, (broker.host, broker.port))
        return await fleet.play(), fleet.ledger

    return asyncio.run(play())


def test_what_was_promised_is_home_and_everything_said_was_heard(roomy: Broker) -> None:
    with ScriptedHome(roomy) as home:
        outcome, ledger = play(roomy, STORY)
    assert outcome.flawless
    assert outcome.accepted == outcome.acked == len(home.received) > 0
    assert outcome.sent == home.received.total()
    assert set(ledger.settled) == {bytes.fromhex(id_) for id_ in home.received}
    assert {message.topic.split("/")[3] for message in home.on("info")} == set(STORY.names)
    assert (outcome.status_sent, outcome.status_heard) == (40, 40)
    assert 0 < outcome.telemetry_heard == outcome.telemetry_sent
    assert 0 < outcome.ack_ms_p50 <= outcome.ack_ms_p99


def test_what_an_outage_left_is_brought_home_and_is_as_old_as_it_was(roomy: Broker) -> None:
    with ScriptedHome(roomy):
        outcome, _ = play(roomy, replace(STORY, crops_per_second=0, seconds=0, backlog=9, backlog_s=3600))
    assert outcome.flawless
    assert outcome.acked == 180


def test_a_cut_of_all_lines_loses_nothing(roomy: Broker) -> None:
    with ScriptedHome(roomy) as home:
        outcome, _ = play(roomy, replace(STORY, seconds=3, cut_at_s=1))
        wills = sum(message.payload.count(b"offline") for message in home.on("status"))
    assert outcome.flawless
    assert outcome.connects == 40
    assert 0 < outcome.apart_s < 3
    assert wills == 40  # one for the cut, one goodbye


def test_a_home_that_refuses_and_one_that_is_silent_are_told_apart(roomy: Broker) -> None:
    def answer(topic: EnvelopeTopic) -> bytes | None:
        if topic.device == "sim-00000":
            return silent(topic)
        return encode_json(Ack(AckState.REJECTED)) if topic.device == "sim-00001" else stored(topic)

    with ScriptedHome(roomy, answer):
        outcome, _ = play(roomy, replace(STORY, patience_s=2, seconds=0, crops_per_second=0, backlog=3))
    assert not outcome.flawless
    assert (outcome.accepted, outcome.acked, outcome.rejected, outcome.pending) == (60, 54, 3, 3)


def test_a_status_that_is_not_true_is_found(roomy: Broker) -> None:
    """Without an access list, anybody may speak in another's name."""
    with ScriptedHome(roomy):
        outcome, _ = play(roomy, replace(STORY, hostile=1, hostile_per_second=60, patience_s=3))
    assert outcome.status_wrong == 1
    assert outcome.hostilities.overheard > 0
    assert not outcome.flawless


def test_a_broker_that_is_not_there_is_named() -> None:
    port = free_port()

    async def nobody() -> None:
        await Fleet(replace(STORY, patience_s=0.5), (HOST, port)).play()

    with pytest.raises(SimulationError, match=f"127.0.0.1:{port} does not take"):
        asyncio.run(nobody())


def test_asked_to_stop_it_brings_home_what_waits(roomy: Broker) -> None:
    async def play() -> Outcome:
        fleet = Fleet(replace(STORY, seconds=3600), (roomy.host, roomy.port))
        asyncio.get_running_loop().call_later(1.5, fleet.stop)
        return await fleet.play()

    with ScriptedHome(roomy):
        outcome = asyncio.run(play())
    assert outcome.flawless
    assert outcome.acked > 0


def test_the_store_tells_what_is_lost_and_what_is_doubled(tmp_path: Path) -> None:
    topics, boot = DeviceTopics("test", "walt-test"), "boot-test"
    made = [sealed(number) for number in range(5)]
    ledger = Ledger(accepted=6)
    for one in made:
        ledger.settle(one.id, AckState.STORED, 0.0, 1.0)
    with Store(tmp_path / "store") as store:
        store.add_group([Accepted(one.id, one.envelope, one.data) for one in made[:4]])
        assert audit(store.engine, boot, ledger) == (2, 0)  # one is away, and one is pending
        twin = sealed(0, confidence=0.5)  # the same moment of the same device under another id
        store.add_group(
            [Accepted(twin.id, twin.envelope, twin.data), *(Accepted(o.id, o.envelope, o.data) for o in made)]
        )
        assert audit(store.engine, boot, ledger) == (1, 1)
        assert audit(store.engine, "another run", Ledger()) == (0, 0)
    assert topics.device == made[0].envelope.header.origin.device


def test_no_thread_is_left_behind(roomy: Broker) -> None:
    before = set(threading.enumerate())
    with ScriptedHome(roomy):
        play(roomy, replace(STORY, devices=3, seconds=0.2))
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive()


def test_a_broker_that_takes_lines_and_says_nothing_is_given_up_and_tried_again() -> None:
    async def play(port: int) -> None:
        times = replace(TIMES, connect_timeout_s=0.2, ack_timeout_s=0.4)
        await Fleet(replace(STORY, devices=1, patience_s=2, times=times), (HOST, port)).play()

    with socket.create_server((HOST, 0)) as mute, pytest.raises(SimulationError, match="no answer"):
        asyncio.run(play(mute.getsockname()[1]))


@pytest.mark.parametrize(("soft", "hard", "wanted"), [(100, 5000, 3000), (4000, 5000, None), (100, -1, 3000)])
def test_as_many_files_may_be_open_as_there_are_devices(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, wanted: int | None
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: told.append(limits))
    raise_file_limit(3000)
    assert told == ([(wanted, hard)] if wanted else [])


def test_a_system_that_allows_fewer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (100, 1000))
    with pytest.raises(UsageError, match="3000 files must be open at a time, the system allows 1000"):
        raise_file_limit(3000)
