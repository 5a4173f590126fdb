"""What a simulated device does with releases, and how it does with them: as the real one, in figures alone.

A wish is fetched, looked at on probation and committed, or taken back by the device itself when it crashes again and
again; every step is told. How a release behaves is in its name: `crash-4.walt` crashes, whatever its number. What a
camera sees comes at a rate of its own, with noise, that the release then changes.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from walt_edge.contract.messages import Desired, Reported

FPS: Final = 15.0
_STARTS: Final = 3
_NOISE: Final = 0.1


class Behaviour(enum.StrEnum):
    """How a release does."""

    GOOD = "good"
    CRASH = "crash"
    SLOW = "slow"
    SILENT = "silent"
    BLIND = "blind"
    SUBTLE = "subtle"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a release changes, as factors.

    Attributes:
        seen: Detections in a frame.
        scores: The mean score.
        slower: Time of a look.
        crops: Crops of what passes.
        crashes: Whether the agent ends a while after it has begun with it, again and again.
    """

    seen: float = 1.0
    scores: float = 1.0
    slower: float = 1.0
    crops: float = 1.0
    crashes: bool = False


EFFECTS: Final[dict[Behaviour, Effect]] = {
    Behaviour.GOOD: Effect(seen=1.05, scores=1.02),
    Behaviour.CRASH: Effect(crashes=True),
    Behaviour.SLOW: Effect(slower=2.0),
    Behaviour.SILENT: Effect(seen=0.0, crops=0.0),
    Behaviour.BLIND: Effect(seen=0.5, scores=0.8, crops=0.6),
    Behaviour.SUBTLE: Effect(seen=0.7, scores=0.97),
}


_BY_NAME: Final = {str(behaviour): effect for behaviour, effect in EFFECTS.items()}
_NONE: Final = Effect()


def effect_of(target: str) -> Effect:
    """What a release of that name does; one that names no behaviour changes nothing."""
    return _BY_NAME.get(target.partition("-")[0], _NONE)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take on a simulated device.

    Attributes:
        fetch_s: To bring and to try a bundle.
        probation_s: Until it is committed.
        crash_s: Until a release that crashes does.
        speed: So many times as fast does the world in front of the camera go by.
    """

    fetch_s: float = 0.0
    probation_s: float = 0.0
    crash_s: float = 1.0
    speed: float = 1.0


@dataclass(slots=True)
class Counts:
    """What an agent has counted since its start."""

    frames: float = 0.0
    objects: float = 0.0
    crops: float = 0.0
    looks: float = 0.0
    scored: float = 0.0
    score_milli: float = 0.0


class Agent:
    """One device's.

    Args:
        pace: How long things take.
        chance: Of its camera and of all noise.
        tell: Called with what to report home.
        now_s: Its clock at the start.

    Attributes:
        counts: Since its last start.
        born_s: When that was.
        running: What looks; None: nothing of home's.
    """

    def __init__(self, pace: Pace, chance: random.Random, tell: Callable[[Reported], None], now_s: float) -> None:
        self._pace = pace
        self._chance = chance
        self._tell = tell
        self._objects_per_frame = 3.0 * math.exp(chance.gauss(0.0, 0.5))
        self._score = chance.uniform(0.6, 0.9)
        self._look_ms = 40.0 * math.exp(chance.gauss(0.0, 0.3))
        self._asked: Desired | None = None
        self._before: Desired | None = None
        self._phase: Literal["", "fetching", "probation"] = ""
        self._due_s = self._crash_s = math.inf
        self._starts = 0
        self._highest = 0
        self._seen_s = now_s
        self.counts = Counts()
        self.born_s = now_s
        self.running: Desired | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing happens by itself before another wish comes."""
        return not self._phase

    @property
    def effect(self) -> Effect:
        """Of what runs."""
        return effect_of(self.running.target) if self.running is not None else Effect()

    @property
    def infer_ms(self) -> float:
        """Median time of a look."""
        return self._look_ms * self.effect.slower * math.exp(self._chance.gauss(0.0, 0.03))

    def desire(self, wish: Desired | None, now_s: float) -> None:
        """Home's wish; the same again changes nothing."""
        if wish is None or wish == self._asked:
            return
        self._asked = wish
        if wish.release < self._highest or (wish.release == self._highest and not wish.is_nothing):
            self._report("refused", f"release {wish.release} is not above {self._highest}, which was committed here")
        elif wish.is_nothing:
            self.running, self._phase = None, ""
            self._report("active")
        else:
            self._phase, self._due_s = "fetching", now_s + self._pace.fetch_s * self._chance.uniform(0.5, 1.5)
            self._report("updating")
        self.tick(now_s)

    def tick(self, now_s: float) -> bool:
        """Goes on; gives whether the agent has just ended and begun again."""
        if self._phase == "fetching" and now_s >= self._due_s:
            self._before, self.running = self.running, self._asked
            self._phase, self._due_s, self._starts = "probation", now_s + self._pace.probation_s, 1
            self._crash_s = now_s + self._pace.crash_s
            if self._pace.probation_s:
                self._report("updating", "on probation")
        if self.effect.crashes and self._phase == "probation" and now_s >= self._crash_s:
            self._crash(now_s)
            return True
        if self._phase == "probation" and now_s >= self._due_s:
            assert self._asked is not None
            self._phase, self._highest = "", self._asked.release
            self._report("active")
        return False

    def see(self, now_s: float) -> None:
        """Counts what has passed since it last did."""
        passed_s, self._seen_s = max(0.0, now_s - self._seen_s), now_s
        frames, effect, noise = FPS * passed_s * self._pace.speed, self.effect, self._chance.gauss
        objects = self._objects_per_frame * frames * math.exp(noise(0.0, _NOISE))
        scored = objects * effect.seen
        score = min(1.0, self._score * effect.scores * math.exp(noise(0.0, 0.01)))
        counts = self.counts
        counts.frames += frames
        counts.looks += frames
        counts.objects += objects / 30.0
        counts.crops += objects / 60.0 * effect.crops
        counts.scored += scored
        counts.score_milli += 1000.0 * scored * score

    def _crash(self, now_s: float) -> None:
        self.counts, self.born_s, self._seen_s = Counts(), now_s, now_s
        self._starts += 1
        self._crash_s = now_s + self._pace.crash_s
        if self._starts > _STARTS:
            self.running, self._phase = self._before, ""
            self._report("refused", f"the agent began {_STARTS} times while it was on probation")

    def _report(self, state: Literal["active", "updating", "refused"], reason: str = "") -> None:
        self._tell(
            Reported(
                release=self.running.release if self.running else 0,
                sha256=self.running.sha256 if self.running else "",
                state=state,
                desired=self._asked.release if self._asked else 0,
                reason=reason,
            )
        )
