"""Which alerts are raised and which are cleared: a pure function of what is known, what was raised before, and now.

A condition that is bad waits (`pending`) until it was bad for as long as its rule says; one that is raised is cleared
once all was well for as long as its rule says. What was told is part of the state, so whoever judges next, after
whatever, goes on where the last one stopped: nothing is lost and nothing is told twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from walt_train.loop.fleet.conditions import OF_CAMERA, OF_DEVICE, OF_HOME, Home, Reading, Verdict
from walt_train.loop.fleet.rules import Rule, Rules
from walt_train.loop.fleet.state import CameraState, DeviceState

_SECOND = 1_000_000


class Subject(NamedTuple):
    """What an alert is about; site, device and camera are "" where it is of home, camera where it is of a device."""

    kind: str
    site: str = ""
    device: str = ""
    camera: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """One condition that is bad, or was a moment ago; times are home's, microseconds UTC.

    Attributes:
        state: `pending`: bad, not yet for long enough; `raised`: told.
        since_us: Since when it is in that state.
        well_us: Since when all is well, while it is raised; None: it is not.
        detail: What was found as it came into that state.
    """

    state: Literal["pending", "raised"]
    since_us: int
    well_us: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What is known of the fleet at one moment.

    Attributes:
        devices: By site and device.
        cameras: By site, device and camera.
        home: What home knows of itself.
    """

    devices: Mapping[tuple[str, str], DeviceState]
    cameras: Mapping[tuple[str, str, str], CameraState]
    home: Home


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of the alerts.

    Attributes:
        alerts: All that are pending or raised from now on.
        raised: Those that were not raised before.
        cleared: Those that were and are not any more, with why.
    """

    alerts: Mapping[Subject, Alert]
    raised: tuple[Subject, ...]
    cleared: tuple[tuple[Subject, str], ...]


def judge(history: History, before: Mapping[Subject, Alert], now_us: int, rules: Rules) -> Judgement:
    """Judges the fleet.

    Args:
        history: What is known.
        before: The alerts as they were judged last.
        now_us: Home's clock.
        rules: Thresholds.
    """
    alerts: dict[Subject, Alert] = {}
    raised, cleared = [], []
    judged = set()
    for subject, rule, reading in readings(history, now_us, rules):
        old = before.get(subject)
        if old is None and reading.verdict is not Verdict.BAD:
            continue
        judged.add(subject)
        new = _next(old, reading, rule, now_us, history.home)
        if new is not None:
            alerts[subject] = new
            if new.state == "raised" and (old is None or old.state != "raised"):
                raised.append(subject)
        elif old is not None and old.state == "raised":
            cleared.append((subject, "all is well"))
    for subject, old in before.items():
        if subject not in judged and old.state == "raised":
            cleared.append((subject, "nobody asks for it any more"))
    return Judgement(alerts, tuple(raised), tuple(cleared))


def readings(history: History, now_us: int, rules: Rules) -> Iterator[tuple[Subject, Rule, Reading]]:
    """Every condition whose rule is enabled, at this moment."""
    home = history.home
    on = {kind: rule for kind in (*OF_CAMERA, *OF_DEVICE, *OF_HOME) if (rule := getattr(rules, kind)).enabled}
    for kind, of_home in OF_HOME.items():
        if kind in on:
            yield Subject(kind), on[kind], of_home(home, now_us, rules)
    of_device = [(kind, read, on[kind]) for kind, read in OF_DEVICE.items() if kind in on]
    for (site, device), state in history.devices.items():
        for kind, read, rule in of_device:
            yield Subject(kind, site, device), rule, read(state, home, now_us, rules)
    of_camera = [(kind, look, on[kind]) for kind, look in OF_CAMERA.items() if kind in on]
    for (site, device, camera), seen in history.cameras.items():
        owner = history.devices[site, device]
        for kind, look, rule in of_camera:
            yield Subject(kind, site, device, camera), rule, look(seen, owner, home, now_us, rules)


def _next(old: Alert | None, reading: Reading, rule: Rule, now_us: int, home: Home) -> Alert | None:
    """The alert after one more reading; None: there is none."""
    match reading.verdict:
        case Verdict.UNKNOWN:
            # What need not last long has to be seen without a break; night does not interrupt what takes days.
            is_brief = old is not None and old.state == "pending" and rule.for_s < _LONG_S
            return None if is_brief else old
        case Verdict.BAD:
            return _bad(old, reading.detail, rule, now_us, home)
        case Verdict.BETWEEN:
            return replace(old, well_us=None) if old is not None and old.state == "raised" else None
        case Verdict.WELL:
            if old is None or old.state == "pending":
                return None
            well_us = old.well_us if old.well_us is not None else now_us
            return None if now_us - well_us >= rule.clear_s * _SECOND else replace(old, well_us=well_us)


def _bad(old: Alert | None, detail: str, rule: Rule, now_us: int, home: Home) -> Alert:
    if old is not None and old.state == "raised":
        # What was found as it was raised stays: that is what was told, and nothing is written while nothing changes.
        return replace(old, well_us=None)
    since_us = now_us if old is None else old.since_us
    # What was bad as we stopped to listen need not have been so since: it waits anew.
    if (
        old is not None
        and home.listening_us is not None
        and old.since_us < home.listening_us
        and rule.for_s < _LONG_S
    ):
        since_us = home.listening_us
    if now_us - since_us >= rule.for_s * _SECOND:
        return Alert("raised", now_us, None, detail)
    return Alert("pending", since_us, None, detail if old is None else old.detail)


# A condition that has to last so long outlives a restart of ours.
_LONG_S = 6 * 3600.0
