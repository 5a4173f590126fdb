"""Releases are taken, tried again, given up and mended; the old model answers whenever the new one is not taken."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from unittest import mock

import pytest

from tests.fakes.models import load_scripted
from tests.updates import HASTY, PATIENT, Station, change_byte, frozen, running_station
from tests.waiting import wait_for
from tests.web import dripping, failing
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Desired, Reported
from walt_edge.update.holder import Model
from walt_edge.update.probation import ProbationRules
from walt_edge.update.trust import Trust
from walt_train.loop.publish.repository import Repository


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with running_station(tmp_path) as station:
        yield station


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
    assert (agent.updater.stats.attempts, agent.updater.stats.swapped) == (2, 2)
    bundles = sum(station.served(f"*{wish.target}").stat().st_size for wish in (station.first, second))
    assert agent.updater.source.fetched_bytes > bundles
    asked = len(station.web.asked)
    agent.restart()
    assert agent.answers() == 2
    agent.take(second)
    assert len(station.web.asked) == asked
    assert (agent.updater.stats.attempts, agent.updater.source.fetched_bytes) == (0, 0)
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
    later = Repository(station.web.folder, station.folder / "keys", lambda: datetime.now(UTC) + timedelta(days=400))
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


def test_a_model_that_was_put_down_stays_down_whatever_else_is_refused(station: Station) -> None:
    agent = station.agent
    agent.take(station.first)
    bad = station.publish(predict="raises", begin=3)
    agent.take(bad)
    agent.wait_for("refused", bad.release)
    other = station.publish(golden="disagrees")
    for wish in (other, bad, other, bad):
        agent.updater.desire(wish)
        agent.wait_for("refused", wish.release)
        assert agent.answers() == 1
    assert agent.updater.stats.swapped == 2


def test_a_model_that_ends_the_agent_is_given_up(station: Station) -> None:
    agent = station.agent
    agent.take(station.first)
    agent.updater.stop()
    bad = station.publish()

    def is_survived() -> bool:
        """An agent of its own process, which a model kills, as lack of memory or a wrong instruction does."""
        child = os.fork()
        if child == 0:
            agent.load = lambda path: os._exit(7) if path == agent.slots.candidate else load_scripted(path)
            agent.begin()
            agent.updater.desire(bad)
            agent.wait_for("refused", bad.release)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == 0

    assert [is_survived() for _ in range(5)] == [False, False, False, True, True]
    agent.begin()
    agent.updater.desire(bad)
    assert agent.wait_for("refused", bad.release).reason == "the agent ended 3 times while it tried release 2"
    assert agent.answers() == 1
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


def lacking(*_: Path) -> Model:
    raise UsageError("ONNX Runtime is not installed: pip install 'walt-amodal[cpu]'")


def test_a_machine_without_a_runtime_takes_the_model_when_it_has_one(station: Station) -> None:
    agent = station.agent
    agent.settings = HASTY
    agent.prepare = lacking
    agent.restart()
    agent.updater.desire(station.first)
    assert "ONNX Runtime is not installed" in agent.wait_for("refused", 1).reason
    wait_for(lambda: agent.updater.stats.postponed >= 3)
    assert not [path for path in station.web.asked if path.endswith(".walt")]
    agent.prepare = lambda: None
    agent.wait_for("active", 1)


def test_a_model_for_which_there_is_no_memory_now_is_tried_again(station: Station) -> None:
    def too_large(_: Path) -> Model:
        raise MemoryError

    agent = station.agent
    agent.settings = HASTY
    agent.load = too_large
    agent.restart()
    agent.updater.desire(station.first)
    assert "not enough memory" in agent.wait_for("refused", 1).reason
    agent.load = load_scripted
    agent.wait_for("active", 1)


def test_a_committed_model_without_a_runtime_is_kept_until_there_is_one(station: Station) -> None:
    agent = station.agent
    agent.take(station.first)
    agent.load = lacking
    agent.restart()
    assert agent.answers() == 0
    agent.load = load_scripted
    agent.restart()
    assert agent.answers() == 1


@pytest.mark.parametrize("is_foreseen", [True, False])
def test_a_full_disk_refuses_and_the_old_model_answers(
    station: Station, tmp_path: Path, is_foreseen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = station.agent
    if not is_foreseen:  # Others take the space meanwhile, or there is a quota.
        monkeypatch.setattr(shutil, "disk_usage", lambda _: mock.Mock(free=1 << 40))
    disk = tmp_path / "agent"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        agent.restart()
        agent.take(station.first)
        big = station.publish(ballast="x" * 100_000)
        agent.updater.desire(big)
        assert "No space left" in agent.wait_for("refused", big.release).reason
        assert any(path.endswith(f".{big.target}") for path in station.web.asked) != is_foreseen
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


def test_what_home_takes_back_for_nothing_goes_at_once_and_does_not_come_again(station: Station) -> None:
    """A device that had none of home's before a bad release has none after it, over restarts, and takes the next."""
    agent = station.agent
    agent.take(station.first)
    nothing = Desired.nothing(station.first.release)
    agent.updater.desire(nothing)
    wait_for(lambda: agent.answers() == 0 and agent.told[-1].release == 0)
    assert (agent.told[-1].state, agent.told[-1].sha256, agent.told[-1].desired) == ("active", "", 1)
    agent.restart()
    assert agent.answers() == 0
    assert agent.take(nothing).release == 0
    second = station.publish()
    assert agent.take(second).release == 2
    agent.updater.desire(nothing)
    late = agent.wait_for("refused", 1)
    assert (late.release, agent.answers()) == (2, 2)


def test_what_is_on_probation_is_taken_back_too(station: Station) -> None:
    agent = station.agent
    agent.updater.stop()
    agent.settings = replace(PATIENT, probation=ProbationRules(seconds=600, frames=10_000))
    agent.begin()
    agent.updater.desire(station.first)
    agent.wait_for("updating", 1, "on probation")
    assert agent.take(Desired.nothing(1)).release == 0
    assert not agent.updater.is_on_probation


def test_a_failing_network_says_nothing_of_the_release(station: Station) -> None:
    agent = station.agent
    station.served(f"*{station.first.target}").unlink()
    agent.updater.desire(station.first)
    assert agent.wait_for("refused", 1).postponed
