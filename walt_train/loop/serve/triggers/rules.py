"""Whether a camera is worth another generation now, and why: pure functions over facts.

What begins one, in this order: there is no model and enough clip art; the camera stands elsewhere; what it sees has
drifted from what its model learned; enough is new at new places and in new poses; it is time. A pause between two
generations and a back-off after failures hold any of them up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from walt_train.loop.serve.triggers.coverage import Gain

_GROWTH: Final = 0.2
"""A generation is worth its training only with so much more than the last one covered."""

_FAR: Final = 2.0
"""A rate that has doubled or halved over weeks is no chance."""

_SECOND: Final = 1_000_000
_DAY_S: Final = 86_400.0
_BACK_OFF_MOST_S: Final = 7 * _DAY_S
_NO_MODEL, _MOVED = 1e6, 1e3
_NONE: Final = Gain()


@dataclass(frozen=True, slots=True)
class Threshold:
    """How much new clip art a generation needs; least numbers of crops and of their tracks."""

    crops: int = 50
    tracks: int = 20


@dataclass(frozen=True, slots=True)
class Rules:
    """When generations are begun.

    Attributes:
        threshold: How much new clip art one needs.
        every_days: Begin one so long after the last, if anything is new; None: not by time alone.
        pause_s: Least time between the beginnings of two of one camera.
        back_off_s: Wait after one that failed; doubled with each in a row, up to a week.
        a_day: How many the whole fleet may begin in 24 h; None: any number.
    """

    threshold: Threshold = field(default_factory=Threshold)
    every_days: float | None = None
    pause_s: float = 0.0
    back_off_s: float = 3600.0
    a_day: int | None = None


@dataclass(frozen=True, slots=True)
class Trend:
    """A figure of the camera since a week, against the weeks before its model learned.

    Attributes:
        name: For people.
        before: Then.
        lately: Now.
        far: Of a share, 0..1, the difference that is no chance; a rate, which has none, is compared by its ratio.
    """

    name: str
    before: float
    lately: float
    far: float | None = None

    @property
    def has_drifted(self) -> bool:
        """Whether it is another one now."""
        if self.far is not None:
            return abs(self.lately - self.before) >= self.far
        low, high = sorted((self.before, self.lately))
        return high > 0 and high >= _FAR * low

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.name} {self.lately:.2g} a week long, {self.before:.2g} before"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a camera; times are home's, microseconds UTC.

    Attributes:
        stored: Crops and objects that may train.
        fresh: What of them is at new places and in new poses, against `covered`.
        since: What of them came since the last generation that did not fail was begun.
        covered: How many objects at places that one's harvest covered.
        learned_us: When it was begun; None: there is none.
        begun_us: When the last generation of any kind was begun; None: there is none.
        failures: How many failed in a row until now.
        failed_us: When the last of these ended.
        moved_us: When the camera was found to stand elsewhere, after `learned_us`; 0: it was not.
        shift_px: By how much.
        moved: What came since then.
        trends: How its figures went.
    """

    stored: Gain = _NONE
    fresh: Gain = _NONE
    since: Gain = _NONE
    covered: int = 0
    learned_us: int | None = None
    begun_us: int | None = None
    failures: int = 0
    failed_us: int = 0
    moved_us: int = 0
    shift_px: float = 0.0
    moved: Gain = _NONE
    trends: tuple[Trend, ...] = ()


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a generation can begin.

    Attributes:
        why: What would begin it; "" while nothing does.
        line: What is waited for, or `why`.
        gain: How much it would give; of several cameras the greatest is first.
    """

    why: str
    line: str
    gain: float = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether it can begin now."""
        return bool(self.why)


def judge(facts: Facts, rules: Rules, now_us: int) -> Readiness:
    """Whether a camera's next generation can begin now, and what it waits for otherwise."""
    found = _wanted(facts, rules, now_us)
    if not found.is_ready:
        return found
    left_s, of = _hold(facts, rules, now_us)
    return Readiness("", f"{found.why}; {of} for {_span(left_s)} more", found.gain) if left_s > 0 else found


def _wanted(facts: Facts, rules: Rules, now_us: int) -> Readiness:
    least = rules.threshold
    if facts.learned_us is None:
        return _counted("no model yet", facts.stored, least, _NO_MODEL)
    if facts.moved_us:
        words = f"the camera moved by {facts.shift_px:.0f} px"
        return _counted(words, facts.moved, least, _MOVED)
    growth = Threshold(max(least.crops, math.ceil(_GROWTH * facts.covered)), least.tracks)
    fresh = _counted("new places and poses", facts.fresh, growth)
    if fresh.is_ready:
        return fresh
    drifted = next((trend for trend in facts.trends if trend.has_drifted), None)
    if drifted is not None:
        # Places that are known look otherwise now: any crop that came since tells of it.
        return _counted(f"drift: {drifted.line}", facts.since, least)
    if rules.every_days is not None and now_us - facts.learned_us >= rules.every_days * _DAY_S * _SECOND:
        words = f"the last one is {rules.every_days:g} days old"
        return _counted(words, facts.since, Threshold(1, 1))
    return fresh


def _counted(why: str, found: Gain, least: Threshold, weight: float = 1.0) -> Readiness:
    counts = f"{found.crops} of {least.crops} crops, {found.tracks} of {least.tracks} objects"
    gain = weight * found.crops / least.crops
    if found.crops >= least.crops and found.tracks >= least.tracks:
        words = f"{why} ({found.crops} crops of {found.tracks} objects)"
        return Readiness(words, words, gain)
    return Readiness("", f"{why}: {counts}", gain)


def _hold(facts: Facts, rules: Rules, now_us: int) -> tuple[float, str]:
    """For how long nothing may begin, seconds, and what holds it up."""
    pause_s = failed_s = 0.0
    if facts.begun_us is not None:
        pause_s = rules.pause_s - (now_us - facts.begun_us) / _SECOND
    if facts.failures:
        wait_s = min(rules.back_off_s * 2.0 ** min(facts.failures - 1, 30), _BACK_OFF_MOST_S)
        failed_s = wait_s - (now_us - facts.failed_us) / _SECOND
    if failed_s > pause_s:
        return failed_s, f"{facts.failures} failed in a row, it rests"
    return pause_s, "its last one is young, it pauses"


def _span(seconds: float) -> str:
    for length, word in ((_DAY_S, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {word}"
    return f"{math.ceil(seconds)} s"
