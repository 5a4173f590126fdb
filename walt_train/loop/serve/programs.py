"""The programs that do the heavy steps, as command lines: the loop itself carries no torch."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    walt_train: tuple[str, ...]
    walt_export: tuple[str, ...]
    gpus: int = 0

    @classmethod
    def installed(cls, gpus: int = 0) -> Programs:
        """Those beside this interpreter; raises StationError where one is missing."""
        return cls((program("walt-train"),), (program("walt-export"),), gpus)

    def mine(self, clipart: Path, out: Path) -> list[str]:
        """Puts clip art that came over the wire together as an archive."""
        return [*self.walt_train, "mine", str(clipart), "--out", str(out)]

    def fit(self, clipart: Path, out: Path, generation: Generation) -> list[str]:
        """Trains in `out`; goes on where an earlier call was killed."""
        words = [*self.walt_train, "fit", "--data", str(clipart), "--recipe", generation.recipe]
        words += ["--gpus", str(self.gpus), "--seed", str(generation.seed), "--out", str(out)]
        if generation.training_steps is not None:
            words += ["--steps", str(generation.training_steps)]
        return words

    def export(self, checkpoint: Path, bundle: Path) -> list[str]:
        """Writes a bundle whole."""
        return [*self.walt_export, "bundle", str(checkpoint), "--out", str(bundle)]

    def evaluate(self, model: str, truth: Path, out: Path, against: Path | None = None) -> list[str]:
        """Writes an evaluation whole, with the differences from another one."""
        words = [*self.walt_train, "evaluate", "--model", model, "--data", str(truth), "--out", str(out)]
        return words if against is None else [*words, "--against", str(against)]
