"""Pauses between attempts: they double up to a limit, and are drawn so that many devices do not knock together."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

_DOUBLINGS = 30  # beyond any limit; keeps the power finite however long nothing works


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next attempt.

    Attributes:
        first_s: The longest that the first pause may be.
        cap_s: The longest that any pause may be.
        chance: Source of jitter.
    """

    first_s: float
    cap_s: float
    chance: random.Random = field(default_factory=random.Random)
    _attempts: int = 0

    def next_s(self) -> float:
        """The next pause, seconds: between half the limit and the limit, which then doubles."""
        limit_s = min(self.first_s * 2.0 ** min(self._attempts, _DOUBLINGS), self.cap_s)
        self._attempts += 1
        return limit_s * self.chance.uniform(0.5, 1.0)

    def reset(self) -> None:
        """An attempt did well."""
        self._attempts = 0
