"""How large a fleet is filled in, and how its sites, devices and cameras are called."""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 1_000_000
HOUR_S, DAY_S = 3600, 86_400
SITES = ("harbour", "north", "market", "depot")
FRAME_WH = (640, 360)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a fleet.

    Attributes:
        devices: With one camera each.
        crops: Rows.
        pictured: Cameras whose newest crops and plates are real envelopes.
        envelopes: Real crops of each of them.
        watched: Cameras with a sample for every minute of the day.
        generations: Trainings in all; the newest ones have folders.
        rollouts: In all.
    """

    devices: int
    crops: int
    pictured: int
    envelopes: int
    watched: int
    generations: int
    rollouts: int


FULL = Size(2_000, 1_000_000, 60, 50, 60, 600, 200)
QUICK = Size(200, 20_000, 8, 25, 8, 60, 20)


def device_name(number: int) -> str:
    """Of the fleet's device of that number."""
    return f"walt-{number:016x}"


def camera_name(number: int) -> str:
    """Of its camera."""
    return f"{SITES[number % len(SITES)]}-{number:04d}"


def who(number: int) -> tuple[str, str, str]:
    """Site, device and camera of a number."""
    return (SITES[number % len(SITES)], device_name(number), camera_name(number))


def whole_rollout(size: Size) -> int:
    """The number of the rollout that is of every device."""
    return size.rollouts - 1
