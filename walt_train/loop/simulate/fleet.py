"""A fleet: devices, hostile devices and a counting subscriber on one event loop, and the story that they play.

They connect, see things at a rate that does not depend on how home is doing, and at the end bring home what waits.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import resource
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.messages import AckState
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.simulate.agent import Pace
from walt_train.loop.simulate.credentials import Credentials
from walt_train.loop.simulate.crops import CropMaker
from walt_train.loop.simulate.device import Device
from walt_train.loop.simulate.ear import Ear
from walt_train.loop.simulate.hostile import Hostile, Trick
from walt_train.loop.simulate.ledger import Ledger
from walt_train.loop.simulate.outcome import Hostilities, Outcome, percentile_ms
from walt_train.loop.simulate.participant import Participant, Shore
from walt_train.loop.simulate.window import Times

_FEED_S = 0.01
_POLL_S = 0.05
_HEARD_S = 10.0
_SPARE_FILES = 200
_US = 1_000_000


class SimulationError(WaltError):
    """The simulation cannot be played."""


@dataclass(frozen=True, slots=True)
class Story:
    """What is played.

    Attributes:
        devices: How many take part.
        crops_per_second: Of the whole fleet, while it sees things.
        crop_kb: Size of a crop's image, thousands of bytes.
        seconds: How long it sees things; ends sooner if asked to.
        backlog: Crops that every device holds when it connects first, as after an outage.
        backlog_s: The time over which these were seen.
        cut_at_s: When all connections break at once, seconds after the first crop; None: never.
        hostile: Hostile devices beside the others.
        hostile_per_second: Of each of these.
        settle_s: Before the first attempt: home learns only once a second who has been enrolled.
        ramp_s: Over how long the first attempts to connect are spread.
        patience_s: How long to wait for all to connect, and at the end for home's answers.
        site: All devices' site; its name is the beginning of theirs.
        times: Times and limits of a device.
        pace: How long a device takes with releases.
        seed: Of everything that is drawn.
    """

    devices: int
    crops_per_second: float
    crop_kb: float = 60.0
    seconds: float = 60.0
    backlog: int = 0
    backlog_s: float = 3600.0
    cut_at_s: float | None = None
    hostile: int = 0
    hostile_per_second: float = 5.0
    settle_s: float = 0.0
    ramp_s: float = 0.0
    patience_s: float = 120.0
    site: str = "sim"
    times: Times = field(default_factory=Times)
    pace: Pace = field(default_factory=Pace)
    seed: int = 1

    @property
    def names(self) -> list[str]:
        """The devices' names."""
        return [f"{self.site}-{number:05}" for number in range(self.devices)]

    @property
    def hostile_names(self) -> list[str]:
        """The hostile devices' names."""
        return [f"{self.site}-hostile-{number:03}" for number in range(self.hostile)]

    @property
    def ear_name(self) -> str:
        """The counting subscriber's name at the broker."""
        return f"walt-simulate-{self.site}"


