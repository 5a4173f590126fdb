"""What home is told of a device's model: every change once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from walt_edge.contract.messages import Desired, Reported

_MAX_REASON = 500

State = Literal["active", "updating", "refused"]


class Reports:
    """Tells home, but never the same twice in a row.

    Args:
        tell: Reports home.
    """

    def __init__(self, tell: Callable[[Reported], None]) -> None:
        self._tell = tell
        self._last: Reported | None = None

    @property
    def desired(self) -> int | None:
        """The release that the last report speaks of; None before the first."""
        return self._last.desired if self._last else None

    def report(
        self,
        state: State,
        running: Desired | None,
        wish: Desired | None,
        reason: str = "",
        *,
        postponed: bool = False,
    ) -> None:
        """Reports a state if it is another than before.

        Args:
            state: Of the wish.
            running: What runs.
            wish: What was wished for.
            reason: Why it is so; brought to one line.
            postponed: Whether what is refused now is tried again.
        """
        reported = Reported(
            release=running.release if running else 0,
            sha256=running.sha256 if running else "",
            state=state,
            desired=wish.release if wish else 0,
            reason=" ".join(reason.split())[:_MAX_REASON],
            postponed=postponed,
        )
        if reported != self._last:
            self._last = reported
            self._tell(reported)
