"""`walt-loop simulate` against a whole home: certificates, access list, admission and store are the real ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.ingest_home import Home
from walt_train.loop.cli import SCRIPT
from walt_train.loop.identity.registry import Registry
from walt_train.loop.store.store import Store

HASTE = ("--ack-timeout-s", "3", "--reconnect-max-s", "1", "--crop-kb", "5", "--patience-s", "60")
LONG_S = 120.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with Home(tmp_path_factory.mktemp("home")) as home:
        home.start()
        yield home


def test_hostile_devices_with_certificates_are_believed_nothing_and_hear_nothing(home: Home) -> None:
    words = ("--devices", "10", "--crops-per-second", "30", "--seconds", "4", "--hostile", "3", "--site", "north")
    outcome = home.fleet("hostile", *words, "--hostile-per-second", "20", "--cut-at-s", "1", *HASTE).wait(LONG_S)
    assert outcome.flawless
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.acked > 60
    assert min(outcome.hostilities.tried.values()) > 0
    tried = outcome.hostilities.tried
    assert 0 < outcome.hostilities.rejected <= sum(count for what, count in tried.items() if "'s" not in what)
    assert outcome.hostilities.refused > 0
    assert (outcome.hostilities.believed, outcome.hostilities.overheard) == (0, 0)
    with Store(home.config) as store:
        enrolled = {one.names for one in Registry(store.engine).all() if one.site == "north"}
        assert len(enrolled) == 13
        # Nothing is stored but what the ten have said.
        assert store.counts().crops == outcome.acked


def test_a_fleet_that_is_asked_to_end_brings_home_what_waits(home: Home) -> None:
    fleet = home.fleet(
        "asked",
        "--devices",
        "5",
        "--crops-per-second",
        "20",
        "--seconds",
        "3600",
        "--site",
        "south",
        "--backlog",
        "9",
        *HASTE,
    )
    fleet.wait_online()
    home.broker.kill()  # nobody is there when it is asked
    home.broker.start()
    outcome = fleet.stop(LONG_S)
    assert outcome.flawless
    assert outcome.lost == 0
    assert outcome.accepted >= 45


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --broker HOST:PORT to play, or --plan CAMERAS to calculate"),
        (["--broker", "nowhere:x"], "is not HOST:PORT"),
        (["--broker", "localhost:1", "--devices", "0"], "--devices must be at least 1"),
        (["--broker", "localhost:1", "--site", "a/b"], "--site 'a/b' is not a name"),
        (["--broker", "localhost:1", "--home", "/nowhere"], "walt-loop broker makes one"),
    ],
)
def test_what_cannot_be_played_is_said_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert SCRIPT.main(["simulate", *words]) != 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
