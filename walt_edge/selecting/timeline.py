"""How much time has really passed, whatever was done to the wall clock.

Within a boot only the monotonic clock counts. What a device was off for is believed if the wall clock was
synchronised both before and after, and up to a limit; else it counts as nothing. So a clock that is set forward or
back neither opens a budget nor blocks it.
"""

from __future__ import annotations

import msgspec

from walt_edge.contract.messages import Clock, Moment

AWAY_MAX_S = 2 * 86_400.0
_BOOTS_KEPT = 16


class Timeline(msgspec.Struct):
    """A clock that only goes forward, over restarts too if it is kept.

    Attributes:
        now_s: Seconds since it began.
        starts_s: Where the monotonic clock of each boot has its zero on this line, newest last.
        dated: A moment's synchronised wall clock, microseconds, and `now_s` then; None before the first.
    """

    now_s: float = 0.0
    starts_s: dict[str, float] = {}
    dated: tuple[int, float] | None = None

    def advance(self, captured: Moment) -> float:
        """Goes on to a moment; returns the seconds that passed, 0 for one that lies before the newest."""
        own_s = captured.monotonic_ns / 1e9
        start_s = self.starts_s.get(captured.boot_id)
        if start_s is None:
            start_s = self.now_s + self._away_s(captured) - own_s
            self._remember(captured.boot_id, start_s)
        passed_s = max(0.0, start_s + own_s - self.now_s)
        self.now_s += passed_s
        if captured.clock is Clock.SYNCHRONISED:
            self.dated = (captured.utc_us, self.now_s)
        return passed_s

    def _away_s(self, captured: Moment) -> float:
        if self.dated is None or captured.clock is not Clock.SYNCHRONISED:
            return 0.0
        utc_us, then_s = self.dated
        gone_s = (captured.utc_us - utc_us) / 1e6 - (self.now_s - then_s)
        return min(AWAY_MAX_S, max(0.0, gone_s))

    def _remember(self, boot_id: str, start_s: float) -> None:
        self.starts_s[boot_id] = start_s
        if len(self.starts_s) > _BOOTS_KEPT:
            del self.starts_s[next(iter(self.starts_s))]
