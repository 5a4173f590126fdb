"""What the loop asks of whoever runs its programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from walt_train.loop.children import StationError


@dataclass(frozen=True, slots=True)
class Work:
    """One program that is to run once.

    Attributes:
        title: How people are told of it, and its log.
        words: Its command line.
        log: Where its output goes.
        owner: Which generation it is for.
        key: Names it among that generation's: the same after a kill of the worker, another one after it has failed.
        is_heavy: Whether it may use accelerators, and may run elsewhere.
    """

    title: str
    words: tuple[str, ...]
    log: Path
    owner: tuple[str, int]
    key: str
    is_heavy: bool = False


class Running(Protocol):
    """A program that was started."""

    @property
    def running(self) -> bool:
        """Whether it still runs, as far as anybody can tell."""

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""

    @property
    def log(self) -> Path:
        """Where its output goes."""

    def leave(self, *, is_over: bool) -> None:
        """We look no more after it.

        Args:
            is_over: Nobody wants what it does any more; otherwise it may go on, to be found again.
        """

    def failure(self) -> StationError:
        """What to tell people when it ended and should not have."""


class Runner(Protocol):
    """Starts programs."""

    def start(self, work: Work) -> Running:
        """Starts it, or finds it again where it was started before.

        Raises:
            StationError: It cannot be started.
        """
