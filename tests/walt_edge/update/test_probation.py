"""What a model has to stand on the camera, and that whatever ends the agent meanwhile leaves one that was proven."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.fakes.models import load_scripted
from tests.killing import kill_at_every_step
from tests.updates import PATIENT, Station, change_byte, running_station
from tests.walt_edge.update.test_slots import active, commit, content, wish
from walt_edge.contract.bundle import Limits
from walt_edge.contract.messages import Reported
from walt_edge.update.errors import RefusedError
from walt_edge.update.probation import Figures, LookLog, Probation, ProbationRules
from walt_edge.update.slots import Slots
from walt_edge.update.trial import Measured

RULES = ProbationRules(seconds=10, frames=30, judged_frames=100)
LONG = replace(PATIENT, probation=ProbationRules(seconds=3600))
SHORT = replace(PATIENT, probation=ProbationRules(seconds=0.2, frames=30))


def figures(frames: int = 200, **others: float) -> Figures:
    return msgspec.structs.replace(Figures(frames=frames, things=2.0, latency_ms_p99=50.0), **others)


@pytest.mark.parametrize(
    ("before", "found", "words"),
    [
        (figures(), figures(), ""),
        (None, figures(things=0.0), ""),
        (figures(), figures(failed=0.05), ""),
        (figures(), figures(failed=0.06), "it fails on 6% of the frames"),
        (figures(), figures(frames=29, failed=1.0), ""),
        (figures(), figures(latency_ms_p99=101.0), r"it takes 101 ms a frame \(p99\), allowed 100 ms"),
        (figures(), figures(things=0.0), "it sees nothing where the model before it saw 2.0 things in a frame"),
        (figures(), figures(things=0.1), ""),
        (figures(things=0.9), figures(things=0.0), ""),
        (figures(frames=99), figures(things=0.0), ""),
        (figures(), figures(frames=99, things=0.0), ""),
        (figures(), figures(things=21.0), "it sees 21 things in a frame, the model before it 2.0"),
        (figures(things=0.0), figures(things=9.0), ""),
        (figures(things=0.0), figures(things=11.0), "it sees 11 things in a frame, the model before it 0.0"),
    ],
)
def test_what_a_model_has_to_stand(before: Figures | None, found: Figures, words: str) -> None:
    probation = Probation(RULES, (Limits(latency_ms=100), Limits(latency_ms=200)), before)
    trouble = probation.trouble(found, 310.0)
    assert bool(trouble) == bool(words)
    if words:
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(trouble)


def test_memory_that_grows_when_all_is_in_full_swing_ends_it() -> None:
    probation = Probation(RULES, (), None)
    assert probation.trouble(figures(frames=29), 100.0) == ""
    assert probation.trouble(figures(frames=30), 300.0) == ""
    assert probation.trouble(figures(frames=40), 449.0) == ""
    words = "the agent's memory grew by 151 MB, allowed 150 MB"
    assert probation.trouble(figures(frames=50), 451.0) == words


def test_it_lasts_for_its_time_and_for_its_frames() -> None:
    now = 100.0
    probation = Probation(RULES, (), None, clock=lambda: now)
    assert not probation.is_over(figures())
    now += 10
    assert not probation.is_over(figures(frames=29))
    assert probation.is_over(figures(frames=30))


def test_figures_are_of_the_last_thousand_frames() -> None:
    log = LookLog()
    assert log.figures() == Figures()
    for _ in range(1000):
        log.note(900.0, None)
    for number in range(1000):
        log.note(float(number % 100), 3 if number % 2 else None)
    assert log.figures() == Figures(frames=2000, failed=0.5, things=3.0, latency_ms_p99=98.0)


def admit(slots: Slots, release: int) -> None:
    slots.candidate.write_bytes(content(release))
    slots.admit(wish(release), figures())


def test_what_is_on_probation_is_not_committed(tmp_path: Path) -> None:
    commit(Slots(tmp_path), 1)
    admit(Slots(tmp_path), 2)
    slots = Slots(tmp_path)
    assert active(slots) == 1
    assert slots.on_probation is not None
    assert (slots.on_probation.wish, slots.on_probation.before) == (wish(2), figures())
    assert slots.probation_path is not None
    assert slots.probation_path.read_bytes() == content(2)
    slots.commit(wish(2))
    assert active(Slots(tmp_path)) == 2
    assert Slots(tmp_path).on_probation is None
    Slots(tmp_path).fall_back()
    assert active(Slots(tmp_path)) == 1


def test_what_was_rolled_back_is_never_taken_again(tmp_path: Path) -> None:
    commit(Slots(tmp_path), 1)
    for release in (5, 4):
        admit(Slots(tmp_path), release)
        Slots(tmp_path).roll_back("it sees nothing")
        assert active(Slots(tmp_path)) == 1
    slots = Slots(tmp_path)
    slots.refuse(wish(9), "another reason")
    for release in (4, 5):
        with pytest.raises(RefusedError, match="it sees nothing"):
            slots.check(wish(release))
    commit(slots, 4)
    with pytest.raises(RefusedError, match="it sees nothing"):
        Slots(tmp_path).check(wish(5))
    commit(slots, 6)
    assert not msgspec.json.decode((tmp_path / "state.json").read_bytes())["rolled_back"]


def test_the_committed_bundle_never_gives_way_to_what_is_on_probation(tmp_path: Path) -> None:
    commit(Slots(tmp_path), 1)
    admit(Slots(tmp_path), 2)
    slots = Slots(tmp_path)
    slots.fall_back()
    assert active(slots) == 0
    assert slots.on_probation is not None


def test_a_state_that_names_no_bundle_on_probation_forgets_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commit(Slots(tmp_path), 1)
    admit(Slots(tmp_path), 2)
    state = msgspec.json.decode((tmp_path / "state.json").read_bytes())
    del state["slots"]["b"]
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(state))
    slots = Slots(tmp_path)
    assert (active(slots), slots.on_probation) == (1, None)
    assert len(caplog.records) == 1


def test_an_older_version_s_state_is_read(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    commit(slots, 1)
    state = msgspec.json.decode((tmp_path / "state.json").read_bytes())
    for name in ("probation", "rolled_back"):
        del state[name]
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(state))
    assert active(Slots(tmp_path)) == 1


def begin_again(slots: Slots) -> None:
    if slots.on_probation is not None:
        slots.begin_again()


@pytest.mark.parametrize(
    ("before", "work"),
    [
        ([], lambda slots: admit(slots, 1)),
        ([1], lambda slots: admit(slots, 2)),
        ([1, 2], lambda slots: admit(slots, 3)),
        ([1, -2], lambda slots: admit(slots, 3)),
        ([1, -2], lambda slots: slots.roll_back("no")),
        ([1, -2], lambda slots: slots.begin_again()),
        ([1, -2], lambda slots: slots.end_well()),
        ([-1], lambda slots: slots.roll_back("no")),
        ([1, -2], lambda slots: slots.commit(wish(2))),
    ],
)
def test_killed_at_any_moment_what_was_committed_still_is(
    tmp_path: Path, before: list[int], work: Callable[[Slots], None]
) -> None:
    """Negative: only admitted. Whatever is on probation after the kill is whole on the disk too."""
    start, folder = tmp_path / "start", tmp_path / "work"
    for release in before:
        (commit if release > 0 else admit)(Slots(start), abs(release))
    start.mkdir(exist_ok=True)
    committed = max([release for release in before if release > 0], default=0)

    def prepare() -> Callable[[], object]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        return lambda: work(Slots(folder))

    steps = 0
    for _ in kill_at_every_step(prepare):
        steps += 1
        slots = Slots(folder)
        if slots.on_probation is not None and slots.probation_path is not None:
            assert slots.probation_path.read_bytes() == content(slots.on_probation.wish.release)
            assert active(slots) == committed
        else:
            assert active(slots) in {committed, *(-release for release in before if release < 0)}
        begin_again(slots)
        commit(slots, 9)
        assert active(Slots(folder)) == 9
    assert steps > 2


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with running_station(tmp_path) as station:
        yield station


def test_a_model_that_does_well_is_committed(station: Station) -> None:
    agent = station.agent
    agent.settings = SHORT
    agent.restart()
    told = agent.take(station.first)
    assert told == Reported(release=1, sha256=station.first.sha256, state="active", desired=1)
    assert [(one.release, one.state, one.reason) for one in agent.told[1:]] == [
        (0, "updating", ""),
        (1, "updating", "on probation"),
        (1, "active", ""),
    ]
    assert agent.slots.active == station.first


def on_probation(station: Station) -> Reported:
    """Has the agent, whose first release is committed, take another one; returns what it reports of it."""
    agent = station.agent
    agent.take(station.first)
    agent.settings = LONG
    agent.restart()
    second = station.publish()
    agent.updater.desire(second)
    return agent.wait_for("updating", second.release, "on probation")


@pytest.mark.parametrize("script", [{"predict": "raises", "begin": 3}, {"predict": "moody", "begin": 3}])
def test_a_model_that_does_badly_is_taken_back_for_good(station: Station, script: dict[str, Any]) -> None:
    agent = station.agent
    agent.take(station.first)
    agent.settings = LONG
    agent.restart()
    agent.updater.desire(station.publish(**script))
    refused = agent.wait_for("refused", 2)
    assert refused.release == agent.answers() == 1
    assert "it fails" in refused.reason
    assert agent.slots.active == station.first
    assert agent.updater.stats.rolled_back == 1
    asked = len(station.web.asked)
    for _ in range(2):
        agent.restart()
        assert agent.answers() == 1
        agent.updater.desire(agent.slots.refused.wish if agent.slots.refused else None)
        agent.wait_for("refused", 2)
    assert len(station.web.asked) == asked
    agent.settings = SHORT
    agent.restart()
    assert agent.take(station.publish()).release == 3


def test_a_first_model_that_does_badly_leaves_the_user_s_own(station: Station) -> None:
    agent = station.agent
    agent.settings = LONG
    agent.restart()
    bad = station.publish(predict="raises", begin=3)
    agent.updater.desire(bad)
    assert agent.wait_for("refused", bad.release).release == 0
    assert agent.answers() == 0


def test_a_start_in_the_middle_goes_on_with_the_probation(station: Station) -> None:
    agent = station.agent
    on_probation(station)
    for _ in range(6):  # as often as it is asked to: that says nothing against the model
        agent.restart()
        assert agent.told[-1].reason == "on probation"
        assert agent.answers() == 2
    agent.settings = SHORT
    agent.restart()
    assert agent.wait_for("active", 2).release == 2


def test_an_agent_that_ends_too_often_on_probation_goes_back(station: Station) -> None:
    agent = station.agent
    on_probation(station)
    for answers in (2, 2, 1):
        agent.slots.end_well = lambda: None  # type: ignore[method-assign] # it is killed
        agent.restart()
        assert agent.answers() == answers
    assert (agent.told[-1].state, agent.told[-1].desired) == ("refused", 2)
    assert agent.told[-1].reason == "the agent began 3 times while release 2 was on probation"
    assert agent.slots.on_probation is None


def test_a_bundle_that_is_damaged_on_probation_goes_back(station: Station) -> None:
    agent = station.agent
    on_probation(station)
    agent.updater.stop()
    path = agent.slots.probation_path
    assert path is not None
    change_byte(path)
    agent.begin()
    assert agent.answers() == 1
    assert agent.slots.on_probation is None


def test_a_newer_wish_takes_the_place_of_what_is_on_probation(station: Station) -> None:
    agent = station.agent
    on_probation(station)
    third = station.publish()
    agent.updater.desire(third)
    agent.wait_for("updating", 3, "on probation")
    assert agent.slots.active == station.first
    agent.settings = SHORT
    agent.restart()
    assert agent.wait_for("active", 3).release == 3
    agent.slots.fall_back()
    assert agent.slots.active == station.first


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({"latency_ms_p99": 80.0}, "it takes 80 ms a picture here (p99), allowed 70 ms"),
        ({"memory_mb": 95.0}, "it takes 95 MB here, allowed 90 MB"),
        ({}, ""),
    ],
)
def test_a_model_that_needs_more_than_it_may_is_refused(
    station: Station, measured: dict[str, float], words: str
) -> None:
    agent = station.agent
    agent.settings = replace(PATIENT, budget=Limits(latency_ms=70, memory_mb=90))
    found = Measured(sha256=station.first.sha256, latency_ms_p50=40, latency_ms_p99=60, memory_mb=80)
    tried: list[Path] = []

    def try_out(path: Path, _: Callable[[], bool]) -> Measured:
        tried.append(path)
        return msgspec.structs.replace(found, **measured)

    agent.try_out = try_out
    agent.restart()
    agent.updater.desire(station.first)
    if words:
        assert agent.wait_for("refused", 1).reason == words
        assert agent.answers() == 0
    else:
        agent.wait_for("active", 1)
    assert tried == [agent.slots.candidate]


def test_what_the_trial_refuses_is_never_opened_here(station: Station) -> None:
    agent = station.agent

    def try_out(path: Path, _: Callable[[], bool]) -> Measured:
        raise RefusedError("it ended the process that tried it (SIGSEGV)")

    opened: list[Path] = []
    agent.try_out = try_out
    agent.load = lambda path: opened.append(path) or load_scripted(path)  # type: ignore[func-returns-value]
    agent.restart()
    agent.updater.desire(station.first)
    assert "SIGSEGV" in agent.wait_for("refused", 1).reason
    assert not opened
