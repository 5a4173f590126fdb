"""The programs that do the heavy steps, as command lines: the loop itself carries no torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from walt_train.loop.children import program
from walt_train.loop.serve.jobs import Generation


@dataclass(frozen=True, slots=True)
class Programs:
    """How the programs are called.

    Attributes:
        walt_train: The words that begin a call of `walt-train`.
        walt_export: The words that begin a call of `walt-export`.
        gpus: What training may use; 0 = the processor.
        heavy: The names of both where training and export run elsewhere; () = as here.
        trial: The words that begin a call of what measures a bundle.
    """

    walt_train: tuple[str, ...]
    walt_export: tuple[str, ...]
    gpus: int = 0
    heavy: tuple[str, str] | tuple[()] = ()
    trial: tuple[str, ...] = (sys.executable, "-m", "walt_edge.update.trial")

    @classmethod
    def installed(cls, gpus: int = 0) -> Programs:
        """Those beside this interpreter; raises StationError where one is missing."""
        return cls((program("walt-train"),), (program("walt-export"),), gpus)

    def elsewhere(self) -> Programs:
        """The same for heavy steps on other machines, which have them on their PATH."""
        return replace(self, heavy=("walt-train", "walt-export"))

    def mine(self, clipart: Path, out: Path) -> list[str]:
        """Puts clip art that came over the wire together as an archive."""
        return [*self.walt_train, "mine", str(clipart), "--out", str(out)]

    def fit(self, clipart: Path, out: Path, generation: Generation) -> list[str]:
        """Trains in `out`; goes on where an earlier call was killed."""
        words = [*(self.heavy[:1] or self.walt_train), "fit", "--data", str(clipart), "--recipe", generation.recipe]
        words += ["--gpus", str(self.gpus), "--seed", str(generation.seed), "--out", str(out)]
        if generation.training_steps is not None:
            words += ["--steps", str(generation.training_steps)]
        return words

    def compose(self, clipart: Path, out: Path, sheet: Path, count: int) -> list[str]:
        """Draws composites of frozen clip art, and a sheet of them to look at."""
        words = [*self.walt_train, "compose", "--clipart", str(clipart), "--count", str(count)]
        return [*words, "--out", str(out), "--preview", str(sheet)]

    def export(self, checkpoint: Path, bundle: Path) -> list[str]:
        """Writes a bundle whole."""
        return [*(self.heavy[1:] or self.walt_export), "bundle", str(checkpoint), "--out", str(bundle)]

    def evaluate(
        self, model: str, truth: Path, out: Path, against: Path | None = None, pictures: Path | None = None
    ) -> list[str]:
        """Writes an evaluation whole, with the differences from another one, and pictures of what is most hidden."""
        words = [*self.walt_train, "evaluate", "--model", model, "--data", str(truth), "--out", str(out)]
        words += [] if against is None else ["--against", str(against)]
        return words if pictures is None else [*words, "--pictures", str(pictures)]

    def measure(self, bundle: Path) -> list[str]:
        """Prints what a bundle costs on this machine, on one core, and whether its golden pictures come out right."""
        return [*self.trial, str(bundle), "--device", "cpu", "--threads", "1"]
