"""What is not sound is refused in one line, and the old model answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.updates import Station, change_byte, frozen, running_station
from tests.web import cut_short, dripping, endless, failing
from walt_edge.contract.messages import Desired
from walt_train.loop.publish.repository import Repository


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with running_station(tmp_path) as station:
        yield station


def changed(name: str) -> Callable[[Station], Desired]:
    """A release of which one byte of one file is changed after it was signed."""

    def mischief(station: Station) -> Desired:
        wish = station.publish()
        change_byte(station.served(name.format(sha256=wish.sha256)))
        return wish

    return mischief


def older(station: Station) -> Desired:
    """The metadata of the first release is served again to an agent that has seen newer."""
    shutil.copytree(station.web.folder, station.folder / "old")
    station.agent.take(station.publish())
    third = station.publish()
    station.web.folder = station.folder / "old"
    return third


def older_snapshot(station: Station) -> Desired:
    """An old snapshot and old releases under the newest names."""
    wish = station.publish()
    for role in ("snapshot", "stable"):
        shutil.copy(station.served(f"1.{role}.json"), station.served(f"2.{role}.json"))
    return wish


def other_keys(station: Station) -> Desired:
    """Somebody else's repository, with more releases, under the same address."""
    fake = Repository(station.folder / "fake", station.folder / "fake-keys")
    wishes = [station.publish(fake) for _ in range(3)]
    station.web.folder = station.folder / "fake"
    return wishes[-1]


def other_root(station: Station) -> Desired:
    """The same, with its root offered as the successor of ours."""
    wish = other_keys(station)
    shutil.copy(station.folder / "fake/metadata/1.root.json", station.folder / "fake/metadata/2.root.json")
    return wish


def answered(ending: str, answer: Callable[..., None]) -> Callable[[Station], Desired]:
    """A release whose server misbehaves for one file."""

    def mischief(station: Station) -> Desired:
        wish = station.publish()
        station.web.answers[ending.format(target=wish.target)] = answer
        return wish

    return mischief


def wishing(**changes: object) -> Callable[[Station], Desired]:
    """A wish that says other things than what was signed."""

    def mischief(station: Station) -> Desired:
        wish = station.publish()
        known = {"first_sha256": station.first.sha256, "next": wish.release + 1}
        said = {key: known.get(str(value), value) for key, value in changes.items()}
        return Desired(**({"release": wish.release, "target": wish.target, "sha256": wish.sha256} | said))  # type: ignore[arg-type]

    return mischief


def unreachable(station: Station) -> Desired:
    wish = station.publish()
    station.web.stop()
    return wish


def scripted(**script: Any) -> Callable[[Station], Desired]:
    return lambda station: station.publish(**script)


HOSTILE = {
    "changed byte in the target": (changed("{sha256}.*.walt"), "changed, or damaged"),
    "changed byte in timestamp": (changed("timestamp.json"), "serves is"),
    "changed byte in snapshot": (changed("2.snapshot.json"), "changed, or damaged"),
    "changed byte in the releases": (changed("2.stable.json"), "changed, or damaged"),
    "older metadata": (older, "older than what this device has seen"),
    "older snapshot under a newer name": (older_snapshot, "changed, or damaged"),
    "expired": (frozen, "expired: home must sign anew"),
    "other keys": (other_keys, "not signed with the keys that this device trusts"),
    "other keys with a root of their own": (other_root, "serves is"),
    "endless timestamp": (answered("/timestamp.json", endless), "sends more than the 16384 bytes"),
    "endless snapshot": (answered("/2.snapshot.json", endless), "sends more than"),
    "endless root": (answered("/2.root.json", endless), "sends more than the 512000 bytes"),
    "endless releases": (answered("/2.stable.json", endless), "sends more than"),
    "endless target": (answered(".{target}", endless), "sends more than"),
    "dripping target": (answered(".{target}", dripping), "takes longer than 1 s"),
    "target cut short": (answered(".{target}", cut_short), "cannot be fetched"),
    "failing server": (answered("/timestamp.json", failing), "answers 503"),
    "unreachable server": (unreachable, "cannot be fetched: Connection refused"),
    "target not there": (wishing(target="street-99.walt", release=99), "home has signed no street-99.walt"),
    "target is a parent folder": (wishing(target=".."), "home has signed no .."),
    "target is a metadata file": (wishing(target="2.targets.json"), "home has signed no 2.targets.json"),
    "another target's sha256": (wishing(sha256="first_sha256"), "another sha256"),
    "another target's number": (wishing(release="next"), "was signed as release 2, not 3"),
    "golden disagrees": (scripted(golden="disagrees"), "golden/0.png disagrees on this machine: an IoU of 0.3"),
    "does not load": (scripted(load="raises"), "does not load: RuntimeError: no such operator"),
    "older release": (lambda station: station.agent.take(station.publish()) and station.first, "is not above 2"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_sound_is_refused_and_the_old_model_answers(
    station: Station, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    mischief, line = HOSTILE[name]
    agent = station.agent
    agent.take(station.first)
    wish = mischief(station)
    had = agent.answers()
    agent.updater.desire(wish)
    refused = agent.wait_for("refused", wish.release)
    assert line in refused.reason
    assert "\n" not in refused.reason
    assert refused.release == had == agent.answers()
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1
    agent.restart()
    assert agent.answers() == had
    assert not agent.slots.candidate.exists()
