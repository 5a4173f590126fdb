"""The slots: whatever moment the power goes, what is committed can be used."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.killing import kill_at_every_step
from walt_edge.contract.messages import Desired
from walt_edge.update.errors import NotNowError, RefusedError
from walt_edge.update.slots import Slots


def content(release: int) -> bytes:
    return b"bundle %d" % release


def wish(release: int, data: bytes | None = None) -> Desired:
    sha256 = hashlib.sha256(data or content(release)).hexdigest()
    return Desired(release=release, target=f"street-{release}.walt", sha256=sha256)


def commit(slots: Slots, release: int) -> None:
    slots.candidate.write_bytes(content(release))
    slots.commit(wish(release))


def active(slots: Slots) -> int:
    """The committed release, whose bundle must be what the state says; 0 without one."""
    if slots.active is None or slots.active_path is None:
        return 0
    assert hashlib.sha256(slots.active_path.read_bytes()).hexdigest() == slots.active.sha256
    return slots.active.release


def bundles(folder: Path) -> int:
    return len(list(folder.glob("*.walt")))


def test_two_bundles_are_kept_and_the_committed_one_is_found_again(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "models")
    assert active(slots) == 0
    for release in range(1, 5):
        commit(slots, release)
        assert active(slots) == active(Slots(tmp_path / "models")) == release
        assert bundles(tmp_path / "models") == min(release, 2)


def test_falling_back_goes_to_the_one_before_and_then_to_none(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    for release in (1, 2):
        commit(slots, release)
    slots.fall_back()
    assert active(slots) == active(Slots(tmp_path)) == 1
    slots.fall_back()
    assert active(slots) == active(Slots(tmp_path)) == 0
    assert bundles(tmp_path) == 0
    slots.check(wish(3))
    with pytest.raises(RefusedError, match="release 1 is not above 2"):
        slots.check(wish(1))


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (wish(4), "release 4 is not above 5"),
        (wish(5, b"other bytes"), "release 5 is not above 5"),
        (wish(7), "it disagrees"),
    ],
)
def test_what_is_not_newer_or_was_refused_is_refused_over_a_restart(
    tmp_path: Path, asked: Desired, line: str
) -> None:
    slots = Slots(tmp_path)
    commit(slots, 5)
    slots.refuse(wish(7), "it disagrees")
    for one in (slots, Slots(tmp_path)):
        one.check(wish(6))
        one.check(wish(5))
        with pytest.raises(RefusedError, match=line):
            one.check(asked)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"active":"c"}', b'{"active":"a","slots":{}}', b"\xff\xfe", b"[]"])
def test_a_damaged_state_begins_without_a_model(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    commit(Slots(tmp_path), 1)
    (tmp_path / "state.json").write_bytes(damage)
    slots = Slots(tmp_path)
    assert active(slots) == 0
    assert len(caplog.records) == 1
    commit(slots, 2)
    assert active(Slots(tmp_path)) == 2


def test_a_trial_that_was_survived_is_forgotten(tmp_path: Path) -> None:
    for _ in range(5):
        slots = Slots(tmp_path)
        slots.check(wish(1))
        slots.begin_trial(wish(1))
        slots.drop_candidate()
    for _ in range(3):
        Slots(tmp_path).begin_trial(wish(1))
    with pytest.raises(RefusedError, match="ended 3 times"):
        Slots(tmp_path).check(wish(1))
    Slots(tmp_path).check(wish(2))


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "centerface.onnx").write_bytes(b"somebody else's")
    commit(Slots(tmp_path), 1)
    Slots(tmp_path).fall_back()
    assert (tmp_path / "centerface.onnx").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises(NotNowError, match="cannot write in"):
        Slots(tmp_path / "models")


@pytest.mark.parametrize(
    ("before", "work", "allowed"),
    [
        ([], lambda slots: commit(slots, 1), {0, 1}),
        ([1], lambda slots: commit(slots, 2), {1, 2}),
        ([1, 2], lambda slots: commit(slots, 3), {2, 3}),
        ([1, 2], lambda slots: slots.fall_back(), {2, 1}),
        ([1], lambda slots: slots.fall_back(), {1, 0}),
        ([1, 2], lambda slots: slots.refuse(wish(3), "no"), {2}),
        ([1, 2], lambda slots: slots.begin_trial(wish(3)), {2}),
        ([1, 2], lambda slots: slots.stand_down(Desired.nothing(2)), {2, 0}),
    ],
)
def test_killed_at_any_moment_it_is_usable(
    tmp_path: Path, before: list[int], work: Callable[[Slots], None], allowed: set[int]
) -> None:
    start, folder = tmp_path / "start", tmp_path / "work"
    for release in before:
        commit(Slots(start), release)
    start.mkdir(exist_ok=True)

    def prepare() -> Callable[[], object]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        return lambda: work(Slots(folder))

    seen = set()
    for step in kill_at_every_step(prepare):
        slots = Slots(folder)
        seen.add(active(slots))
        assert bundles(folder) <= 2, step
        commit(slots, 9)
        assert active(Slots(folder)) == 9
    assert seen == allowed


def test_what_home_wants_gone_is_gone_and_stays_so(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    for release in (1, 2):
        commit(slots, release)
    slots.stand_down(Desired.nothing(2))
    slots.stand_down(Desired.nothing(2))
    again = Slots(tmp_path)
    assert (active(again), bundles(tmp_path)) == (0, 0)
    with pytest.raises(RefusedError, match="not above 2"):
        again.check(wish(1))
    again.check(wish(3))


def test_an_old_wish_for_nothing_is_refused(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    for release in (1, 2):
        commit(slots, release)
    with pytest.raises(RefusedError, match="release 2 was committed here"):
        slots.stand_down(Desired.nothing(1))
    assert active(slots) == 2
