"""A fleet in the fleet's tables, with a clock of its own: months of cameras in seconds, without a broker.

What is written is what the watch would have written: states, and samples of minutes and of hours. Cameras differ in
how much passes, which hours are theirs and how steady they are; devices fall silent and come back. Releases are taken
by the same simulated agents as over MQTT.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
from sqlalchemy import Engine, insert, select

from walt_edge.contract.messages import Desired, Info, Reported, SpoolCounts, Telemetry
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.fleet.figures import COUNTERS, FIELDS, SPREADS, Bucket, bucket_of, columns, merge
from walt_train.loop.fleet.state import CameraState, DeviceState, camera_key
from walt_train.loop.fleet.tables import fleet_cameras, fleet_devices, fleet_samples, fleet_watch
from walt_train.loop.simulate.agent import Agent, Pace
from walt_train.loop.store.database import transaction

BUCKET_S: Final = 600
_US: Final = 1_000_000
_DAY_S: Final = 86_400
_HOUR_S: Final = 3600
_LOOKS_PER_S: Final = 5.0
_MESSAGES: Final = BUCKET_S // 30
_CAMERA: Final = "cam"
_SUMS: Final = tuple(place for place, name in enumerate(FIELDS) if name == "count" or name.endswith("_sum"))
"""What every message of a stretch adds to."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How unlike each other, and themselves, cameras are.

    Attributes:
        cameras: Spread of how much passes, between cameras (of the logarithm).
        day: How much more passes by day than by night, as a factor up and down.
        weather: Spread of what befalls all cameras at once, hour by hour.
        hours: Spread of one camera's own hours.
        moments: Spread of ten minutes.
        score: Spread of the mean score in ten minutes.
        latency: Spread of the time of a look.
        lost: Chance of an hour that a device falls silent in, for half an hour.
    """

    cameras: float = 0.7
    day: float = 4.0
    weather: float = 0.2
    hours: float = 0.15
    moments: float = 0.15
    score: float = 0.02
    latency: float = 0.05
    lost: float = 0.004


@dataclass(eq=False, slots=True)
class _Inbox:
    """What a device has reported since it was last looked at."""

    told: list[Reported] = field(default_factory=list)

    def note(self, reported: Reported) -> None:
        """Takes a report."""
        self.told.append(reported)


@dataclass(eq=False, slots=True)
class _House:
    """One device with one camera."""

    topics: DeviceTopics
    state: DeviceState
    agent: Agent
    busy: float
    phase_s: float
    score: float
    look_ms: float
    wish: Desired | None = None
    hour: float = 0.0
    away_until_s: float = -math.inf
    starts: int = 0
    hourly: Bucket[float] | None = None
    inbox: _Inbox = field(default_factory=_Inbox)


class Town:
    """A simulated fleet.

    Args:
        engine: The database, with the store's tables.
        devices: How many.
        seed: Of everything that is drawn.
        noise: How unlike they are.
        pace: How long devices take with releases.
        begin_us: When its past begins.

    Attributes:
        now_s: Seconds since then.
        told: How many devices were told each release.
    """

    def __init__(
        self,
        engine: Engine,
        devices: int,
        seed: int,
        noise: Noise | None = None,
        pace: Pace | None = None,
        begin_us: int = 1_790_000_000 * _US // (_DAY_S * _US) * _DAY_S * _US,
    ) -> None:
        self._engine = engine
        self._noise = noise or Noise()
        self._chance = np.random.default_rng(seed)
        self._begin_us = begin_us
        self._weather = 0.0
        self.now_s = 0
        self.told: dict[int, set[str]] = {}
        pace = pace or Pace(fetch_s=60.0, probation_s=600.0, crash_s=120.0)
        self._houses = [self._house(number, pace, random.Random(f"{seed}/{number}")) for number in range(devices)]
        self._write_cameras()

    @property
    def devices(self) -> list[DeviceTopics]:
        """Everybody."""
        return [one.topics for one in self._houses]

    def now_us(self) -> int:
        """The town's clock."""
        return self._begin_us + self.now_s * _US

    def elsewhere(self, engine: Engine, seed: int) -> Town:
        """The same town at this moment in a copy of its database, whose further fate is another."""
        other = copy.copy(self)
        other._houses = copy.deepcopy(self._houses)
        other._engine, other._chance, other.told = engine, np.random.default_rng(seed), {}
        return other

    def tell(self, devices: Sequence[DeviceTopics], wish: Desired) -> None:
        """Retained wishes: who is away hears of it when it comes back."""
        by_name = {one.topics: one for one in self._houses}
        for topics in devices:
            if topics in by_name:
                by_name[topics].wish = wish
            self.told.setdefault(wish.release, set()).add(topics.device)

    def running(self) -> dict[str, str]:
        """What runs on each device: the target's name, "" for nothing of home's."""
        return {one.topics.device: one.agent.running.target if one.agent.running else "" for one in self._houses}

    def there(self) -> set[str]:
        """Who is not away, by name."""
        return {one.topics.device for one in self._houses if one.away_until_s <= self.now_s - BUCKET_S}

    def begin_with(self, wish: Desired) -> None:
        """All run that release from the beginning."""
        for one in self._houses:
            one.wish = wish
            one.agent.desire(wish, -3.0 * _HOUR_S)
            for later_s in (-2.0 * _HOUR_S, -1.0 * _HOUR_S):
                one.agent.tick(later_s)
            one.agent.counts.frames = 0.0

    def pass_time(self, seconds: int) -> None:
        """Lets time pass, in stretches of ten minutes, and writes what was told meanwhile."""
        rows: list[dict[str, Any]] = []
        for _ in range(max(1, seconds // BUCKET_S)):
            rows += self._stretch()
        with transaction(self._engine) as connection:
            for first in range(0, len(rows), 500):
                connection.execute(insert(fleet_samples), rows[first : first + 500])
            self._write_states(connection)

    def _stretch(self) -> list[dict[str, Any]]:
        """Ten minutes of everybody."""
        start_s = self.now_s
        if start_s % _HOUR_S == 0:
            self._weather = float(self._chance.normal(0.0, self._noise.weather))
        self.now_s += BUCKET_S
        rows = []
        for house in self._houses:
            self._live(house, start_s)
            if house.away_until_s <= start_s:
                bucket = self._told_of(house, start_s)
                rows.append(self._row(house, 60, start_s, bucket))
                if house.hourly is None:
                    house.hourly = bucket[:]
                else:
                    merge(house.hourly, bucket)
                house.state.heard_us = self.now_us() - int(self._chance.uniform(0, 30) * _US)
            if self.now_s % _HOUR_S == 0 and house.hourly is not None:
                rows.append(self._row(house, _HOUR_S, self.now_s - _HOUR_S, house.hourly))
                house.hourly = None
        return rows

    def _live(self, house: _House, start_s: int) -> None:
        """The device takes what it was told, crashes, falls silent or comes back."""
        if start_s % _HOUR_S == 0:
            house.hour = float(self._chance.normal(0.0, self._noise.hours))
            if self._chance.random() < self._noise.lost:
                house.away_until_s = start_s + 1800
        house.starts = 0
        if house.away_until_s > start_s:
            return
        house.agent.desire(house.wish, float(start_s))
        for second in range(start_s, self.now_s, 30):
            if house.agent.is_settled:
                break
            house.starts += house.agent.tick(float(second))
        for reported in house.inbox.told:
            house.state.reported, house.state.reported_us = reported, self._begin_us + start_s * _US + 1
        house.inbox.told.clear()

    def _told_of(self, house: _House, start_s: int) -> Bucket[float]:
        """What it told of ten minutes, as the watch keeps it."""
        noise, effect, normal = self._noise, house.agent.effect, self._chance.normal
        day = noise.day ** math.sin(2 * math.pi * (start_s + house.phase_s) / _DAY_S)
        spread = self._weather + house.hour + float(normal(0.0, noise.moments))
        objects = int(self._chance.poisson(house.busy * day * math.exp(spread)))
        crops = int(self._chance.poisson(0.5 * objects * effect.crops))
        # Each of what passes is looked at for a while, some longer than others.
        scored = int(self._chance.gamma(max(objects, 1e-6) * 2.0, 10.0) * effect.seen) if objects else 0
        score = min(1.0, house.score * effect.scores * math.exp(float(normal(0.0, noise.score))))
        infer_ms = house.look_ms * effect.slower * math.exp(float(normal(0.0, noise.latency)))
        frames = int(_LOOKS_PER_S * BUCKET_S)
        grown = dict.fromkeys(COUNTERS, 0)
        grown |= {"frames_received": frames, "frames_processed": frames, "objects_seen": objects}
        grown |= {"crops_chosen": crops, "looks": frames, "scored": scored, "restarts": house.starts}
        grown |= {"score_milli": int(1000 * scored * score)}
        spreads = dict.fromkeys(SPREADS, 0.0) | {"infer_ms_p50": infer_ms, "step_ms_p99": 50.0 + infer_ms}
        bucket = bucket_of(grown, spreads, {})
        for place in _SUMS:
            bucket[place] *= _MESSAGES
        return bucket

    def _row(self, house: _House, tier_s: int, at_s: int, bucket: Bucket[float]) -> dict[str, Any]:
        key = camera_key(house.topics.site, house.topics.device, _CAMERA)
        return {"key": key, "tier": tier_s, "at_us": self._begin_us + at_s * _US, **columns(bucket)}

    def _house(self, number: int, pace: Pace, chance: random.Random) -> _House:
        topics = DeviceTopics("town", f"town-{number:04}")
        inbox = _Inbox()
        return _House(
            topics=topics,
            state=DeviceState(site=topics.site, device=topics.device, status="online", info=_INFO),
            agent=Agent(pace, chance, inbox.note, -4.0 * _HOUR_S),
            busy=12.0 * math.exp(chance.gauss(0.0, self._noise.cameras)),
            phase_s=chance.gauss(0.0, 2.0 * _HOUR_S),
            score=chance.uniform(0.6, 0.9),
            look_ms=40.0 * math.exp(chance.gauss(0.0, 0.3)),
            inbox=inbox,
        )

    def _write_states(self, connection: Any) -> None:
        connection.execute(fleet_devices.delete())
        rows = [
            {
                "site": one.topics.site,
                "device": one.topics.device,
                "heard_us": one.state.newest_us,
                "state": msgspec.json.encode(one.state).decode(),
            }
            for one in self._houses
        ]
        connection.execute(insert(fleet_devices), rows)
        told = {"judged_us": self.now_us(), "listening_us": self._begin_us}
        if connection.execute(select(fleet_watch)).first() is None:
            row = {"name": "fleet", "owner": "town", "until_us": 0, "batches": 0, **told}
            connection.execute(insert(fleet_watch), row)
        connection.execute(fleet_watch.update().values(**told))

    def _write_cameras(self) -> None:
        rows = []
        for one in self._houses:
            state = CameraState(
                site=one.topics.site, device=one.topics.device, camera=_CAMERA, heard_us=0, told=_TOLD, frames_us=0
            )
            text = msgspec.json.encode(state).decode()
            named = {"site": state.site, "device": state.device, "camera": state.camera}
            rows.append({"key": state.key, **named, "heard_us": 0, "state": text})
        with transaction(self._engine) as connection:
            connection.execute(insert(fleet_cameras), rows)


_INFO: Final = Info(version="simulated", camera=_CAMERA, machine="simulated", python="", anonymiser="1")
_ZERO: Final = dict.fromkeys(
    (
        "utc_us",
        "uptime_s",
        "frames_received",
        "frames_processed",
        "frames_skipped",
        "frame_age_ms_p50",
        "frame_age_ms_p99",
        "step_ms_p50",
        "step_ms_p99",
        "camera_reconnects",
        "anonymiser_failures",
        "objects_seen",
        "crops_chosen",
    ),
    0,
)
_TOLD: Final = Telemetry(boot_id="town", rejected_by_reason={}, spool=SpoolCounts(), camera=_CAMERA, **_ZERO)  # type: ignore[arg-type]
