"""What is known of a stage at a moment: who runs the release, who failed, and how the others do.

Failures are looked at every time, comparisons at a few moments that lie ever further apart: who looks all the time
finds something sooner or later.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from walt_edge.contract.messages import Reported
from walt_train.loop.fleet.state import DeviceState
from walt_train.loop.lineage.record import chunks
from walt_train.loop.rollout.judging import (
    CONTROL_LEAST,
    SIGNALS,
    Pair,
    Signal,
    Totals,
    compare,
    compare_past,
)
from walt_train.loop.rollout.model import Evidence, Finding, Member, Rollout
from walt_train.loop.rollout.signals import (
    SECOND_US,
    Span,
    Who,
    camera_keys,
    same_hours,
    tier_of,
    totals,
    whole,
)
from walt_train.loop.rollout.tables import rollout_members

PAST_DAYS: Final = 7
_DAYS_LEAST: Final = 2
_TREATED_MOST: Final = 500
_CONTROL_MOST: Final = 300
_LOOKS: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)
_NAMED_MOST: Final = 5
_REASON_MOST: Final = 160


@dataclass(frozen=True, slots=True)
class Case:
    """A stage that is looked at.

    Attributes:
        rollout: With its members.
        states: Of every member that was ever heard.
        now_us: Home's clock.
    """

    rollout: Rollout
    states: dict[Who, DeviceState]
    now_us: int

    @property
    def touched(self) -> list[Member]:
        """Who was told, of all stages so far."""
        return [one for one in self.rollout.members if one.touched_us is not None]

    @property
    def cohort(self) -> list[Member]:
        """Who was told in this stage."""
        return [one for one in self.rollout.cohort(self.rollout.now.name).members if one.touched_us is not None]

    @property
    def needed(self) -> int:
        """So many of the stage's cohort have to run the release for good."""
        return max(1, math.ceil(self.rollout.now.least_share * len(self.cohort)))

    @property
    def began_us(self) -> int | None:
        """Since when so many run it, on probation or for good; None: they do not."""
        times = sorted(one.running_us for one in self.cohort if one.running_us is not None)
        return times[self.needed - 1] if len(times) >= self.needed else None

    def active(self, member: Member) -> bool:
        """Whether the device runs the release for good."""
        reported = self._reported(member)
        return reported is not None and reported.state == "active" and reported.release == self.rollout.release

    def has_spoken(self, member: Member) -> bool:
        """Whether the device has said anything of the release."""
        reported = self._reported(member)
        return reported is not None and reported.desired == self.rollout.release

    def refusal(self, member: Member) -> str:
        """Why the device does not take the release, or took it back by itself; "" if it does not say so."""
        reported = self._reported(member)
        if reported is None or reported.state != "refused" or reported.postponed or not self.has_spoken(member):
            return ""
        return f"refused it: {reported.reason[:_REASON_MOST]}"

    def is_silent(self, who: Who) -> bool:
        """Whether nothing was heard of a device for too long."""
        state = self.states.get(who)
        return state is not None and self.now_us - state.heard_us > self.rollout.plan.limits.silent_s * SECOND_US

    def _reported(self, member: Member) -> Reported | None:
        state = self.states.get(member.who)
        return state.reported if state is not None else None


def gather(connection: Connection, case: Case) -> Evidence:
    """What is known at this moment; comparisons of the last look stand until the next is due."""
    rollout, cohort = case.rollout, case.cohort
    failed, health = _health(connection, case)
    began_us = case.began_us
    observed_s = 0.0 if began_us is None else max(0.0, (case.now_us - began_us) / SECOND_US)
    last = rollout.evidence
    samples, findings = last.samples, tuple(one for one in last.findings if one.signal != health.signal)
    if began_us is not None:
        samples = _samples(connection, case, began_us)
    looks = _looks(rollout, observed_s) if began_us is not None else 0
    if began_us is not None and looks > last.looks:
        findings = _comparisons(connection, case, began_us, observed_s)
    return Evidence(
        told=len(cohort),
        active=sum(case.active(one) for one in cohort),
        failed=failed,
        samples=samples,
        observed_s=observed_s,
        looks=looks,
        findings=(health, *findings),
    )


def _looks(rollout: Rollout, observed_s: float) -> int:
    """How many looks are due by then."""
    return sum(observed_s >= one * rollout.now.observe_s for one in _LOOKS)


