"""Budgets of bytes over time, and the price that keeps them for the best.

The price is that of a fluid model solved anew at every offer (Gallego and van Ryzin 1994; Jasin and Kumar 2012): what
is left of the budget, over the bytes that the rest of its time will bring if it goes on as it did, is the share that
can be taken; the price is the value that this share of what was offered lately lies above. While all fits, it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

_BINS_AN_OCTAVE = 8
_LOWEST_LOG2 = -6
_BINS = 12 * _BINS_AN_OCTAVE
_OFFERS_MIN = 16.0
_EVIDENCE = 0.25  # of a window's span: a rate is not taken from less time


class Window(msgspec.Struct):
    """A budget that begins anew after every span of elapsed time, never by the wall clock's hour.

    Attributes:
        span_s: How long it lasts.
        budget_bytes: What it allows.
        spent_bytes: Of it, in this span.
        passed_s: Of this span.
        offered_bytes: What was offered, forgotten with a half-life of one span.
        watched_s: Time in which it was, forgotten alike.
    """

    span_s: float
    budget_bytes: int
    spent_bytes: int = 0
    passed_s: float = 0.0
    offered_bytes: float = 0.0
    watched_s: float = 0.0

    def advance(self, passed_s: float) -> None:
        """Lets time pass."""
        total_s = self.passed_s + passed_s
        if total_s >= self.span_s:
            self.spent_bytes = 0
        self.passed_s = math.fmod(total_s, self.span_s)
        kept = 0.5 ** (passed_s / self.span_s)
        self.offered_bytes *= kept
        self.watched_s = self.watched_s * kept + (1 - kept) * self.span_s / math.log(2)

    @property
    def room_bytes(self) -> int:
        """What is left of this span's budget."""
        return max(0, self.budget_bytes - self.spent_bytes)

    @property
    def share(self) -> float:
        """Which share of what the rest of the span will bring it can take, 0 or more; above 1 all fits."""
        rate = self.offered_bytes / max(self.watched_s, _EVIDENCE * self.span_s)
        coming = rate * (self.span_s - self.passed_s)
        return self.room_bytes / coming if coming > 0 else math.inf


class Values(msgspec.Struct):
    """How much of what was offered lately had which value: a histogram over the logarithm, in bytes, that forgets.

    Attributes:
        half_life_s: How fast.
        bins_bytes: From the lowest value to the highest, eight an octave.
        offers: How many it is made of, forgotten alike.
    """

    half_life_s: float
    bins_bytes: list[float] = msgspec.field(default_factory=lambda: [0.0] * _BINS)
    offers: float = 0.0

    def advance(self, passed_s: float) -> None:
        """Lets time pass."""
        kept = 0.5 ** (passed_s / self.half_life_s)
        if kept < 1.0:
            self.offers *= kept
            self.bins_bytes = [kept * size for size in self.bins_bytes]

    def add(self, value: float, size_bytes: int) -> None:
        """Notes an offer."""
        self.bins_bytes[_bin(value)] += size_bytes
        self.offers += 1.0

    def price(self, share: float) -> float:
        """The value that a share of the bytes lies above, 0 or more; 0 if all fits or too little is known."""
        total = sum(self.bins_bytes)
        if share >= 1.0 or self.offers < _OFFERS_MIN or total <= 0.0:
            return 0.0
        wanted = share * total
        for index in reversed(range(_BINS)):
            size = self.bins_bytes[index]
            if size > 0.0 and size >= wanted:
                return _edge(index + 1 - wanted / size)
            wanted -= size
        return 0.0

    @property
    def is_sound(self) -> bool:
        """Whether a file held what this class writes."""
        return _are_amounts([self.offers, *self.bins_bytes]) and len(self.bins_bytes) == _BINS


def is_sound(window: Window) -> bool:
    """Whether a file held what `Window` writes."""
    amounts = (window.spent_bytes, window.passed_s, window.offered_bytes, window.watched_s)
    return _are_amounts(amounts) and window.passed_s <= window.span_s


def _are_amounts(numbers: Sequence[float]) -> bool:
    return all(math.isfinite(number) and number >= 0 for number in numbers)


def _bin(value: float) -> int:
    if value <= 0.0:
        return 0
    return min(_BINS - 1, max(0, math.floor((math.log2(value) - _LOWEST_LOG2) * _BINS_AN_OCTAVE)))


def _edge(position: float) -> float:
    return float(2.0 ** (_LOWEST_LOG2 + position / _BINS_AN_OCTAVE))
