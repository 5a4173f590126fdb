"""Random numbers that are a pure function of (seed, epoch, index, purpose).

Philox is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): its stream is fixed
by key and counter. The reduction to a range is our own, since numpy promises the raw stream, not what its
`Generator` makes of it.
"""

from __future__ import annotations

import enum
from collections.abc import MutableSequence, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError

Item = TypeVar("Item")
SEED_MAX = 2**64 - 1
_WORD = 1 << 64
_BLOCK = 64


class Purpose(enum.IntEnum):
    """What numbers are drawn for; each has a stream of its own, so that one choice never shifts another."""

    PLATE = 0
    WINDOW = 1
    ARRANGEMENT = 2
    ORDER = 3
    LIGHT = 4
    FRAMES = 5
    HOLES = 6


class Chance:
    """One stream of numbers.

    Args:
        seed: 0..2^64-1.
        epoch: From 0.
        index: From 0, within the epoch.
        purpose: What the numbers are for.

    Raises:
        UsageError: The seed is out of range.
    """

    def __init__(self, seed: int, epoch: int, index: int, purpose: Purpose) -> None:
        if not 0 <= seed <= SEED_MAX:
            raise UsageError(f"seed {seed} is out of range: give 0 to {SEED_MAX}")
        counter = np.array([0, index, epoch, int(purpose)], dtype=np.uint64)
        self._stream = np.random.Philox(key=seed, counter=counter)
        self._words: list[int] = []

    def below(self, count: int) -> int:
        """A whole number in 0..count-1, each equally likely (Lemire's multiply-shift with rejection)."""
        product = self._word() * count
        if product % _WORD < count:
            unfair = (_WORD - count) % count
            while product % _WORD < unfair:
                product = self._word() * count
        return product // _WORD

    def between(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        return low + self.below(high - low + 1)

    def happens(self, chance: float) -> bool:
        """True with this probability, to the 65,536th part."""
        return self.below(1 << 16) < round(chance * (1 << 16))

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items, each equally likely."""
        return items[self.below(len(items))]

    def shuffle(self, items: MutableSequence[Item]) -> None:
        """Puts the items into a random order (Fisher-Yates)."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]

    def _word(self) -> int:
        if not self._words:
            block: NDArray[np.uint64] = self._stream.random_raw(_BLOCK)
            self._words = block.tolist()[::-1]
        return self._words.pop()
