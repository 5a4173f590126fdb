"""The simulated device's window against the real one's, over whatever may happen to them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from walt_edge.uplink.window import Window as RealWindow
from walt_train.loop.simulate.window import Times, Window

IDS = [f"crop-{number}" for number in range(8)]
TIMES = Times(window=3, ack_timeout_s=4.0, ack_timeout_cap_s=20.0, unheard_s=1.0)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["send", "settle", "unheard", "expire", "reset"]), st.integers(0, 7), st.floats(0, 9)),
    max_size=60,
)


class Even(random.Random):
    """Draws the middle: who of several draws first is no part of the rules."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@dataclass
class Pair:
    """Both, without jitter."""

    real: RealWindow
    simulated: Window
    waiting: list[int]

    @classmethod
    def make(cls) -> Pair:
        real = RealWindow(3, TIMES.ack_timeout_s, TIMES.ack_timeout_cap_s, Even(), TIMES.unheard_s)
        return cls(real, Window(TIMES, Even()), list(range(8)))

    def send(self, now: float) -> None:
        """As both pump: the oldest that may go, as many as there is room for."""
        real = [number for number in self.waiting if IDS[number] not in self.real.known][: max(0, self.real.room)]
        mine = [number for number in self.waiting if not self.simulated.waits(number)][: max(0, self.simulated.room)]
        assert mine == real
        for number in real:
            self.real.sent(IDS[number], now)
            self.simulated.sent(IDS[number], number, now)

    def settle(self, number: int, now: float) -> None:
        self.real.settled(IDS[number], now)
        self.simulated.settled(IDS[number], now)
        if number in self.waiting:
            self.waiting.remove(number)


@settings(deadline=None, max_examples=300)
@given(EVENTS)
def test_it_sends_what_the_real_one_sends_when_the_real_one_does(events: list[tuple[str, int, float]]) -> None:
    both, now = Pair.make(), 0.0
    for what, number, passed in events:
        now += passed
        if what == "settle":
            both.settle(number, now)
        elif what == "unheard":
            both.real.unheard(IDS[number], now)
            both.simulated.unheard(IDS[number], now)
        elif what == "reset":
            both.real.reset()
            both.simulated.reset()
        both.real.expire(now)
        both.simulated.expire(now)
        both.send(now)
        assert both.simulated.room == both.real.room