def _health(connection: Connection, case: Case) -> tuple[tuple[str, ...], Finding]:
    """Who failed, of this stage and of all; and whether that are too many."""
    limits = case.rollout.plan.limits
    touched = case.touched
    restarts = _restarts(connection, case, [one.who for one in touched])
    why = {one.who: _failure(case, one, restarts.get(one.who, 0)) for one in touched}
    meanwhile = _failing_anyway(connection, case)
    verdict, worst, counted = "fine", 0.0, 0
    for some in (case.cohort, touched):
        # Who has not heard of it yet tells nothing either way.
        spoke = [one for one in some if case.has_spoken(one)]
        failed = sum(bool(why[one.who]) for one in some)
        share = failed / max(len(spoke), failed, 1)
        enough = failed >= max(1, min(limits.failed_least, len(some)))
        if enough and share - meanwhile >= limits.failed_share and failed:
            verdict = "breach"
        worst, counted = max(worst, share), max(counted, failed)
    names = [f"{one.name} {why[one.who]}" for one in touched if why[one.who]]
    line = f"{counted} of {len(touched)} devices failed" + (f": {names[0]}" if names else "")
    finding = Finding(
        signal="failures",
        verdict=verdict,
        ratio=round(worst, 4),
        limit=limits.failed_share,
        treated=len(touched),
        control=0,
        line=line,
    )
    return tuple(names[:_NAMED_MOST]), finding


def _failure(case: Case, member: Member, restarts: int) -> str:
    """Why a device that was told counts as failed; "" while it does not."""
    refusal = case.refusal(member)
    if refusal:
        return refusal
    if not case.has_spoken(member):
        return ""
    if restarts >= case.rollout.plan.limits.restarts:
        return f"started {restarts} times since it was told"
    if case.is_silent(member.who) and member.touched_us is not None:
        # It had heard of the release, so it was there.
        return "fell silent"
    return ""


