"""Kills of home's parts at random moments while a fleet sends: nothing lost, nothing doubled.

Workers, broker and database die by SIGKILL, in an order and after pauses that a seed gives, and come back at once.
Every crop that a device's ledger has accepted must be in the store once when the fleet has brought home what waits.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.ingest_home import Fleet, Home, losses

DEVICES = 50
CROPS_PER_SECOND = 60.0
_PAUSE_S = (0.0, 0.6)
_DRAIN_S = 240.0
# Devices that are not as patient as real ones, so that the end need not be waited for.
_HASTE = ("--ack-timeout-s", "2", "--reconnect-max-s", "1", "--patience-s", "180")


class Toll(msgspec.Struct, frozen=True, kw_only=True):
    """What the kills have done.

    Attributes:
        kills: How often each part was killed.
        accepted: Crops that devices promised to bring home.
        lost: Of these, what is not in the store at the end.
        doubled: What is in it more than once, or was twice said to be new.
        rejected: What home refused; nobody sent anything wrong.
        resent: Publishes of what had been published before.
        connects: Connections of devices.
    """

    kills: dict[str, int]
    accepted: int
    lost: int
    doubled: int
    rejected: int
    resent: int
    connects: int


def play(
    folder: Path,
    kills: int,
    seed: int,
    told: Callable[[int], object] = lambda _: None,
    crop_kb: float = 60.0,
) -> Toll:
    """Kills so often, in a home with PostgreSQL and two workers.

    Args:
        folder: Where home lies; made.
        kills: How often.
        seed: Of order and pauses; printed, so that a failure can be played again.
        told: Called after each kill with how many there were.
        crop_kb: Size of a crop, thousands of bytes.

    Raises:
        StationError: A part did not come back, or the fleet has failed.
    """
    print(f"kills: seed {seed}", file=sys.stderr)
    chance = random.Random(seed)
    counts: dict[str, int] = {}
    with Home(folder, workers=2, postgres=True) as home:
        home.start()
        fleet = _start_fleet(home, crop_kb, seed)
        fleet.wait_online()
        for number in range(kills):
            part = home.parts[number % len(home.parts)] if number < len(home.parts) else chance.choice(home.parts)
            time.sleep(chance.uniform(*_PAUSE_S))
            part.kill()
            part.start()
            counts[part.name] = counts.get(part.name, 0) + 1
            told(number + 1)
        for part in home.parts:
            part.wait_ready()
        outcome = fleet.stop(_DRAIN_S)
        lost, doubled = losses(outcome)
        return Toll(
            kills=counts,
            accepted=outcome.accepted,
            lost=lost,
            doubled=doubled,
            rejected=outcome.rejected,
            resent=outcome.resent,
            connects=outcome.connects,
        )


def _start_fleet(home: Home, crop_kb: float, seed: int) -> Fleet:
    rate = ("--devices", str(DEVICES), "--crops-per-second", str(CROPS_PER_SECOND), "--crop-kb", str(crop_kb))
    return home.fleet("fleet", *rate, *_HASTE, "--seconds", "86400", "--telemetry-s", "5", "--seed", str(seed))
