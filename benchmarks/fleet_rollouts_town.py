"""Rollouts by the hundred in simulated towns: the engine from the fleet's tables on, with a clock of its own.

A town's past of eight days is made once; every release then goes out in a copy of it, with noise of its own: day and
night, weather, busy and quiet cameras, devices that fall silent. Half of the towns give the release to all of their
devices, half to a single camera, with the others to compare with.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from walt_edge.contract.messages import Desired
from walt_train.loop.publish.repository import Release
from walt_train.loop.rollout.engine import RolloutEngine
from walt_train.loop.rollout.model import CANARY, Rollout, State
from walt_train.loop.simulate.agent import Behaviour
from walt_train.loop.simulate.town import BUCKET_S, Town
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import open_database

BAD = tuple(one for one in Behaviour if one is not Behaviour.GOOD)
DAY_S = 86_400
_DEVICES = 24
_PATIENCE_S = 4 * DAY_S


class Shelf:
    """Releases without files: numbers and names, with the repository's interface."""

    def __init__(self) -> None:
        self.releases: list[Release] = []

    def add(self, name: str) -> Release:
        """A release under the next number; its name tells how it behaves."""
        number = len(self.releases) + 1
        sha256 = f"{sum(name.encode()):064x}"
        self.releases.append(Release(number, f"{name}-{number}.walt", sha256))
        return self.releases[-1]

    def find(self, sha256: str) -> Release | None:
        """The newest of these bytes."""
        return next((one for one in self.releases[::-1] if one.sha256 == sha256), None)

    def promote(self, release: Release) -> Release:
        """For all."""
        return release

    def undo(self, release: Release | str) -> Release:
        """The same name under the next number."""
        sha256 = release if isinstance(release, str) else release.sha256
        old = self.find(sha256)
        assert old is not None
        return self.add(old.target.partition("-")[0])


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one release.

    Attributes:
        kind: How it behaved.
        is_single: It was for one camera.
        state: How its rollout ended, or `paused`.
        hours: How long it was out.
        beyond: Devices that were told and are no canaries.
        wrong: Devices that run it and should not, or do not and should.
        detail: Why.
    """

    kind: Behaviour
    is_single: bool
    state: State
    hours: float
    beyond: int
    wrong: int
    detail: str

    @property
    def is_right(self) -> bool:
        """A good one is everywhere, a bad one nowhere."""
        return self.state is (State.DONE if self.kind is Behaviour.GOOD else State.ROLLED_BACK) and not self.wrong


def fates(folder: Path, seed: int, kinds: Sequence[Behaviour]) -> Iterator[Fate]:
    """What becomes of releases of these kinds, each in a copy of the same town."""
    is_single = seed % 2 == 1
    engine = _opened(folder / "past")
    town, shelf = Town(engine, _DEVICES, seed), Shelf()
    first = shelf.add("plain")
    town.begin_with(Desired(release=first.number, target=first.target, sha256=first.sha256))
    town.pass_time(8 * DAY_S + 3600 * (5 * seed % 24))
    engine.dispose()
    for number, kind in enumerate(kinds):
        place = folder / f"fate-{number}"
        shutil.copytree(folder / "past", place)
        engine = _opened(place)
        yield _fate(engine, town.elsewhere(engine, 1000 * seed + number), kind, is_single)
        engine.dispose()
        shutil.rmtree(place)


def _fate(engine: Engine, town: Town, kind: Behaviour, is_single: bool) -> Fate:
    shelf = Shelf()
    shelf.add("plain")
    release = shelf.add(str(kind))
    driver = RolloutEngine(engine, shelf, town.tell, owner="town", clock=town.now_us)
    devices = town.devices[:1] if is_single else town.devices
    made = driver.rollouts.create(release, devices, "benchmark")
    began_s = town.now_s
    while town.now_s - began_s < _PATIENCE_S:
        driver.step()
        found = driver.rollouts.all()[0]
        if not found.is_open or found.state is State.PAUSED:
            break
        town.pass_time(BUCKET_S)
    hours = (town.now_s - began_s) / 3600
    town.pass_time(6 * BUCKET_S)
    rollout = driver.rollouts.read(made.id)
    why = next((one.detail for one in rollout.events if one.what in ("breach", "patience")), "")
    return Fate(kind, is_single, rollout.state, hours, _beyond(rollout), _wrong(town, rollout, kind), why)


def _beyond(rollout: Rollout) -> int:
    return sum(one.touched_us is not None and one.cohort != CANARY for one in rollout.members)


def _wrong(town: Town, rollout: Rollout, kind: Behaviour) -> int:
    """Once all is over; who is away at that moment hears of it later, and is not counted."""
    running, meant = town.running(), {one.device for one in rollout.members if not one.outside}
    bad = kind if rollout.state is not State.DONE else "plain"
    return sum(running[name].partition("-")[0] == bad for name in meant & town.there())


def _opened(folder: Path) -> Engine:
    folder.mkdir(parents=True, exist_ok=True)
    return open_database(StoreConfig.local(folder).database)
