"""An agent is killed at every step that an update makes on the disk, from the fetched bundle to the commit."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.models import load_scripted, write_scripted
from tests.killing import kill_at_every_step
from tests.updates import FRAME
from tests.waiting import wait_for
from walt_edge.contract.bundle import Bundle
from walt_edge.contract.messages import Desired, Reported
from walt_edge.update.holder import ModelHolder
from walt_edge.update.probation import ProbationRules
from walt_edge.update.settings import UpdateSettings
from walt_edge.update.slots import Slots
from walt_edge.update.updater import ModelUpdater

QUICK = UpdateSettings(probation=ProbationRules(seconds=0.01, frames=3))


class Shelf:
    """Home's releases in a folder: a `Source` without a network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def put(self, release: int, **script: object) -> Desired:
        path = write_scripted(self._folder / f"street-{release}.walt", f"street-{release}", **script)
        return Desired(release=release, target=path.name, sha256=Bundle.read(path).sha256)

    def fetch(self, wish: Desired, into: Path, is_cancelled: Callable[[], bool]) -> None:
        shutil.copyfile(self._folder / wish.target, into)

    fetched_bytes = 0

    def want(self, wish: Desired | None) -> None:
        pass

    def keep_time(self) -> None:
        pass


def run_agent(folder: Path, shelf: Shelf, wish: Desired, state: str) -> tuple[int, Reported]:
    """An agent from its start until it reports so of a wish; the release at its first frame, and the report."""
    holder, told = ModelHolder(), list[Reported]()
    updater = ModelUpdater(shelf, Slots(folder), holder, load_scripted, told.append, QUICK, random.Random(1))
    updater.restore()
    holder.exchange()
    first = holder.release
    updater.start()
    updater.desire(wish)

    def is_told() -> bool:
        holder.exchange()
        holder.look(FRAME)
        return (told[-1].state, told[-1].desired) == (state, wish.release)

    wait_for(is_told, 30, f"for {state} {wish.release}")
    updater.stop()
    return first, told[-1]


@pytest.mark.parametrize(
    ("script", "state", "ends"),
    [({}, "active", 2), pytest.param({"predict": "moody"}, "refused", 1, marks=pytest.mark.slow)],
)
def test_killed_at_any_moment_of_an_update_a_proven_model_looks(
    tmp_path: Path, script: dict[str, object], state: str, ends: int
) -> None:
    shelf, start, folder = Shelf(tmp_path / "shelf"), tmp_path / "start", tmp_path / "work"
    first, second, third = shelf.put(1), shelf.put(2, **script), shelf.put(3)
    run_agent(start, shelf, first, "active")

    def prepare() -> Callable[[], object]:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
        return lambda: run_agent(folder, shelf, second, state)

    steps = 0
    for step in kill_at_every_step(prepare):
        steps += 1
        begun, told = run_agent(folder, shelf, second, state)
        assert begun in (1, 2), step
        assert told.release == ends, step
        assert run_agent(folder, shelf, third, "active")[0] == ends
        assert threading.active_count() < 10
    assert steps > 10
