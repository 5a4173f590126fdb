"""How far the demo is: bars where somebody looks, nothing where nobody does."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from tqdm import tqdm


class _Frame(msgspec.Struct):
    frame: int | None
    model_release: int = 0


class JournalTail:
    """Follows the agent's journal while it grows.

    Attributes:
        last_frame: Index of the newest frame, -1 before the first.
        frames_by_model: Frames that a model of home's looked at.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.last_frame = -1
        self.frames_by_model = 0

    def poll(self) -> int:
        """Index of the newest frame in the journal, -1 before the first."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return self.last_frame
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for row in whole.splitlines():
            line = msgspec.json.decode(row, type=_Frame)
            if line.frame is not None:
                self.last_frame = line.frame
                self.frames_by_model += line.model_release > 0
        return self.last_frame


class Bars:
    """Bars one below the other; a context manager."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm[Any]] = {}

    def show(self, name: str, value: int, total: int | None = None, unit: str = "frame") -> None:
        """Moves the bar `name`, making it at first."""
        if name not in self._bars:
            self._bars[name] = tqdm(
                total=total,
                desc=f"{name:>10}",
                unit=unit,
                bar_format=None if total else "{desc}: {n_fmt} {unit}s [{elapsed}]",
                position=len(self._bars),
                disable=None,
                dynamic_ncols=True,
            )
        bar = self._bars[name]
        bar.update(max(0, value - bar.n))

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in self._bars.values():
            bar.close()
