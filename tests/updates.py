"""A home that serves signed releases over a real web server, and the parts of an agent that take them."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.fakes.models import load_scripted, write_scripted
from tests.waiting import wait_for
from tests.web import Web
from walt_edge.contract.messages import Desired, Reported
from walt_edge.update.engines import Engines
from walt_edge.update.fetcher import FetchLimits
from walt_edge.update.holder import Model, ModelHolder
from walt_edge.update.probation import ProbationRules
from walt_edge.update.settings import UpdateSettings
from walt_edge.update.slots import Slots
from walt_edge.update.trial import Measured
from walt_edge.update.trust import Trust
from walt_edge.update.updater import ModelUpdater
from walt_train.loop.publish.repository import LIFE, Release, Repository

FRAME = np.zeros((64, 96, 3), np.uint8)
LIMITS = FetchLimits(connect_s=2.0, silence_s=2.0, total_s=1.0)
AT_ONCE = ProbationRules(seconds=0)
PATIENT = UpdateSettings(network_min_s=600, network_max_s=600, home_min_s=600, home_max_s=600, probation=AT_ONCE)
HASTY = UpdateSettings(network_min_s=0.02, network_max_s=0.05, home_min_s=0.02, home_max_s=0.05, probation=AT_ONCE)
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
        self.prepare: Callable[[], object] = lambda: None
        self.try_out: Callable[[Path, Callable[[], bool]], Measured] | None = None
        self.engines: Engines | None = None
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
            lambda: self.prepare(),
            self.try_out,
            engines=self.engines,
        )
        self.updater.restore()
        self.updater.start()

    def restart(self) -> None:
        self.updater.stop()
        self.begin()

    def wait_for(self, state: str, desired: int, reason: str = "") -> Reported:
        """Lets frames pass until the agent reports so, with these words in the reason."""

        def is_told() -> bool:
            self.holder.exchange()
            self.holder.look(FRAME)
            last = self.told[-1] if self.told else None
            return last is not None and (last.state, last.desired) == (state, desired) and reason in last.reason

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


def change_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def frozen(station: Station) -> Desired:
    """A release that was signed so long ago that what vouches for it is over."""
    with mock.patch.dict(LIFE, timestamp=timedelta(days=-10), snapshot=timedelta(days=-10)):
        return station.publish()


@contextmanager
def running_station(folder: Path) -> Iterator[Station]:
    """A station below `folder`, until the block ends."""
    (folder / "served").mkdir()
    with Web(folder / "served") as web:
        station = Station(folder, web)
        try:
            yield station
        finally:
            station.agent.updater.stop()
