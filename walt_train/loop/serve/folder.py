"""A generation's folder: everything that was made of it, for people and for programs.

```
HOME/generations/CAMERA/N/
  clipart/            frozen at the start, as `walt-train mine` put it together
  train/              checkpoint.pt, manifest.json, curves.json, golden/, resume/
  bundle.walt
  reports/            motion.json, champion.json, candidate.json; on a second holdout motion-2.json ...
  reports/pictures/   motion/, champion/, candidate/: how each saw the most hidden objects
  verdict.json        what the gate said, and verdict.txt for people
  composites.jpg      what training looks at: a sheet of composites of the frozen clip art
  manifest.json       what it is made of: versions, seeds, and every command that was run
  progress.json       how far it is; written whole as it goes
  logs/TITLE-ATTEMPT.log   of each program and attempt, bounded
```
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from walt_edge.contract.files import write_whole
from walt_train.loop.serve.jobs import Generation, State, StepName

GENERATIONS = "generations"
REPORTS = "reports"
COMPOSITES = "composites.jpg"


@dataclass(frozen=True, slots=True)
class Folder:
    """Paths of one generation's folder.

    Attributes:
        root: The folder.
    """

    root: Path

    @classmethod
    def of(cls, home: Path, generation: Generation) -> Folder:
        """The folder of a generation, whether it exists or not."""
        return cls(cls.path(home, generation.camera, generation.number))

    @staticmethod
    def path(home: Path, camera: str, number: int) -> Path:
        """The folder of a camera's generation of that number."""
        return home / GENERATIONS / camera / str(number)

    @property
    def clipart(self) -> Path:
        """The frozen clip art."""
        return self.root / "clipart"

    @property
    def partial(self) -> Path:
        """Clip art while it is put together."""
        return self.root / ".clipart.partial"

    @property
    def train(self) -> Path:
        """Where training works."""
        return self.root / "train"

    @property
    def bundle(self) -> Path:
        """The exported model."""
        return self.root / "bundle.walt"

    @property
    def verdict(self) -> Path:
        """What the gate said."""
        return self.root / "verdict.json"

    @property
    def progress(self) -> Path:
        """How far it is."""
        return self.root / "progress.json"

    @property
    def manifest(self) -> Path:
        """What it is made of."""
        return self.root / "manifest.json"

    @property
    def composites(self) -> Path:
        """A sheet of composites; absent where it could not be drawn, or shows what was forgotten."""
        return self.root / COMPOSITES

    @property
    def drawing(self) -> Path:
        """Composites while the sheet is made."""
        return self.root / ".composites.partial"

    @property
    def curves(self) -> Path:
        """How its training went, step by step."""
        return self.train / "curves.json"

    @property
    def resume(self) -> Path:
        """What its training goes on from."""
        return self.train / "resume"

    @property
    def logs(self) -> Path:
        """What programs said."""
        return self.root / "logs"

    def report(self, name: str, number: int = 1) -> Path:
        """An evaluation of `motion`, the `champion` or the `candidate`, on the holdout of that number."""
        return self.root / REPORTS / (f"{name}.json" if number == 1 else f"{name}-{number}.json")

    def pictures(self, name: str, number: int = 1) -> Path:
        """A folder of pictures beside that evaluation: the most hidden objects, the same of every model."""
        return self.root / REPORTS / "pictures" / (name if number == 1 else f"{name}-{number}")

    def log(self, name: str, attempt: int) -> Path:
        """What a program said; its folder is made."""
        path = self.logs / f"{name}-{attempt}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def trained_steps(self) -> int:
        """Optimiser steps done so far, as far as the training has written them."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            rows = msgspec.json.decode(self.curves.read_bytes(), type=list[msgspec.Raw])
            return len(rows)
        return 0


class StepProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A step in `progress.json`; times are microseconds since 1970-01-01 UTC."""

    name: StepName
    state: State
    attempts: int
    started_us: int | None
    ended_us: int | None
    reason: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """`progress.json`.

    Attributes:
        camera: The camera's name.
        number: Of the generation.
        state: Of the generation.
        reason: The verdict, or why it failed.
        steps: In order.
        trained_steps: Optimiser steps done.
        training_steps: Of how many; None = what the recipe says.
    """

    camera: str
    number: int
    state: State
    reason: str
    steps: tuple[StepProgress, ...]
    trained_steps: int
    training_steps: int | None


def progress_of(generation: Generation, trained_steps: int) -> Progress:
    """What `progress.json` says of a generation."""
    fields = StepProgress.__struct_fields__
    return Progress(
        camera=generation.camera,
        number=generation.number,
        state=generation.state,
        reason=generation.reason,
        steps=tuple(StepProgress(**{name: getattr(step, name) for name in fields}) for step in generation.steps),
        trained_steps=trained_steps,
        training_steps=generation.training_steps,
    )


class ProgressFile:
    """Writes `progress.json` when something in it changed."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._written: Progress | None = None

    def update(self, generation: Generation) -> None:
        """Writes it whole; a disk that is full does not stop the work that it tells of."""
        progress = progress_of(generation, self._folder.trained_steps())
        if progress == self._written:
            return
        with contextlib.suppress(OSError):
            self._folder.root.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder.progress, msgspec.json.encode(progress))
            self._written = progress


def read_progress(path: Path) -> Progress | None:
    """Reads a `progress.json`; None before it is there."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except FileNotFoundError:
        return None
