from __future__ import annotations

import random

import pytest

from walt_edge.contract.messages import Desired, Reported
from walt_train.loop.simulate.agent import EFFECTS, Agent, Behaviour, Pace, effect_of


def wish(name: str, release: int) -> Desired:
    return Desired(release=release, target=f"{name}-{release}.walt", sha256=f"{release:064x}")


class Watched:
    """An agent, and what it told."""

    def __init__(self, pace: Pace) -> None:
        self.told: list[Reported] = []
        self.agent = Agent(pace, random.Random(1), self.told.append, 0.0)

    def words(self) -> list[tuple[str, int, int]]:
        return [(one.state, one.release, one.desired) for one in self.told]


def test_a_release_is_fetched_proven_and_told() -> None:
    one = Watched(Pace(fetch_s=10, probation_s=60))
    one.agent.desire(wish("good", 3), 0.0)
    for now_s in range(0, 100, 5):
        one.agent.tick(float(now_s))
    assert one.words() == [("updating", 0, 3), ("updating", 3, 3), ("active", 3, 3)]
    one.agent.desire(wish("good", 2), 200.0)
    assert one.words()[-1] == ("refused", 3, 2)


def test_what_crashes_is_taken_back_by_the_device_itself() -> None:
    one = Watched(Pace(probation_s=60, crash_s=5))
    one.agent.desire(wish("good", 1), 0.0)
    one.agent.tick(61.0)
    one.agent.desire(wish("crash", 2), 100.0)
    crashes = sum(one.agent.tick(100.0 + second) for second in range(60))
    assert (crashes, one.words()[-1]) == (3, ("refused", 1, 2))


def test_nothing_is_wished_and_taken() -> None:
    one = Watched(Pace())
    one.agent.desire(wish("good", 4), 0.0)
    one.agent.desire(Desired.nothing(3), 1.0)
    assert one.words()[-1] == ("refused", 4, 3)
    one.agent.desire(Desired.nothing(4), 2.0)
    assert one.words()[-1] == ("active", 0, 4)


@pytest.mark.parametrize("behaviour", [one for one in Behaviour if one is not Behaviour.CRASH])
def test_figures_follow_the_release(behaviour: Behaviour) -> None:
    plain, changed = Watched(Pace()), Watched(Pace())
    for one, name in ((plain, "plain"), (changed, str(behaviour))):
        one.agent.desire(wish(name, 1), 0.0)
        one.agent.see(3600.0)
    effect, before, after = EFFECTS[behaviour], plain.agent.counts, changed.agent.counts
    assert effect_of(f"{behaviour}-9.walt") is effect
    assert after.scored / before.scored == pytest.approx(effect.seen)
    assert changed.agent.infer_ms / plain.agent.infer_ms == pytest.approx(effect.slower, rel=0.2)