def _restarts(connection: Connection, case: Case, who: Sequence[Who]) -> dict[Who, int]:
    """Starts of the agents since the first of this stage was told, each counted in the last day at most."""
    times = [one.touched_us for one in case.cohort if one.touched_us is not None]
    if not times or not who:
        return {}
    span = _recent((min(times), case.now_us + 1), case)
    tier_s = tier_of(span, case.now_us, case.rollout.plan.tier_s)
    found = totals(connection, camera_keys(connection, who), tier_s, [whole(span, tier_s)])
    cameras: dict[Who, int] = {}
    for one in camera_keys(connection, who).values():
        cameras[one] = cameras.get(one, 0) + 1
    # Every camera of a device tells of its start.
    return {one: found[one].restarts // cameras[one] for one in found}


def _recent(span: Span, case: Case) -> Span:
    horizon_us = case.now_us - int(2 * max(case.rollout.now.observe_s, 3600.0) * SECOND_US)
    return (max(span[0], horizon_us), span[1])


def _failing_anyway(connection: Connection, case: Case) -> float:
    """Share of the devices that were not told, and that fall silent or start again and again all the same."""
    since_us = min((one.touched_us for one in case.touched if one.touched_us is not None), default=case.now_us)
    grace_us = int(case.rollout.plan.limits.silent_s * SECOND_US)
    there = [
        one.who
        for one in _unchanged(connection, case, since_us)
        if one.who in case.states and case.states[one.who].heard_us >= since_us - grace_us
    ]
    if not there:
        return 0.0
    restarts = _restarts(connection, case, there)
    limit = case.rollout.plan.limits.restarts
    return sum(case.is_silent(who) or restarts.get(who, 0) >= limit for who in there) / len(there)


def _unchanged(connection: Connection, case: Case, since_us: int) -> list[Member]:
    """Whom it may be compared with: not told of this release, nor of another since a day before."""
    rollout = case.rollout
    mine = [one for one in rollout.members if one.touched_us is None]
    mine.sort(key=lambda one: hashlib.sha256(f"{rollout.seed}\0{one.name}".encode()).digest())
    changed: set[Who] = set()
    for some in chunks([one.device for one in mine]):
        query = select(rollout_members.c.site, rollout_members.c.device).where(
            rollout_members.c.device.in_(some), rollout_members.c.touched_us >= since_us - _settled_us(case)
        )
        changed |= {(row.site, row.device) for row in connection.execute(query)}
    return [one for one in mine if one.who not in changed][:_CONTROL_MOST]


def _settled_us(case: Case) -> int:
    return int(case.rollout.plan.before_s * SECOND_US)


def _samples(connection: Connection, case: Case, began_us: int) -> int:
    tier_s = tier_of((began_us, case.now_us), case.now_us, case.rollout.plan.tier_s)
    running = [one.who for one in case.cohort if one.running_us is not None]
    found = totals(connection, camera_keys(connection, running), tier_s, [(began_us, case.now_us + 1)])
    return sum(one.count for one in found.values())


def _comparisons(connection: Connection, case: Case, began_us: int, observed_s: float) -> tuple[Finding, ...]:
    """Every signal of those who run it since the stage is observed, against who did not change."""
    plan = case.rollout.plan
    ran = [one for one in case.touched if one.running_us is not None and one.running_us <= began_us]
    ran = [one for one in ran if not case.refusal(one) and not case.is_silent(one.who)][:_TREATED_MOST]
    # A first model is another thing than a better one: where there are devices that had one, these are compared.
    had = [one for one in ran if one.before_release]
    ran, looser = (had, 1.0) if had else (ran, plan.limits.first)
    others = _unchanged(connection, case, began_us)
    first = min((one.touched_us for one in case.touched if one.touched_us is not None), default=began_us)
    stretches = _Stretches(connection, case, (began_us, case.now_us + 1), first)
    stretch = case.rollout.now.patience_s / max(observed_s, 1.0)
    treated, control = stretches.pairs([one.who for one in ran]), stretches.pairs([one.who for one in others])

    def found(signal: Signal) -> Finding:
        against = compare(signal, treated, control, plan.limits, looser=looser, stretch=stretch)
        if against.verdict != "unknown" or len(control) >= CONTROL_LEAST:
            return against
        return compare_past(signal, stretches.past([one.who for one in ran]), plan.limits, looser=looser)

    return tuple(found(signal) for signal in SIGNALS)


class _Stretches:
    """The same hours of the past days where they are known, else what was just before.

    Args:
        connection: To the store's database.
        case: What is looked at.
        span: Since the release is observed.
        told_us: When the first device was told: what came before is the past.
    """

    def __init__(self, connection: Connection, case: Case, span: Span, told_us: int) -> None:
        self._connection = connection
        self._case = case
        self._tier_s = tier_of(span, case.now_us, case.rollout.plan.tier_s)
        self._span = whole(span, self._tier_s)
        self._told_us = told_us
        self._is_daily: bool | None = None

    def pairs(self, who: Sequence[Who]) -> list[Pair]:
        """Before and after of the devices that have both; the first call decides which past is looked at."""
        keys = camera_keys(self._connection, who)
        after = totals(self._connection, keys, self._tier_s, [self._span]) if keys else {}
        days = self._days(keys)
        if self._is_daily is None:
            known = [one for one in after if sum(one in day for day in days) >= _DAYS_LEAST]
            self._is_daily = 2 * len(known) > len(after)
        if self._is_daily:
            before = {one: _sum([day[one] for day in days if one in day]) for one in after}
        else:
            begin = self._told_us - int(self._case.rollout.plan.before_s * SECOND_US)
            tier_s = tier_of((begin, self._told_us), self._case.now_us, self._case.rollout.plan.tier_s)
            before = totals(self._connection, keys, tier_s, [(begin, self._told_us)]) if keys else {}
        return [Pair(before[one], after[one]) for one in after if one in before and before[one].count]

    def past(self, who: Sequence[Who]) -> list[tuple[Totals, list[Totals]]]:
        """What each told now, and on each of the past days."""
        keys = camera_keys(self._connection, who)
        after = totals(self._connection, keys, self._tier_s, [self._span]) if keys else {}
        days = self._days(keys)
        return [(after[one], [day.get(one, Totals()) for day in days]) for one in after]

    def _days(self, keys: dict[int, Who]) -> list[dict[Who, Totals]]:
        spans = [one for one in same_hours(self._span, PAST_DAYS) if one[0] < self._told_us]
        return [totals(self._connection, keys, 3600, [one]) for one in spans] if keys else []


def _sum(some: Sequence[Totals]) -> Totals:
    return Totals(**{name: sum(getattr(one, name) for one in some) for name in Totals.__struct_fields__})
