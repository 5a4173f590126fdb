"""Programs as children of this process: they end with it, however it ends."""

from __future__ import annotations

from pathlib import Path

from walt_train.loop.children import Station, StationError
from walt_train.loop.serve.runners.runner import Running, Work


class LocalRunner:
    """Runs everything on this machine."""

    def start(self, work: Work) -> Running:
        """Starts a child; raises StationError where it cannot be started."""
        return _Child(Station(work.title, work.words, work.log))


class _Child:
    def __init__(self, station: Station) -> None:
        self._station = station

    @property
    def running(self) -> bool:
        return self._station.running

    @property
    def status(self) -> int | None:
        return self._station.status

    @property
    def log(self) -> Path:
        return self._station.log

    def leave(self, *, is_over: bool) -> None:
        self._station.end()

    def failure(self) -> StationError:
        return self._station.failure()
