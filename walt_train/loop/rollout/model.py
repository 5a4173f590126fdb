"""What a rollout is: its plan, its cohorts, its members, what was found, and what happened to it.

    waiting -> running -> done
                 |  ^
                 v  |
               paused          rolling-back -> rolled-back | aborted

A rollout waits while another has one of its devices. It runs through its stages: each tells its cohort, gathers
evidence and is passed, extended or given up. What is given up is rolled back at once, and only for who was told.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from walt_edge.contract.errors import WaltError

HOUR_S: Final = 3600.0
CANARY: Final = "canary"
SHARE: Final = "share"
REST: Final = "rest"
CONTROL: Final = "control"

_Share = Annotated[float, Meta(ge=0.0, le=1.0)]
_Time = Annotated[float, Meta(ge=0.0, le=366 * 86_400.0)]
_Number = Annotated[int, Meta(ge=0, le=1_000_000)]


class RolloutError(WaltError):
    """A rollout cannot be begun or changed so."""


class State(enum.StrEnum):
    """Of a rollout."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    ROLLING_BACK = "rolling-back"
    DONE = "done"
    ROLLED_BACK = "rolled-back"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


OPEN: Final = (State.WAITING, State.RUNNING, State.PAUSED, State.ROLLING_BACK)
"""States in which something may still happen."""


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stage of a plan.

    Attributes:
        name: `canary`, `share` or `rest`; also its cohort's name.
        share: Of the devices, 0..1; the rest takes what the others leave. At least one.
        most: Devices at most; 0: no limit.
        least_share: Of the cohort, so many must have told that the release runs for good, 0..1; at least one.
        observe_s: So long, from then on, their telemetry is looked at before the stage can be passed.
        samples: So many telemetry messages of the cohort are needed too.
        patience_s: A stage that has not passed by then is paused.
    """

    name: str
    share: _Share = 0.0
    most: _Number = 0
    least_share: _Share = 0.5
    observe_s: _Time = HOUR_S
    samples: _Number = 10
    patience_s: _Time = 48 * HOUR_S


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a release is taken back.

    Attributes:
        failed_share: Of a stage's devices that were told, so many may fail: refuse it, start again and again, fall
            silent. 0..1.
        failed_least: So many must have failed before a share counts; a smaller cohort's size where that is less.
        restarts: So many starts within the observation make a device one that starts again and again.
        silent_s: A device that was heard before it was told and then not for so long has fallen silent.
        fewer: Objects and detections may not fall below this share of what is expected.
        fewer_crops: Nor crops of an object; they are chosen by budgets, so that they vary more.
        lower_scores: Nor the mean score.
        slower: Nor may looks and steps take more than so many times as long.
        more: Nor may there be more than so many times as many detections.
        first: Where a device had no model before, the shares and times are taken by this power of theirs: looser.
        significance: One-sided chance of error of each single comparison.
        confidence: A stage is passed only if what is found excludes, with this confidence, that a limit is reached.
    """

    failed_share: _Share = 0.1
    failed_least: _Number = 2
    restarts: _Number = 3
    silent_s: _Time = 900.0
    fewer: _Share = 0.8
    fewer_crops: _Share = 0.4
    lower_scores: _Share = 0.85
    slower: Annotated[float, Meta(ge=1.0, le=100.0)] = 1.5
    more: Annotated[float, Meta(ge=1.0, le=1000.0)] = 3.0
    first: Annotated[float, Meta(ge=1.0, le=10.0)] = 4.0
    significance: Annotated[float, Meta(gt=0.0, lt=0.5)] = 0.001
    confidence: Annotated[float, Meta(gt=0.5, lt=1.0)] = 0.9


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release goes out, as data.

    Attributes:
        stages: In order; the last is the rest.
        limits: When it is taken back.
        control_share: Of the devices, so many are told last and compared with until then, 0..1.
        control_most: So many at most.
        control_least: A fleet of fewer devices than three times this keeps none back; others of home's are compared.
        before_s: How much of each device's past is looked at.
        tier_s: Which of the fleet's samples: 3600, 60 or 0 (as they came; kept for an hour).
        judge_s: Between two looks at an open rollout.
    """

    stages: tuple[Stage, ...]
    limits: Limits = Limits()
    control_share: _Share = 0.1
    control_most: _Number = 100
    control_least: _Number = 5
    before_s: _Time = 24 * HOUR_S
    tier_s: int = 60
    judge_s: _Time = 60.0

    @classmethod
    def of(cls, devices: int, **changes: object) -> Plan:
        """The plan for so many devices: one for a single camera, three stages from ten on.

        1: it alone. 20: one, 5, the rest. 500: 5, 50, the rest. 10,000: 20, 1,000, the rest.
        """
        canary = Stage(name=CANARY, share=0.01, most=20, least_share=0.6, observe_s=2 * HOUR_S, samples=60)
        share = Stage(name=SHARE, share=0.25 if devices < 100 else 0.1, observe_s=2 * HOUR_S, samples=100)
        rest = Stage(name=REST, share=1.0, observe_s=HOUR_S, samples=100, patience_s=7 * 24 * HOUR_S)
        if devices < 10:
            stages: tuple[Stage, ...] = (canary, rest) if devices > 1 else (canary,)
        else:
            stages = (canary, share, rest)
        return msgspec.structs.replace(cls(stages=stages), **changes)

    def check(self) -> None:
        """Raises RolloutError if nobody could follow it."""
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names) or not set(names) <= {CANARY, SHARE, REST}:
            raise RolloutError(
                f"stages {', '.join(names) or 'none'}: expected canary, share, rest, each at most once"
            )
        if names != [name for name in (CANARY, SHARE, REST) if name in names]:
            raise RolloutError(f"stages {', '.join(names)}: expected the order canary, share, rest")
        if self.tier_s not in (0, 60, 3600):
            raise RolloutError(f"samples of {self.tier_s} s: the fleet keeps 0 (as they came), 60 and 3600")


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One device of a rollout; times are home's, microseconds UTC, None: not yet.

    Attributes:
        site: Its site.
        device: Its name.
        cohort: `canary`, `share`, `rest` or `control`.
        outside: It is only compared with, and never told.
        touched_us: When it was decided that it is told.
        told_us: When the broker had taken that.
        running_us: When it was first seen to run the release, on probation or for good.
        before_release: What it ran before; 0: nothing of home's.
        before_sha256: That bundle's.
        undo: The release that took it back; 0: none of home's any more; None: it was not taken back.
        undone_us: When the broker had taken that.
    """

    site: str
    device: str
    cohort: str
    outside: bool = False
    touched_us: int | None = None
    told_us: int | None = None
    running_us: int | None = None
    before_release: int = 0
    before_sha256: str = ""
    undo: int | None = None
    undone_us: int | None = None

    @property
    def who(self) -> tuple[str, str]:
        """Site and device."""
        return (self.site, self.device)

    @property
    def name(self) -> str:
        """SITE/DEVICE."""
        return f"{self.site}/{self.device}"


