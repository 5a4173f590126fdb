"""Whether devices with a new release do worse than expected: pure functions of what they told.

Every signal is a rate, compared as a logarithm, so that a large and a small camera count alike. Expected is what a
device did before, times what happened meanwhile to devices that did not change (difference in differences); night and
rain fall on both. With d the difference of the 20 % trimmed means of log(after / before), s the winsorised deviation
of the devices that did not change, and n trimmed counts,

    t = d / (s sqrt(1/n_treated + 1/n_control)),    n_control - 1 degrees of freedom:

for many devices Yuen's test (Biometrika 61, 1974), for a single one Crawford and Howell's (Clin. Neuropsychol. 12,
1998). The spread comes from the control alone while that has enough devices: whatever the release does to the spread
hides nothing. Where nobody may be compared with, the same hours of a device's own past days take the control's place.

A breach is large and significant: the limit is passed and t is beyond the plan's significance. A signal is fine when
the plan's confidence excludes that the limit is reached. What lies between is undecided, and is looked at for longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_train.loop.rollout.model import Finding, Limits
from walt_train.loop.rollout.student import quantile

CONTROL_LEAST: Final = 4
"""Devices, or days, that a comparison needs on the other side."""

_EVENTS_LEAST: Final = 10.0
_SAMPLES_LEAST: Final = 3
_SCORED_LEAST: Final = 20
_TRIM: Final = 0.2
_ENOUGH: Final = 8
# No spread that was measured is believed to be smaller: what it was measured on is alike, the world is not.
_SPREAD_LEAST: Final = 0.02
# Of a count that may be 0.
_HALF: Final = 0.5


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What a device told in a stretch of time.

    Attributes:
        count: Telemetry messages.
        frames: Processed.
        objects: Seen.
        crops: Chosen.
        looks: Frames that the model looked at.
        scored: Instances that it saw.
        score_milli: Sum of their scores, thousandths.
        restarts: Starts of the agent.
        infer_ms: Sum of the messages' median times of a look.
        step_ms: Sum of the messages' slowest steps.
    """

    count: int = 0
    frames: int = 0
    objects: int = 0
    crops: int = 0
    looks: int = 0
    scored: int = 0
    score_milli: int = 0
    restarts: int = 0
    infer_ms: float = 0.0
    step_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that is compared.

    Attributes:
        name: How people call it.
        parts: Numerator and denominator of the rate.
        is_count: The numerator counts events.
        limit: Of the plan's limits, as a ratio: below 1 less is worse, above 1 more is.
        least: Of the numerator, beneath which the rate says nothing.
    """

    name: str
    parts: Callable[[Totals], tuple[float, float]]
    is_count: bool
    limit: Callable[[Limits], float]
    least: float = 0.0

    def log_rate(self, totals: Totals) -> float:
        """The logarithm of the rate; NaN where there is none."""
        above, below = self.parts(totals)
        if below <= 0 or totals.count < _SAMPLES_LEAST or (not self.is_count and above <= self.least):
            return math.nan
        return math.log((above + (_HALF if self.is_count else 0.0)) / below)

    def expected(self, before: Totals, after: Totals) -> float:
        """Events that were to be expected afterwards; without end where events are not what is counted."""
        above, below = self.parts(before)
        if not self.is_count:
            return math.inf
        return above / below * self.parts(after)[1] if below > 0 and above >= _EVENTS_LEAST else 0.0


SIGNALS: Final = (
    Signal("latency", lambda t: (t.infer_ms, t.count), False, lambda one: one.slower),
    Signal("step time", lambda t: (t.step_ms, t.count), False, lambda one: one.slower),
    Signal("objects", lambda t: (t.objects, t.frames), True, lambda one: one.fewer),
    Signal("detections", lambda t: (t.scored, t.looks), True, lambda one: one.fewer),
    Signal("flood", lambda t: (t.scored, t.looks), True, lambda one: one.more),
    Signal(
        "scores",
        lambda t: (t.score_milli if t.scored >= _SCORED_LEAST else 0.0, t.scored),
        False,
        lambda one: one.lower_scores,
    ),
    Signal("crops", lambda t: (t.crops, t.frames), True, lambda one: one.fewer_crops),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One device before and after, or a device that did not change in the same two stretches."""

    before: Totals
    after: Totals


