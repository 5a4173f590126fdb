"""Months of a fleet in which nothing is wrong: restarts, nights, fog, parked lorries, slow lines and lost messages.

What is raised over it is a false alarm. The model is harsh on purpose; it is written down here so that it can be
argued with. Each device restarts twice a week, reconnects its camera and its line every few hours for up to a few
minutes, loses one message in fifty, and is late by up to two minutes where a broker held its telemetry. Its
camera sees nights, overcast and sunny days, a fog every ten days for half a day, and now and then something large
parks before it for some hours.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest

from tests.walt_train.loop.fleet.fleet import BEGIN, DAY, HOUR, MINUTE, SECOND, Court, Device
from walt_edge.contract.messages import Reported
from walt_edge.contract.telemetry import LENS_TILES, Lens, SpoolCounts
from walt_train.loop.fleet.fleet import Fleet

TELL = MINUTE
CI_DEVICES, CI_DAYS = 2, 15


@dataclass
class Life:
    """One healthy device and what happens to it.

    Attributes:
        device: It.
        chance: Its own.
        place: What its picture is made of, tile by tile.
    """

    device: Device
    chance: random.Random
    place: np.ndarray = field(init=False)  # type: ignore[type-arg]
    line_until: int = 0
    fog_until: int = 0
    fog_next: int = 0
    parked_until: int = 0
    parked: tuple[int, ...] = ()
    quiet_until: int = 0

    def __post_init__(self) -> None:
        self.place = np.array([self.chance.lognormvariate(-3.2, 0.6) for _ in range(LENS_TILES)])
        self.fog_next = BEGIN + round(self.chance.expovariate(1 / 10) * DAY)

    def step(self, now_us: int, court: Court) -> None:
        chance, device = self.chance, self.device
        if now_us < self.line_until:
            return
        if device_is_back := self.line_until:
            self.line_until = 0
        if not device_is_back and chance.random() < TELL / (6 * HOUR):
            # The line goes; the broker says so for us, and the agent comes back within minutes.
            self.line_until = now_us + round(chance.uniform(0.2, 9) * MINUTE)
            device.status("offline", now_us)
            return
        device.status("online", now_us)
        if chance.random() < TELL / (3.5 * DAY):
            device.restarts(now_us)
        if chance.random() < TELL / (8 * HOUR):
            self.quiet_until = now_us + round(chance.uniform(0.1, 4) * MINUTE)
        if chance.random() < 0.02:
            return
        told = device.told
        silent_s = chance.uniform(10, 200) if now_us < self.quiet_until else 0.2
        device.off_us = -round(chance.choice((0.05, 0.3, 1.0, 100.0)) * SECOND) if chance.random() < 0.05 else 0
        waiting = min(5, max(0, round(chance.gauss(0, 2))))
        accepted = told.spool.accepted + 3
        device.watches(
            now_us,
            frames=0 if silent_s > 60 else 600,
            silence_s=silent_s,
            anonymiser_failures=told.anonymiser_failures + (1 if chance.random() < 0.01 else 0),
            clock="unsynchronised" if device.told.uptime_s < 60 else "synchronised",
            spool=SpoolCounts(accepted=accepted, acked=accepted - waiting, depth=waiting),
            lens=self._lens(now_us),
        )

    def _lens(self, now_us: int) -> Lens:
        chance = self.chance
        hour = (now_us - BEGIN) % DAY / HOUR
        day = (now_us - BEGIN) // DAY
        light = max(0.0, float(np.sin(np.pi * (hour - 6) / 12)))
        if now_us > self.fog_next:
            self.fog_until = now_us + round(chance.expovariate(1 / 0.4) * DAY)
            self.fog_next = now_us + round(chance.expovariate(1 / 10) * DAY)
        if now_us > self.parked_until and chance.random() < TELL / (4 * DAY):
            self.parked_until = now_us + round(chance.expovariate(1 / 6) * HOUR)
            corner = chance.randrange(LENS_TILES - 5)
            self.parked = (corner, corner + 1, corner + 4, corner + 5)
        sunny = 1.0 if random.Random(day).random() < 0.5 else 0.7
        seen = self.place * sunny * np.array([chance.gauss(1, 0.06) for _ in range(LENS_TILES)])
        if now_us < self.fog_until:
            seen = seen * np.linspace(0.25, 0.7, LENS_TILES)
        if now_us < self.parked_until:
            seen[list(self.parked)] = 0.35 * self.place[list(self.parked)]
        detail = tuple(round(float(max(0.0, value)), 4) for value in seen)
        return Lens(brightness=round(8 + 120 * light, 1), detail=detail)


def simulate(devices: int, days: int, seed: int = 1) -> tuple[Court, int]:
    """The court's record over that time, and how many messages there were."""
    court = Court(fleet := Fleet())
    lives = [
        Life(Device(fleet, name=f"walt-{number}"), random.Random(f"{seed} {number}")) for number in range(devices)
    ]
    for life in lives:
        life.device.reports(Reported(release=1, sha256="", state="active", desired=1), BEGIN)
        life.device.told = msgspec.structs.replace(life.device.told, spool=SpoolCounts())
    for step in range(days * DAY // TELL):
        now_us = BEGIN + step * TELL
        if step % (15 * DAY // TELL) == 100:
            court.home = type(court.home)(now_us)  # Home itself begins anew.
        for life in lives:
            life.step(now_us, court)
        court.sits(now_us + 20 * SECOND)
    return court, sum(fleet.outcomes.values())


def false_alarms(court: Court) -> Counter[str]:
    return Counter(subject.kind for _, what, subject, _ in court.record if what == "raised")


def test_a_month_without_trouble_raises_nothing() -> None:
    court, messages = simulate(CI_DEVICES, CI_DAYS)
    assert messages > 0.8 * CI_DEVICES * CI_DAYS * DAY / TELL
    assert false_alarms(court) == {}, court.record


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_dozen_camera_months_without_trouble() -> None:
    devices, days = int(os.environ.get("WALT_FLEET_DEVICES", "12")), int(os.environ.get("WALT_FLEET_DAYS", "60"))
    court, messages = simulate(devices, days)
    months, found = devices * days / 30, false_alarms(court)
    print(f"{months:.0f} camera months, {messages} messages, false alarms: {dict(found)}")  # noqa: T201
    assert sum(found.values()) / months < 0.1, found
