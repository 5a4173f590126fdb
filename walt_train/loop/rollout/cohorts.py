"""Who is told when: drawn by hash of rollout seed and device, so that anybody can draw the same again.

A camera's own model is for few devices: the first is the canary, and other devices of home's are compared with. A
model for many keeps some of these back to the end to compare with: what happens to all at once (night, rain, a new
version of the agent) is not taken for the release's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.rollout.model import CANARY, CONTROL, REST, Member, Plan, RolloutError

STABLE = "stable"
"""The channel of devices that are never a canary."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a device when cohorts are drawn.

    Attributes:
        channel: As the device says, "" where it does not.
        is_heard: Whether it is online.
    """

    channel: str = ""
    is_heard: bool = False


def draw(
    plan: Plan,
    seed: int,
    devices: Sequence[DeviceTopics],
    others: Sequence[DeviceTopics],
    known: dict[tuple[str, str], Known],
) -> tuple[Plan, list[Member]]:
    """Draws the cohorts; gives the plan without stages that have nobody, and everybody in cohorts.

    Args:
        plan: How it shall go out.
        seed: Of this rollout.
        devices: Whom the release is for.
        others: Who may be compared with besides.
        known: By site and device; who is not in it was never heard.

    Raises:
        RolloutError: There is nobody to tell, or somebody twice.
    """
    names = {(one.site, one.device) for one in devices}
    if not names or len(names) != len(devices):
        raise RolloutError(
            f"{len(devices)} devices, {len(names)} of them different: name each once, and at least one"
        )
    left = sorted(names, key=lambda who: _place(seed, "cohort", who))
    # Who answers soon comes first: a canary that is asleep would only make the others wait.
    left.sort(key=lambda who: not known.get(who, Known()).is_heard)
    drawn = {CONTROL: _control(plan, seed, left, known)}
    left = _without(left, drawn[CONTROL])
    for stage in plan.stages:
        may = [who for who in left if stage.name != CANARY or known.get(who, Known()).channel != STABLE]
        drawn[stage.name] = may if stage.name == REST else may[: _size(stage.share, stage.most, len(names))]
        left = _without(left, drawn[stage.name])
    if left:
        # The plan has no rest, or its only devices are no canaries: they follow at the end, like those kept back.
        drawn.setdefault(REST, []).extend(left)
        if REST not in {stage.name for stage in plan.stages}:
            plan = _with_rest(plan)
    stages = tuple(stage for stage in plan.stages if drawn[stage.name])
    members = [
        Member(site=site, device=device, cohort=cohort) for cohort, some in drawn.items() for site, device in some
    ]
    plan = msgspec.structs.replace(plan, stages=stages)
    return plan, [*members, *_outside(plan, seed, others, known, names, len(drawn[CONTROL]))]


def _control(
    plan: Plan, seed: int, left: list[tuple[str, str]], known: dict[tuple[str, str], Known]
) -> list[tuple[str, str]]:
    """Who is kept back to the end."""
    if len(left) < 3 * max(plan.control_least, 1) or not plan.control_share:
        return []
    heard = [who for who in left if known.get(who, Known()).is_heard]
    count = min(max(plan.control_least, math.ceil(plan.control_share * len(left))), plan.control_most, len(left) // 3)
    # The canaries have to be awake too.
    return sorted(heard, key=lambda who: _place(seed, CONTROL, who))[: min(count, len(heard) // 2)]


def _outside(
    plan: Plan,
    seed: int,
    others: Sequence[DeviceTopics],
    known: dict[tuple[str, str], Known],
    names: set[tuple[str, str]],
    inside: int,
) -> list[Member]:
    """Others of home's to compare with, where too few are kept back."""
    if inside >= plan.control_least:
        return []
    heard = {(one.site, one.device) for one in others if known.get((one.site, one.device), Known()).is_heard} - names
    chosen = sorted(heard, key=lambda who: _place(seed, CONTROL, who))[: plan.control_most]
    return [Member(site=site, device=device, cohort=CONTROL, outside=True) for site, device in chosen]


def _without(some: list[tuple[str, str]], gone: list[tuple[str, str]]) -> list[tuple[str, str]]:
    names = set(gone)
    return [who for who in some if who not in names]


def _with_rest(plan: Plan) -> Plan:
    rest = Plan.of(10).stages[-1]
    return msgspec.structs.replace(plan, stages=(*plan.stages, rest))


def _size(share: float, most: int, devices: int) -> int:
    size = max(1, math.ceil(share * devices - 1e-9))
    return min(size, most) if most else size


def _place(seed: int, what: str, who: tuple[str, str]) -> bytes:
    return hashlib.sha256("\0".join((str(seed), what, *who)).encode()).digest()
