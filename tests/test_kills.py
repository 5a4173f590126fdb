"""Kills at random moments, of agent, broker, ingest and database: nothing lost that was accepted, nothing doubled."""

from __future__ import annotations

import random
import secrets
from pathlib import Path

import pytest

from benchmarks import ingest_kills
from tests.broker import Broker
from tests.envelopes import sealed
from tests.station import Station, ingest
from tests.waiting import wait_for
from walt_edge.spool.spool import FILE_NAME, Spool
from walt_train.loop.store.store import Store

KILLS = ["agent"] * 22 + ["broker"] * 16 + ["ingest"] * 12
MANY_KILLS = ["agent"] * 1000 + ["broker"] * 60 + ["ingest"] * 40


class Producer(Station):
    """`tests.producer`, with the ids that it promised to keep."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.promised: list[str] = []
        super().__init__(["-m", "tests.producer", str(folder), broker], folder / "producer.log", talks=True)

    def ask(self, count: int) -> None:
        """Asks for the next envelopes; one that was accepted and not told is made again."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{len(self.promised)} {count}\n")
        self.process.stdin.flush()

    def hear(self, count: int) -> None:
        assert self.process.stdout is not None
        for _ in range(count):
            self.promised.append(self.process.stdout.readline().strip())

    def kill(self) -> str:
        left = super().kill()
        self.promised += [line for line in left.split("\n")[:-1] if line]
        return left


@pytest.mark.parametrize("persistence", [False, True], ids=["a broker that forgets", "a broker that remembers"])
def test_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path, persistence: bool) -> None:
    _play(tmp_path, KILLS[:: 2 if persistence else 1], persistence)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_kills(tmp_path: Path) -> None:
    _play(tmp_path, MANY_KILLS, persistence=True, most=25)


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_fleet_loses_nothing_to_kills_of_two_workers_a_broker_and_postgresql(tmp_path: Path, kills: int) -> None:
    """Moments are drawn anew each time; the seed is printed."""
    toll = ingest_kills.play(tmp_path / "home", kills, seed=secrets.randbelow(1_000_000), crop_kb=20)
    assert sum(toll.kills.values()) == kills
    assert toll.accepted > kills
    assert (toll.lost, toll.doubled, toll.rejected) == (0, 0, 0)


def _play(tmp_path: Path, kills: list[str], persistence: bool, most: int = 60) -> None:
    """Kills in a random order; between two of them the agent is asked for up to `most` envelopes."""
    chance = random.Random(f"kills {persistence}")
    kills = chance.sample(kills, len(kills))
    (tmp_path / "home").mkdir()
    with (
        Broker.start(tmp_path, persistence=persistence) as broker,
        ingest(broker.address, tmp_path) as home,
    ):
        agent = Producer(tmp_path / "home", broker.address)
        for victim in kills:
            count = chance.randrange(5, most)
            agent.ask(count)
            heard = chance.randrange(0, count)
            agent.hear(heard)
            _kill(victim, agent, broker, home)
            if victim != "agent":
                agent.hear(count - heard)
        agent.ask(1)  # What the last kill left accepted and untold is made again, and told now.
        agent.hear(1)
        home.kill()
        home.start()
        _end(agent)
    _check(tmp_path, agent.promised)


def _kill(victim: str, agent: Producer, broker: Broker, home: Station) -> None:
    if victim == "broker":
        broker.kill()
        broker.restart()
        return
    station = agent if victim == "agent" else home
    station.kill()
    station.start()


def _end(agent: Producer) -> None:
    """No more input: the agent waits for home's last word, then ends."""
    assert agent.process.stdin is not None
    agent.process.stdin.close()
    wait_for(lambda: agent.process.poll() is not None, 260, "for the agent to be rid of everything")
    assert agent.process.returncode == 0
    agent.kill()


def _check(folder: Path, promised: list[str]) -> None:
    assert promised == [sealed(n).id for n in range(len(promised))]
    with Spool(folder / "home") as spool:
        counts = spool.counts()
        assert spool.set_aside == 0
    assert not list((folder / "home").glob(f"{FILE_NAME}.corrupt*"))
    assert (counts.depth, counts.dropped, counts.rejected) == (0, 0, 0)
    assert counts.accepted == counts.acked == len(promised)
    with Store(folder / "store") as store:
        ids = store.ids()
        assert sorted(ids) == sorted(promised)
        assert store.counts().crops == len(promised)
        assert all(store.get(id_).envelope == sealed(n).envelope for n, id_ in enumerate(promised[:50]))
