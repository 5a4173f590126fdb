"""What an updater is given, what it is told, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from walt_edge.contract.bundle import Limits
from walt_edge.contract.messages import Desired
from walt_edge.update.probation import ProbationRules

Channel = Literal["canary", "stable"]
"""What a device takes: `stable` only what is signed for all, `canary` also what a few devices try first."""


class Source(Protocol):
    """Where bundles come from: `Trust`."""

    @property
    def fetched_bytes(self) -> int:
        """What was received since the start, metadata and what was given up included."""

    def fetch(self, wish: Desired, into: Path, is_cancelled: Callable[[], bool]) -> None:
        """Brings a bundle that may be believed, or raises UpdateError."""

    def want(self, wish: Desired | None) -> None:
        """Forgets what is half fetched and not wished for any more; called with every wish; never raises."""

    def keep_time(self) -> None:
        """Notes how late it is; called every minute."""


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """Pauses between attempts, which double, jittered; and what a model has to stand.

    Attributes:
        network_min_s: After the network failed.
        network_max_s: Where that doubling ends.
        home_min_s: After something that home has to mend.
        home_max_s: Where that doubling ends.
        probation: What a model has to stand on the camera before it is committed.
        budget: What the agent has for a model, whatever that model's own manifest allows.
    """

    network_min_s: float = 2.0
    network_max_s: float = 600.0
    home_min_s: float = 60.0
    home_max_s: float = 3600.0
    probation: ProbationRules = field(default_factory=ProbationRules)
    budget: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class UpdateStats:
    """Counts since the start.

    Attributes:
        attempts: Times that a wish was taken up, or taken up again.
        swapped: Models that took over, on probation or not.
        refused: Releases that will not be taken again.
        postponed: Attempts after which another is due.
        put_down: Models that failed, or were slow, on the camera.
        committed: Models that stay.
        rolled_back: Models that were taken back on probation.
        engines: Engines that took over.
        engines_failed: Engines that could not be built, or failed on the camera.
        failures: Errors of the updater itself.
    """

    attempts: int = 0
    swapped: int = 0
    refused: int = 0
    postponed: int = 0
    put_down: int = 0
    committed: int = 0
    rolled_back: int = 0
    engines: int = 0
    engines_failed: int = 0
    failures: int = 0
