"""How the losses fall: a progress bar, TensorBoard, `curves.json`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec
from tqdm import tqdm

from walt_edge.contract.files import write_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVES = "curves.json"
TENSORBOARD = "tensorboard"
_SMOOTHING = 0.1


class Curves:
    """Takes every step's losses.

    Args:
        folder: Gets `curves.json` and `tensorboard/`.
        steps: Of the whole training.
        shown: False in processes that only help: they write nothing.
    """

    def __init__(self, folder: Path, steps: int, *, shown: bool = True) -> None:
        self.rows: list[dict[str, float]] = []
        self._folder = folder
        self._shown = shown
        self._bar = tqdm(total=steps, unit="step", disable=not (shown and sys.stderr.isatty()), dynamic_ncols=True)
        self._board: SummaryWriter | None = None
        self._smooth: float | None = None

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def add(self, step: int, losses: Mapping[str, float]) -> None:
        """Losses of a step, counted from 1."""
        if not self._shown:
            return
        rounded = {name: round(value, 6) for name, value in losses.items()}
        self.rows.append({"step": step, **rounded})
        total = losses["loss"]
        self._smooth = total if self._smooth is None else self._smooth + _SMOOTHING * (total - self._smooth)
        self._bar.set_postfix(loss=f"{self._smooth:.3f}", refresh=False)
        self._bar.update(step - self._bar.n)
        board = self._opened(step)
        for name, value in losses.items():
            board.add_scalar(name, value, step)

    def go_on(self, rows: list[dict[str, float]]) -> None:
        """Takes the curves of a training that is resumed."""
        self.rows = list(rows)

    def write(self) -> None:
        """Writes `curves.json`: one record a step."""
        write_whole(self._folder / CURVES, msgspec.json.encode(self.rows))

    def _opened(self, step: int) -> SummaryWriter:
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            # What a killed training had written beyond its last state is shown no longer.
            self._board = SummaryWriter(str(self._folder / TENSORBOARD), purge_step=step)
        return self._board