class Cohort(msgspec.Struct, frozen=True, kw_only=True):
    """Devices that are told together, or compared with.

    Attributes:
        name: `canary`, `share`, `rest` or `control`.
        members: Who, by site and name.
    """

    name: str
    members: tuple[Member, ...]

    @property
    def touched(self) -> int:
        """How many were told, or were about to be."""
        return sum(one.touched_us is not None for one in self.members)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened.

    Attributes:
        at_us: When, microseconds UTC.
        by: Who: a person, a token, or `rollout`.
        what: One word: created, began, stage, told, paused, resumed, breach, rolled-back, ...
        detail: One line.
    """

    at_us: int
    by: str
    what: str
    detail: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison, in figures.

    Attributes:
        signal: `failures`, `latency`, `step time`, `objects`, `detections`, `scores`, `crops`.
        verdict: `fine`, `undecided`, `breach`, or `unknown`: there is nothing to compare with.
        ratio: Treated to expected; 1 is no change. For failures, their share.
        limit: Where it is a breach.
        treated: Devices that it was found on.
        control: What they were compared with: devices, or stretches of their own past.
        line: For people.
    """

    signal: str
    verdict: str
    ratio: float = 1.0
    limit: float = 1.0
    treated: int = 0
    control: int = 0
    line: str = ""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was found at the last look.

    Attributes:
        told: Devices of the stage that were told.
        active: Of these, the ones that run the release for good.
        failed: Of these, the ones that failed, with why.
        samples: Telemetry messages of those that run it, since they do.
        observed_s: How long it has been looked at.
        looks: How often it has been compared.
        findings: Comparisons.
    """

    told: int = 0
    active: int = 0
    failed: tuple[str, ...] = ()
    samples: int = 0
    observed_s: float = 0.0
    looks: int = 0
    findings: tuple[Finding, ...] = ()


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout.

    Attributes:
        id: Its number.
        release: The release's.
        target: Its name in the repository.
        sha256: Of its bundle.
        name: The model's.
        camera: Whose generation it is, or "".
        generation: Which, or 0.
        seed: Of the cohorts.
        plan: How it goes out.
        state: How far it is.
        detail: Why it is in that state, one line.
        by: Who began it.
        stage: Index of the stage that is at work.
        stage_us: Since when.
        judged_us: When it was last looked at.
        evidence: What was found then.
        created_us: When it was created.
        ended_us: When it ended; None: it is open.
        cohorts: In the order of the stages, then the control.
        events: The history, the oldest first.
    """

    id: int
    release: int
    target: str
    sha256: str
    name: str
    camera: str
    generation: int
    seed: int
    plan: Plan
    state: State
    detail: str
    by: str
    stage: int
    stage_us: int
    judged_us: int
    evidence: Evidence
    created_us: int
    ended_us: int | None
    cohorts: tuple[Cohort, ...] = ()
    events: tuple[Event, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether something may still happen."""
        return self.state in OPEN

    @property
    def now(self) -> Stage:
        """The stage that is at work."""
        return self.plan.stages[min(self.stage, len(self.plan.stages) - 1)]

    @property
    def members(self) -> tuple[Member, ...]:
        """Of all cohorts."""
        return tuple(one for cohort in self.cohorts for one in cohort.members)

    def cohort(self, name: str) -> Cohort:
        """The cohort of that name; empty if there is none."""
        return next((one for one in self.cohorts if one.name == name), Cohort(name=name, members=()))
