"""Signed releases over a real web server: what is sound is taken; else it is refused, and the old model answers."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.models import load_scripted, write_scripted
from tests.waiting import wait_for
from tests.web import Web, cut_short, dripping, endless, failing
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Desired, Reported
from walt_edge.update.fetcher import FetchLimits
from walt_edge.update.holder import Model, ModelHolder
from walt_edge.update.slots import Slots
from walt_edge.update.trust import Trust
from walt_edge.update.updater import ModelUpdater, UpdateSettings
from walt_train.loop.publish.repository import Release, Repository

FRAME = np.zeros((64, 96, 3), np.uint8)
LIMITS = FetchLimits(connect_s=2.0, silence_s=2.0, total_s=1.0)
PATIENT = UpdateSettings(network_min_s=600, network_max_s=600, home_min_s=600, home_max_s=600)
HASTY = UpdateSettings(network_min_s=0.02, network_max_s=0.05, home_min_s=0.02, home_max_s=0.05)
MODEL_NAMES = (f"street-{number}" for number in itertools.count())


def wish_for(release: Release) -> Desired:
    return Desired(release=release.number, target=release.target, sha256=release.sha256)


class Station:
    """A home that serves releases, and an agent that has taken the first of them."""

    def __init__(self, folder: Path, web: Web) -> None:
        self.folder = folder
        self.web = web
        self.home = Repository(web.folder, folder / "keys")
        self.first = self.publish()
        shutil.copy(web.folder / "root.json", folder / "root.json")
        self.agent = Agent(folder, web.url)

    def publish(self, home: Repository | None = None, **script: Any) -> Desired:
        path = write_scripted(self.folder / "bundle.walt", next(MODEL_NAMES), **script)
        return wish_for((home or self.home).publish(path))

    def served(self, name: str) -> Path:
        (path,) = self.web.folder.rglob(name)
        return path


class Agent:
    """The parts of an agent that take models; frames pass whenever somebody waits for something."""

    def __init__(self, folder: Path, url: str, settings: UpdateSettings = PATIENT) -> None:
        self.folder, self.url, self.settings = folder, url, settings
        self.load: Callable[[Path], Model] = load_scripted
        self.begin()

    def begin(self) -> None:
        self.told: list[Reported] = []
        self.holder = ModelHolder()
        self.slots = Slots(self.folder / "agent/models")
        trust = Trust(self.folder / "agent/updates", self.url, self.folder / "root.json", limits=LIMITS)
        self.updater = ModelUpdater(
            trust,
            self.slots,
            self.holder,
            lambda path: self.load(path),
            self.told.append,
            self.settings,
            random.Random(1),
        )
        self.updater.restore()
        self.updater.start()

    def restart(self) -> None:
        self.updater.stop()
        self.begin()

    def wait_for(self, state: str, desired: int) -> Reported:
        """Lets frames pass until the agent reports so."""

        def is_told() -> bool:
            self.holder.exchange()
            self.holder.look(FRAME)
            return bool(self.told) and (self.told[-1].state, self.told[-1].desired) == (state, desired)

        wait_for(is_told, 20, f"for {state} {desired}, told {self.told}")
        return self.told[-1]

    def take(self, wish: Desired) -> Reported:
        self.updater.desire(wish)
        return self.wait_for("active", wish.release)

    def answers(self) -> int:
        """The release that looks at a frame now; 0 if none does."""
        self.holder.exchange()
        look = self.holder.look(FRAME)
        assert look is None or len(look.instances) == 1
        return look.release if look else 0


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    (tmp_path / "served").mkdir()
    with Web(tmp_path / "served") as web:
        station = Station(tmp_path, web)
        try:
            yield station
        finally:
            station.agent.updater.stop()


def test_a_release_is_taken_reported_and_found_again_after_a_restart(station: Station) -> None:
    agent = station.agent
    assert agent.answers() == 0
    first = agent.take(station.first)
    assert first == Reported(release=1, sha256=station.first.sha256, state="active", desired=1)
    second = station.publish()
    agent.take(second)
    assert [(one.release, one.state, one.desired) for one in agent.told] == [
        (0, "active", 0),
        (0, "updating", 1),
        (1, "active", 1),
        (1, "updating", 2),
        (2, "active", 2),
    ]
    assert agent.answers() == 2
    asked = len(station.web.asked)
    agent.restart()
    assert agent.answers() == 2
    agent.take(second)
    assert len(station.web.asked) == asked
    assert not agent.slots.candidate.exists()


def test_a_newer_wish_is_taken_where_a_wish_is_on_its_way(station: Station) -> None:
    agent = station.agent
    begun = threading.Event()

    def slow(handler: SimpleHTTPRequestHandler) -> None:
        begun.set()
        dripping(handler)

    second = station.publish()
    station.web.answers[f".{second.target}"] = slow
    agent.updater.desire(second)
    assert begun.wait(10)
    third = station.publish()
    assert agent.take(third).release == 3
    assert agent.answers() == 3


def test_the_same_wish_again_and_a_wish_taken_back_change_nothing(station: Station) -> None:
    agent = station.agent
    agent.take(station.first)
    asked = len(station.web.asked)
    agent.updater.desire(station.first)
    agent.updater.desire(None)
    agent.take(station.first)
    assert len(station.web.asked) == asked
    assert agent.answers() == 1


def change_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


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
    """An old snapshot and old targets under the newest names."""
    wish = station.publish()
    for role in ("snapshot", "targets"):
        shutil.copy(station.served(f"1.{role}.json"), station.served(f"2.{role}.json"))
    return wish


def frozen(station: Station) -> Desired:
    """A release that was signed so long ago that what vouches for it is over."""
    past = datetime.now(UTC) - timedelta(days=40)
    return station.publish(Repository(station.web.folder, station.folder / "keys", lambda: past))


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
    "changed byte in targets": (changed("2.targets.json"), "changed, or damaged"),
    "older metadata": (older, "older than what this device has seen"),
    "older snapshot under a newer name": (older_snapshot, "changed, or damaged"),
    "expired": (frozen, "expired: home must sign anew"),
    "other keys": (other_keys, "not signed with the keys that this device trusts"),
    "other keys with a root of their own": (other_root, "serves is"),
    "endless timestamp": (answered("/timestamp.json", endless), "sends more than the 16384 bytes"),
    "endless snapshot": (answered("/2.snapshot.json", endless), "sends more than"),
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


def test_a_refused_release_is_not_tried_again_and_the_next_is_taken(station: Station) -> None:
    agent = station.agent
    agent.settings = HASTY
    agent.restart()
    bad = station.publish(golden="disagrees")
    agent.updater.desire(bad)
    agent.wait_for("refused", bad.release)
    asked = len(station.web.asked)
    for _ in range(2):
        agent.restart()
        agent.updater.desire(bad)
        agent.wait_for("refused", bad.release)
    assert len(station.web.asked) == asked
    assert agent.take(station.publish()).release == 3


def test_a_network_that_comes_back_is_tried_again(station: Station) -> None:
    agent = station.agent
    agent.settings = HASTY
    agent.restart()
    wish = station.publish()
    station.web.answers["/timestamp.json"] = failing
    agent.updater.desire(wish)
    agent.wait_for("refused", wish.release)
    wait_for(lambda: agent.updater.stats.postponed >= 3)
    station.web.answers.clear()
    agent.wait_for("active", wish.release)
    assert [one.state for one in agent.told if one.desired == wish.release] == ["updating", "refused", "active"]


def test_home_mends_what_had_expired(station: Station) -> None:
    agent = station.agent
    agent.settings = HASTY
    agent.restart()
    wish = frozen(station)
    agent.updater.desire(wish)
    agent.wait_for("refused", wish.release)
    station.home.refresh()
    agent.wait_for("active", wish.release)


def test_a_root_is_followed_by_its_own_chain_and_not_by_a_flag(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    agent = station.agent
    agent.take(station.first)
    later = Repository(station.web.folder, station.folder / "keys", lambda: datetime.now(UTC) + timedelta(days=200))
    agent.take(station.publish(later))
    assert station.served("2.root.json").exists()
    shutil.copy(station.web.folder / "root.json", station.folder / "root.json")
    agent.restart()
    assert "holds" not in caplog.text
    Repository(station.folder / "fake", station.folder / "fake-keys").publish(station.folder / "bundle.walt")
    shutil.copy(station.folder / "fake/root.json", station.folder / "root.json")
    agent.restart()
    assert "is not the root pinned at the first start, which holds" in caplog.text
    agent.take(station.publish())


@pytest.mark.parametrize("script", ["raises", "slow"])
def test_a_model_that_fails_later_gives_way_to_the_one_before_it(station: Station, script: str) -> None:
    agent = station.agent
    agent.take(station.first)
    bad = station.publish(predict=script, begin=3)
    agent.take(bad)
    refused = agent.wait_for("refused", bad.release)
    assert refused.reason.startswith("put down after 20 frames in a row")
    assert refused.release == agent.answers() == 1
    for _ in range(2):
        agent.restart()
        assert agent.answers() == 1
        agent.updater.desire(bad)
        agent.wait_for("refused", bad.release)
    assert agent.take(station.publish()).release == 3


def test_without_one_before_it_the_eyes_see_without_weights(station: Station) -> None:
    agent = station.agent
    bad = station.publish(predict="raises", begin=3)
    agent.take(bad)
    assert agent.wait_for("refused", bad.release).release == 0
    assert agent.answers() == 0
    agent.restart()
    assert agent.answers() == 0


@pytest.mark.parametrize("damage", [change_byte, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_a_damaged_slot_begins_without_a_model_in_one_line_and_is_mended(
    station: Station, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    agent = station.agent
    agent.take(station.first)
    agent.updater.stop()
    path = agent.slots.active_path
    assert path is not None
    damage(path)
    caplog.clear()
    agent.begin()
    assert agent.answers() == 0
    assert len([one for one in caplog.records if one.levelname == "ERROR"]) == 1
    assert agent.told[-1].release == 0
    agent.take(station.first)
    assert agent.answers() == 1


def test_a_machine_without_a_runtime_takes_the_model_when_it_has_one(station: Station) -> None:
    def lacking(path: Path) -> Model:
        raise UsageError("ONNX Runtime is not installed: pip install 'walt-amodal[cpu]'")

    agent = station.agent
    agent.settings = HASTY
    agent.load = lacking
    agent.restart()
    agent.updater.desire(station.first)
    assert "ONNX Runtime is not installed" in agent.wait_for("refused", 1).reason
    agent.load = load_scripted
    agent.wait_for("active", 1)


def test_a_full_disk_refuses_and_the_old_model_answers(station: Station, tmp_path: Path) -> None:
    agent = station.agent
    disk = tmp_path / "agent"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        agent.restart()
        agent.take(station.first)
        big = station.publish(ballast="x" * 100_000)
        agent.updater.desire(big)
        assert "No space left" in agent.wait_for("refused", big.release).reason
        assert agent.answers() == 1
        agent.restart()
        assert agent.answers() == 1
    finally:
        agent.updater.stop()
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("url", "root", "ca", "line"),
    [
        ("ftp://home/x", "root.json", None, "no http:// or https:// URL"),
        ("home", "root.json", None, "no http:// or https:// URL"),
        ("http://home", None, None, "needs --trust FILE at the first start"),
        ("http://home", "absent.json", None, "no such file"),
        ("http://home", "bundle.walt", None, "is no root to trust"),
        ("http://home", "served/metadata/timestamp.json", None, "is no root to trust"),
        ("http://home", "root.json", "absent.pem", "no such file"),
    ],
)
def test_what_cannot_be_trusted_is_told_at_the_start(
    station: Station, url: str, root: str | None, ca: str | None, line: str
) -> None:
    folder = station.folder
    with pytest.raises(UsageError, match=line) as raised:
        Trust(folder / "new", url, folder / root if root else None, folder / ca if ca else None)
    assert "\n" not in str(raised.value)
