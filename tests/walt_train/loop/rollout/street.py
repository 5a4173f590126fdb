"""A whole home with a simulated fleet over a real Mosquitto: watch, repository, engine, and devices in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from tests.broker import Broker
from tests.bundles import FILES, manifest
from walt_edge.contract.bundle import write_bundle
from walt_edge.contract.messages import Desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.fleet.watch import FleetWatch, WatchConfig
from walt_train.loop.publish.desired import set_desired
from walt_train.loop.publish.repository import Release, Repository
from walt_train.loop.rollout.driving import Driving
from walt_train.loop.rollout.engine import RolloutEngine
from walt_train.loop.rollout.model import CANARY, REST, SHARE, Limits, Plan, Rollout, Stage
from walt_train.loop.rollout.rollouts import device_states
from walt_train.loop.simulate.agent import Pace
from walt_train.loop.simulate.fleet import Fleet, Story
from walt_train.loop.simulate.window import Times
from walt_train.loop.store.store import Store

TELL_S = 2.0
PACE = Pace(fetch_s=0.5, probation_s=4.0, crash_s=0.8, speed=60.0)


def plan(devices: int, observe_s: float = 8.0) -> Plan:
    """The usual plan, with a minute for a day."""
    share = Stage(name=SHARE, share=0.25 if devices < 100 else 0.1, observe_s=observe_s, samples=10, patience_s=90)
    canary = Stage(name=CANARY, share=0.01, least_share=0.6, observe_s=observe_s, samples=4, patience_s=90)
    rest = Stage(name=REST, share=1.0, observe_s=observe_s, samples=20, patience_s=90)
    limits = Limits(silent_s=25.0)
    stages = (canary, share, rest) if devices > 1 else (canary,)
    return Plan(stages=stages, limits=limits, before_s=16.0, tier_s=0, judge_s=0.5)


class Street:
    """Runs it all while the block lasts.

    Args:
        folder: Holds everything.
        devices: How many.
        seed: Of the fleet.
    """

    def __init__(self, folder: Path, devices: int, seed: int = 1) -> None:
        self.folder, self.seed = folder, seed
        self._stack = ExitStack()
        self.broker = self._stack.enter_context(Broker.start(folder))
        self.store = self._stack.enter_context(Store(folder / "store"))
        self.repository = Repository(folder / "served", folder / "keys")
        times = Times(telemetry_s=TELL_S, reconnect_min_s=0.2, reconnect_max_s=1.0)
        story = Story(
            devices=devices,
            crops_per_second=0,
            seconds=3600.0,
            ramp_s=devices / 200,
            times=times,
            pace=PACE,
            seed=seed,
        )
        self.fleet = Fleet(story, (self.broker.host, self.broker.port), told=self._look)
        self.topics = [DeviceTopics(story.site, name) for name in story.names]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._play, name="street")
        self.watch = FleetWatch(self.store.engine, self.config("watch"), WatchConfig(judge_s=2.0, flush_s=1.0))
        self.engine = RolloutEngine(self.store.engine, self.repository, self.tell)

    def config(self, name: str) -> BrokerConfig:
        return BrokerConfig(self.broker.host, self.broker.port, client_id=f"walt-test-{name}")

    def tell(self, devices: Sequence[DeviceTopics], wish: Desired) -> None:
        set_desired(self.config("tell"), devices, wish, timeout_s=30.0)

    def __enter__(self) -> Street:
        self.watch.start()
        assert self.watch.listening.wait(30)
        self._thread.start()
        self._stack.enter_context(Driving(self.engine, every_s=0.3))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.fleet.stop)
        self._thread.join(60)
        self.watch.stop()
        self._stack.close()

    def publish(self, name: str) -> Release:
        path = self.folder / f"{name}.walt"
        write_bundle(path, manifest(name), FILES | {"model.onnx": name.encode()})
        return self.repository.publish(path, role="canary")

    def begin_with(self, name: str) -> Release:
        """All run it, and have told of it for a while."""
        release = self.repository.promote(self.publish(name))
        self.tell(self.topics, Desired(release=release.number, target=release.target, sha256=release.sha256))
        self.wait(lambda: self.running(release.number) == len(self.topics), 120, "for the first release")
        self.rest(16.0)
        return release

    def rest(self, seconds: float) -> None:
        """Lets the fleet tell so much of itself."""
        until_s = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= until_s, seconds + 5)

    def running(self, number: int) -> int:
        """Devices that run that release for good, as home knows."""
        states = device_states(self.store.engine).values()
        reports = [one.reported for one in states if one.reported is not None]
        return sum(one.release == number and one.state == "active" for one in reports)

    def end_of(self, made: Rollout, timeout_s: float = 240.0) -> Rollout:
        """The rollout once it has ended, or is paused."""
        self.wait(lambda: self._state(made.id) not in ("waiting", "running", "rolling-back"), timeout_s, made.name)
        return self.engine.rollouts.read(made.id)

    def wait(self, condition: object, timeout_s: float, what: str = "") -> None:
        assert callable(condition)
        until_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until_s:
                raise TimeoutError(f"waited {timeout_s} s in vain {what}")
            time.sleep(0.1)

    def _state(self, number: int) -> str:
        return next(str(one.state) for one in self.engine.rollouts.all() if one.id == number)

    def _look(self, phase: str, done: float, all_: float) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()

    def _play(self) -> None:
        asyncio.run(self.fleet.play())
