"""Rollouts that guard a fleet: bad releases are taken back by themselves, and the good one gets everywhere.

    python -m benchmarks.fleet_rollouts --out docs/benchmarks/fleet_rollouts.json

First a fleet of simulated devices over a real broker, with home's real watch, repository and engine; days there are
minutes. Then the same engine, from the fleet's tables on, with a clock of its own, in many simulated towns.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fleet_rollouts_town import BAD, Fate, fates
from benchmarks.report import Report, Row, arguments
from tests.walt_train.loop.rollout.street import Street, plan
from walt_train.loop.rollout.model import CANARY, Rollout, State
from walt_train.loop.simulate.agent import Behaviour

_TOWNS = 12
_GOOD_IN_EACH = 5


def main() -> int:
    """Measures, prints a table, writes JSON."""
    args = arguments(__doc__).parse_args()
    logging.disable(logging.ERROR)
    report = Report("fleet_rollouts", {"seed": args.seed, "devices": _devices(args.quick)})
    with tempfile.TemporaryDirectory(prefix="walt-rollouts-") as folder:
        measure(report, args.quick, Path(folder))
    report.finish(args.out)
    return 0 if all(row.met for row in report.rows) else 1


def rows(quick: bool, folder: Path) -> list[Row]:
    """All figures."""
    report = Report("fleet_rollouts")
    measure(report, quick, folder)
    return report.rows


def measure(report: Report, quick: bool, folder: Path) -> None:
    """Adds all figures to a report.

    Args:
        report: Gets them.
        quick: Towns alone, and few of them: over a broker even a minute that stands for a day takes its time.
        folder: Empty; for stores and brokers.
    """
    if not quick:
        _over_mqtt(report, folder / "street", _devices(quick))
    kinds = (Behaviour.CRASH, Behaviour.BLIND, Behaviour.GOOD) if quick else (*BAD, *_GOOD_IN_EACH * [Behaviour.GOOD])
    _in_towns(report, folder / "towns", range(1, 2) if quick else range(_TOWNS), kinds)


def _over_mqtt(report: Report, folder: Path, devices: int) -> None:
    """Every kind of bad release, then the good one, on one fleet that goes on running."""
    found: dict[Behaviour, Rollout] = {}
    with Street(folder, devices) as street:
        street.begin_with("plain")
        for kind in (*BAD, Behaviour.GOOD):
            release = street.publish(str(kind))
            began_s = time.monotonic()
            made = street.engine.rollouts.create(release, street.topics, "benchmark", plan=plan(devices))
            found[kind] = street.end_of(made)
            report.add(
                f"{devices} devices by MQTT: {kind}, until it was decided",
                time.monotonic() - began_s,
                "s",
                better="lower",
            )
            street.rest(20.0)
        everywhere = street.running(release.number)
    back = [found[kind].state is State.ROLLED_BACK for kind in BAD]
    report.add(
        f"{devices} devices by MQTT: bad releases taken back by themselves",
        100 * sum(back) / len(back),
        "%",
        target=100,
    )
    most = max(_beyond(found[kind]) for kind in BAD)
    report.add(
        f"{devices} devices by MQTT: most devices told beyond the canaries", most, "devices", target=0, better="lower"
    )
    times = [_seconds(found[kind]) for kind in BAD]
    report.add("by MQTT: from the first device told to the way back told, longest", max(times), "s", better="lower")
    report.add("by MQTT: devices that run the good release", 100 * everywhere / devices, "%", target=99)


def _in_towns(report: Report, folder: Path, seeds: Sequence[int], kinds: Sequence[Behaviour]) -> None:
    every: list[Fate] = []
    for seed in seeds:
        every += fates(folder / f"{seed}", seed, kinds)
    bad = [one for one in every if one.kind is not Behaviour.GOOD]
    good = [one for one in every if one.kind is Behaviour.GOOD]
    held = [one for one in bad if one.state is State.ROLLED_BACK and not one.beyond]
    report.add("towns: bad releases", len(bad), "rollouts")
    report.add("towns: bad releases taken back within the canaries", 100 * len(held) / len(bad), "%", target=98)
    missed = sum(one.state is State.DONE for one in bad)
    report.add("towns: bad releases that went everywhere", missed, "rollouts", target=0, better="lower")
    for kind in BAD:
        hours = [one.hours for one in held if one.kind is kind]
        if hours:
            report.add(
                f"towns: hours until {kind} is taken back, median", statistics.median(hours), "h", better="lower"
            )
    report.add("towns: good releases", len(good), "rollouts")
    wrong = [one for one in good if one.state is State.ROLLED_BACK]
    report.add("towns: good releases wrongly taken back", 100 * len(wrong) / len(good), "%", target=2, better="lower")
    paused = sum(one.state is State.PAUSED for one in every)
    report.add("towns: rollouts left to a person", 100 * paused / len(every), "%", better="lower")
    done = [one.hours for one in good if one.state is State.DONE]
    if done:
        report.add(
            "towns: hours until a good release is everywhere, median", statistics.median(done), "h", better="lower"
        )
    report.add(
        "towns: devices that run what they should not",
        sum(one.wrong for one in every),
        "devices",
        target=0,
        better="lower",
    )


def _devices(quick: bool) -> int:
    return 0 if quick else 500


def _beyond(rollout: Rollout) -> int:
    return sum(one.touched_us is not None and one.cohort != CANARY for one in rollout.members)


def _seconds(rollout: Rollout) -> float:
    """From the first device that was told to the last that was told the way back."""
    touched = [one.touched_us for one in rollout.members if one.touched_us is not None]
    undone = [one.undone_us for one in rollout.members if one.undone_us is not None]
    return (max(undone, default=0) - min(touched, default=0)) / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
