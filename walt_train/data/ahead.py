"""Composites made by other processes, on Ray or on this machine, and read in order as if they were made here."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from walt_edge.contract.clipart import FILE_NAME
from walt_train.clipart.settings import ComposeSettings
from walt_train.cluster import Workers, map_tasks
from walt_train.data.composites import CompositeSamples
from walt_train.data.manifest import MANIFEST, Counted, Manifest
from walt_train.data.pictures import read_file
from walt_train.data.sample import AmodalSample, Samples, SamplesAround, Split
from walt_train.data.write import OutputError, write_samples

_PLAIN = ComposeSettings()


@dataclass(frozen=True, slots=True)
class Composites:
    """What names composites: small enough to travel, and every process that has the folder makes the same of it.

    Attributes:
        folder: Clip art; on a cluster a path that every machine reaches.
        count: Composites in an epoch.
        seed: 0..2^64-1.
        split: Which objects.
        settings: How they are made.
    """

    folder: Path
    count: int
    seed: int = 0
    split: Split = "all"
    settings: ComposeSettings = _PLAIN

    def open(self) -> CompositeSamples:
        """Decodes the clip art.

        Raises:
            ClipArtError: The folder is missing, malformed or not enough for the split.
            UsageError: A number is out of its range.
        """
        return CompositeSamples(
            self.folder, split=self.split, per_epoch=self.count, seed=self.seed, settings=self.settings
        )

    def __call__(self, index: int) -> AmodalSample:
        """Composite `index` of the first epoch; the clip art stays decoded for the next one."""
        return _opened(self).sample(0, index)


@lru_cache(maxsize=1)
def _opened(composites: Composites) -> CompositeSamples:
    return composites.open()


class AheadSamples(SamplesAround):
    """The first epoch of a data set, made ahead of its reader; any other sample is made here.

    Args:
        samples: The data set, which names itself and its frames.
        make: Sample `index` of its first epoch, as any process makes it.
        workers: As `walt_train.cluster.map_tasks` takes it.
    """

    def __init__(self, samples: Samples, make: Callable[[int], AmodalSample], workers: str | int) -> None:
        super().__init__(samples)
        self._next = 0
        self._coming: Iterator[AmodalSample] = map_tasks(
            make, range(len(samples)), workers=workers, name="sample {}".format
        )

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Sample `index` of `epoch`.

        Raises:
            TaskError: The workers failed.
        """
        if (epoch, index) != (0, self._next):
            return self._samples.sample(epoch, index)
        self._next += 1
        return next(self._coming)

    def close(self) -> None:
        """Ends the workers; called for by `contextlib.closing`."""
        if isinstance(self._coming, Iterator) and hasattr(self._coming, "close"):
            self._coming.close()


def compose_to_disk(
    composites: Composites, out: Path, info: Mapping[str, Any], *, workers: str | int = 0
) -> Iterator[int]:
    """Writes composites as `write_samples` does, made by any number of workers; `walt-train compose` calls it.

    Args:
        composites: Which.
        out: Gets `images/`, `annotations.json` and, when all is written, `data.json`.
        info: Facts for the file's `info`.
        workers: As `walt_train.cluster.map_tasks` takes it; 0 makes them here.

    Yields:
        The number of composites written so far.

    Raises:
        ClipArtError: The folder is missing, malformed or not enough for the split.
        OutputError: The folder cannot be written.
        TaskError: A worker failed.
        UsageError: A number is out of its range, or Ray is wanted and missing.
    """
    samples = composites.open()
    # All splits of a folder number its physical objects alike, so the whole of it names the numbers.
    manifest = Manifest(source=clipart_name(composites.folder), split=composites.split)
    try:
        (out / MANIFEST).unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            source: Samples = samples
            if Workers.parse(workers).kind != "here":
                source = stack.enter_context(closing(AheadSamples(samples, composites, workers)))
            yield from write_samples(out, Counted(source, manifest), info)
        manifest.write(out)
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}; free space or choose another --out") from error


def clipart_name(folder: Path) -> str:
    """The sha256 of `clipart.json`, which names its images by theirs."""
    return hashlib.sha256(read_file(folder / FILE_NAME, "mine clip art")).hexdigest()