class Fleet:
    """Plays a story once.

    Args:
        story: What is played.
        door: The broker's host and port for devices.
        credentials: The devices' certificates.
        ear_door: The broker's host and port for the counting subscriber; None: the devices' own.
        ear_tls: The counting subscriber's certificate; it may read what devices say.
        told: Called about twenty times a second with the phase's name, how far it is and how far it goes.

    Attributes:
        ledger: The fleet's books; complete when `play` has returned.
        boot_id: Stands in every crop of this run, and in no other's.
    """

    def __init__(
        self,
        story: Story,
        door: tuple[str, int],
        credentials: Credentials = lambda _: None,
        ear_door: tuple[str, int] | None = None,
        ear_tls: ssl.SSLContext | None = None,
        told: Callable[[str, float, float], None] = lambda _phase, _done, _all: None,
    ) -> None:
        self._story = story
        self._door = door
        self._ear_door = ear_door or door
        self._credentials = credentials
        self._ear_tls = ear_tls
        self._told = told
        self._chance = random.Random(story.seed)
        self._maker = CropMaker(story.crop_kb, story.seed)
        self._devices: list[Device] = []
        self._hostile: list[Hostile] = []
        self._stopping = asyncio.Event()
        self._broken: list[BaseException] = []
        self._lag_s = 0.0
        self._cpu_s = 0.0
        self.ledger = Ledger()
        self.boot_id = f"sim-{self._chance.getrandbits(64):016x}-{time.time_ns():x}"

    def stop(self) -> None:
        """The devices see nothing more; what waits is brought home. Called in the loop's thread."""
        self._stopping.set()

    async def play(self) -> Outcome:
        """Plays it.

        Raises:
            SimulationError: The broker cannot be reached, refuses the devices, or too few files may be open.
        """
        story = self._story
        raise_file_limit(story.devices + story.hostile + _SPARE_FILES)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._fail(context))
        shore = Shore(*self._door, story.times, loop)
        ear = self._board(shore)
        everybody: list[Participant] = [ear, *self._devices, *self._hostile]
        ticker = asyncio.create_task(self._tick(everybody))
        try:
            self._cpu_s = -time.process_time()
            connected_s = await self._connect(ear)
            apart_s = await self._see()
            await self._drain()
            self._cpu_s += time.process_time()
            wrong = await self._compare(ear)
            await self._leave(self._devices)
            wrong |= await self._compare(ear)
        finally:
            await self._leave(everybody)
            ticker.cancel()
            # Who is still connecting tells the loop how it went, so the loop must wait for that.
            await loop.run_in_executor(None, partial(shore.diallers.shutdown, cancel_futures=True))
        return self._outcome(ear, connected_s, apart_s, len(wrong))

    def _board(self, shore: Shore) -> Ear:
        story, chance = self._story, self._chance

        def own() -> random.Random:
            return random.Random(chance.getrandbits(64))

        for number, name in enumerate(story.names):
            self._tell("making certificates", number, story.devices)
            topics = DeviceTopics(story.site, name)
            device = Device(
                shore, topics, self._credentials(topics), self._maker, self.ledger, self.boot_id, own(), story.pace
            )
            self._devices.append(device)
        for name in story.hostile_names:
            topics, victim = DeviceTopics(story.site, name), chance.choice(self._devices).topics
            tls, rate = self._credentials(topics), story.hostile_per_second
            self._hostile.append(Hostile(shore, topics, victim, tls, self._maker, rate, own()))
        at_home = dataclasses.replace(shore, host=self._ear_door[0], port=self._ear_door[1])
        return Ear(at_home, story.ear_name, self._ear_tls, story.site, own())

    async def _connect(self, ear: Ear) -> float:
        """The subscriber first, so that it misses nothing; gives how long the others took."""
        story = self._story
        ear.start()
        if not await self._wait("connecting", lambda: int(ear.online), 1):
            host, port = self._ear_door
            raise SimulationError(f"the broker {host}:{port} does not take our counting subscriber: {ear.why}")
        began_s = time.monotonic()
        now_us = time.time_ns() // 1000
        for device in self._devices:
            for number in range(story.backlog):
                device.accept(now_us - int(_US * story.backlog_s * (1 - (number + 1) / story.backlog)))
        for one in (*self._devices, *self._hostile):
            one.start(story.settle_s + self._chance.uniform(0.0, story.ramp_s))
        if not await self._wait("connecting", self._online, len(self._devices)):
            why = next(device.why for device in self._devices if not device.online)
            raise SimulationError(
                f"after {story.patience_s:.0f} s {self._online()} of {story.devices} devices are connected: {why}"
            )
        return time.monotonic() - began_s - story.settle_s

    async def _see(self) -> float:
        """Crops at a rate, whatever home does; gives the longest time in which not all devices were online."""
        story, made, cut, began_s = self._story, 0, False, time.monotonic()
        together_s, longest_s = began_s, 0.0
        while not self._stopping.is_set() and (now_s := time.monotonic()) - began_s < story.seconds:
            for _ in range(int((now_s - began_s) * story.crops_per_second) - made):
                self._chance.choice(self._devices).accept(time.time_ns() // 1000)
                made += 1
            if not cut and story.cut_at_s is not None and now_s - began_s >= story.cut_at_s:
                cut = True
                for device in self._devices:
                    device.cut("cut")
            if self._online() == len(self._devices):
                together_s = now_s
            longest_s = max(longest_s, now_s - together_s)
            self._tell("seeing", now_s - began_s, story.seconds)
            await asyncio.sleep(_FEED_S)
        return longest_s

    async def _drain(self) -> None:
        await self._wait("bringing home", lambda: self.ledger.accepted - self.ledger.pending, self.ledger.accepted)

    async def _compare(self, ear: Ear) -> set[str]:
        """The devices whose last status has not reached the subscriber within a while."""

        def wrong() -> set[str]:
            heard = {name: one.state for name, one in ear.statuses.items()}
            return {device.client_id for device in self._devices if heard.get(device.client_id) != device.said}

        deadline_s = time.monotonic() + min(_HEARD_S, self._story.patience_s)
        while (still := wrong()) and time.monotonic() < deadline_s:
            self._tell("listening", len(self._devices) - len(still), len(self._devices))
            await asyncio.sleep(_POLL_S)
        return still

    async def _leave(self, who: list[Device] | list[Participant]) -> None:
        await asyncio.gather(*(one.leave() for one in who))

    async def _wait(self, phase: str, done: Callable[[], int], all_: int) -> bool:
        """Waits until all are done, or the patience is over."""
        deadline_s = time.monotonic() + self._story.patience_s
        while done() < all_ and time.monotonic() < deadline_s:
            self._tell(phase, done(), all_)
            await asyncio.sleep(_POLL_S)
        return done() >= all_

    async def _tick(self, everybody: list[Participant]) -> None:
        pause_s = self._story.times.tick_s
        while True:
            now_s = time.monotonic()
            for one in everybody:
                one.tick(now_s)
            due_s = time.monotonic() + pause_s
            await asyncio.sleep(pause_s)
            self._lag_s = max(self._lag_s, time.monotonic() - due_s)

    def _online(self) -> int:
        return sum(device.online for device in self._devices)

    def _tell(self, phase: str, done: float, all_: float) -> None:
        if self._broken:
            raise self._broken[0]
        self._told(phase, done, all_)

    def _fail(self, context: dict[str, object]) -> None:
        """Something in a callback has failed: a fault of the simulator, and no figure may come of it."""
        error = context.get("exception")
        self._broken.append(error if isinstance(error, BaseException) else SimulationError(str(context["message"])))

    def _outcome(self, ear: Ear, connected_s: float, apart_s: float, wrong: int) -> Outcome:
        if self._broken:
            raise self._broken[0]
        ledger, devices = self.ledger, self._devices
        tried: Counter[Trick] = sum((one.tried for one in self._hostile), start=Counter())
        return Outcome(
            devices=len(devices),
            connected_s=connected_s,
            measured_s=ledger.span_s,
            accepted=ledger.accepted,
            acked=ledger.acked,
            duplicates=ledger.states[AckState.DUPLICATE],
            rejected=ledger.rejected,
            pending=sum(device.pending for device in devices),
            stored_twice=ledger.stored_twice,
            sent=ledger.sent,
            resent=ledger.resent,
            unheard=ledger.unheard,
            refused=ledger.refused,
            crops_per_second=ledger.acked / max(ledger.span_s, _FEED_S),
            ack_ms_p50=percentile_ms(ledger.latencies_s, 50),
            ack_ms_p99=percentile_ms(ledger.latencies_s, 99),
            connects=sum(device.connects for device in devices),
            failures=sum(device.failures for device in devices),
            why=next((device.why for device in devices if device.why), ""),
            apart_s=apart_s,
            status_sent=sum(device.status_sent for device in devices),
            status_heard=ear.heard["status"],
            status_wrong=wrong,
            telemetry_sent=sum(device.telemetry_sent for device in devices),
            telemetry_heard=ear.heard["telemetry"],
            hostilities=Hostilities(
                tried={trick.value: count for trick, count in tried.items()},
                rejected=sum(one.rejected for one in self._hostile),
                refused=sum(one.refused for one in self._hostile),
                believed=sum(one.believed for one in self._hostile),
                overheard=sum(one.overheard for one in self._hostile),
            ),
            lag_ms_max=1e3 * self._lag_s,
            cpu_s=self._cpu_s,
            peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )


def raise_file_limit(wanted: int) -> None:
    """Lets this process hold that many connections; raises UsageError if the system allows fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise UsageError(f"{wanted} files must be open at a time, the system allows {hard}: ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