def compare(
    signal: Signal, treated: Sequence[Pair], control: Sequence[Pair], limits: Limits, *, looser: float, stretch: float
) -> Finding:
    """Holds what changed against what did not, in the same two stretches of time.

    Args:
        signal: What is compared.
        treated: Devices that run the release.
        control: Devices that do not.
        limits: The plan's.
        looser: Power that the limit is taken by; 1 where the devices had a model before.
        stretch: So many times as long the stage may still be looked at, as it was so far.
    """
    able = [one for one in treated if signal.expected(one.before, one.after) >= _EVENTS_LEAST]
    changes = _finite([signal.log_rate(one.after) - signal.log_rate(one.before) for one in able])
    meanwhile = [one for one in control if signal.expected(one.before, one.after) >= _EVENTS_LEAST]
    drift = _finite([signal.log_rate(one.after) - signal.log_rate(one.before) for one in meanwhile])
    if len(changes) and len(drift) >= CONTROL_LEAST:
        return _verdict(signal, changes, drift, limits, looser)
    soon = [signal.expected(one.before, one.after) * stretch >= _EVENTS_LEAST for one in treated]
    is_young = any(soon) and len(control) >= CONTROL_LEAST and signal.is_count
    if is_young and not len(changes):
        return Finding(signal=signal.name, verdict="undecided", line=f"{signal.name}: too few yet")
    return Finding(signal=signal.name, verdict="unknown")


def compare_past(
    signal: Signal, treated: Sequence[tuple[Totals, Sequence[Totals]]], limits: Limits, *, looser: float
) -> Finding:
    """Holds devices against the same hours of their own past days, where nobody else may be compared with.

    Args:
        signal: What is compared.
        treated: What each told now, and on each of the past days.
        limits: The plan's.
        looser: As in `compare`.
    """
    able = [(now, past) for now, past in treated if _is_busy(signal, now, past)]
    now = _finite([signal.log_rate(one) for one, _ in able])
    if not len(now) or len(now) != len(able):
        return Finding(signal=signal.name, verdict="unknown")
    days = np.array([[signal.log_rate(one) for one in past] for _, past in able])
    whole = days[:, ~np.isnan(days).any(axis=0)].mean(axis=0)
    if len(whole) < CONTROL_LEAST:
        return Finding(signal=signal.name, verdict="unknown")
    return _verdict(signal, np.array([now.mean()]), whole, limits, looser, devices=len(able))


def _is_busy(signal: Signal, now: Totals, past: Sequence[Totals]) -> bool:
    sums = {name: sum(getattr(one, name) for one in past) for name in Totals.__struct_fields__}
    return signal.expected(Totals(**sums), now) >= _EVENTS_LEAST


def _verdict(
    signal: Signal,
    treated: NDArray[np.float64],
    control: NDArray[np.float64],
    limits: Limits,
    looser: float,
    devices: int = 0,
) -> Finding:
    found, n_treated, spread_treated = _trimmed(treated)
    expected, n_control, spread = _trimmed(control)
    freedom = n_control - 1
    if len(control) < _ENOUGH and n_treated > 1:
        both = freedom + n_treated - 1
        spread = math.sqrt((freedom * spread**2 + (n_treated - 1) * spread_treated**2) / both)
        freedom = both
    error = max(spread, _SPREAD_LEAST) * math.sqrt(1 / n_treated + 1 / n_control)
    limit = signal.limit(limits) ** looser
    # From here on, up is worse.
    side = 1.0 if limit > 1 else -1.0
    worse, bound = side * (found - expected), abs(math.log(limit))
    verdict = "undecided"
    if worse >= bound and worse / error >= quantile(limits.significance, freedom):
        verdict = "breach"
    elif worse + quantile(1 - limits.confidence, freedom) * error < bound:
        verdict = "fine"
    elif signal.name == "flood":
        verdict = "fine"  # More than before is no reason to wait.
    ratio = math.exp(found - expected)
    line = (
        f"{signal.name} {ratio:.2f} of what is expected, limit {limit:.2f} "
        f"({devices or len(treated)} devices, {len(control)} {'days' if devices else 'devices'} compared)"
    )
    return Finding(
        signal=signal.name,
        verdict=verdict,
        ratio=round(ratio, 4),
        limit=round(limit, 4),
        treated=devices or len(treated),
        control=len(control),
        line=line,
    )


def _trimmed(values: NDArray[np.float64]) -> tuple[float, int, float]:
    """Trimmed mean, how many it is of, and the deviation of one value by what was winsorised."""
    ordered = np.sort(values)
    cut = int(_TRIM * len(ordered))
    left = ordered[cut : len(ordered) - cut]
    if len(left) < 2:
        return float(left.mean()), len(left), 0.0
    winsorised = np.clip(ordered, left[0], left[-1])
    spread = math.sqrt(winsorised.var(ddof=1) * (len(ordered) - 1) / (len(left) - 1))
    return float(left.mean()), len(left), spread


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    return np.array([value for value in values if math.isfinite(value)], np.float64)
