from __future__ import annotations

import pytest

from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.rollout.cohorts import STABLE, Known, draw
from walt_train.loop.rollout.model import CANARY, CONTROL, REST, SHARE, Member, Plan, RolloutError, Stage


def devices(count: int) -> list[DeviceTopics]:
    return [DeviceTopics("yard", f"walt-{number:05}") for number in range(count)]


def heard(some: list[DeviceTopics], channel: str = "") -> dict[tuple[str, str], Known]:
    return {(one.site, one.device): Known(channel, True) for one in some}


def sizes(members: list[Member]) -> dict[str, int]:
    names = [one.cohort for one in members if not one.outside]
    return {name: names.count(name) for name in (CANARY, SHARE, REST, CONTROL) if name in names}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {CANARY: 1}),
        (3, {CANARY: 1, REST: 2}),
        (20, {CANARY: 1, SHARE: 5, REST: 9, CONTROL: 5}),
        (500, {CANARY: 5, SHARE: 50, REST: 395, CONTROL: 50}),
        (10_000, {CANARY: 20, SHARE: 1000, REST: 8880, CONTROL: 100}),
    ],
)
def test_fleets_of_every_size_have_cohorts(count: int, expected: dict[str, int]) -> None:
    some = devices(count)
    plan, members = draw(Plan.of(count), 7, some, some, heard(some))
    assert sizes(members) == expected
    assert [stage.name for stage in plan.stages] == [name for name in expected if name != CONTROL]
    assert len({one.who for one in members}) == count


def test_anybody_draws_the_same_again_and_another_seed_others() -> None:
    some = devices(200)
    first = draw(Plan.of(200), 7, some, [], heard(some))
    assert draw(Plan.of(200), 7, some[::-1], [], heard(some)) == first
    canaries = [{one.who for one in draw(Plan.of(200), seed, some, [], heard(some))[1] if one.cohort == CANARY}
                for seed in range(20)]  # fmt: skip
    assert len(set().union(*canaries)) > 20


def test_devices_of_the_stable_channel_are_never_canaries() -> None:
    some = devices(30)
    known = heard(some[:28], STABLE) | heard(some[28:])
    _, members = draw(Plan.of(30), 1, some, [], known)
    assert {one.device for one in members if one.cohort == CANARY} <= {"walt-00028", "walt-00029"}
    plan, members = draw(Plan.of(1), 1, some[:1], [], known)
    assert ([stage.name for stage in plan.stages], members[0].cohort) == ([REST], REST)


def test_who_sleeps_is_no_canary_while_somebody_is_awake() -> None:
    some = devices(30)
    for seed in range(10):
        _, members = draw(Plan.of(30), seed, some, [], heard(some[:3]))
        assert {one.device for one in members if one.cohort == CANARY} <= {one.device for one in some[:3]}


def test_a_camera_of_its_own_is_compared_with_others_that_are_never_told() -> None:
    some = devices(12)
    _, members = draw(Plan.of(1), 1, some[:1], some, heard(some))
    assert sizes(members) == {CANARY: 1}
    assert {one.device for one in members if one.outside} == {one.device for one in some[1:]}


@pytest.mark.parametrize("some", [[], [*devices(2), *devices(1)]])
def test_nobody_or_somebody_twice_is_refused(some: list[DeviceTopics]) -> None:
    with pytest.raises(RolloutError, match="name each once, and at least one"):
        draw(Plan.of(1), 1, some, [], {})


@pytest.mark.parametrize("names", [(), (REST, CANARY), (CANARY, CANARY), ("other",)])
def test_a_plan_that_nobody_can_follow_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(RolloutError, match="stages"):
        Plan(stages=tuple(Stage(name=name) for name in names)).check()
