"""Several data sets as one, for a network that has to do on cameras it has never seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from walt_edge.contract.labels import Label
from walt_train.data.coco import DataError
from walt_train.data.sample import AmodalSample, Samples


class MixedSamples:
    """Takes turns: each data set shows as many pictures as every other, whatever its size.

    Args:
        parts: At least one.
        per_epoch: Pictures in an epoch; None for as many as all of them have.

    Raises:
        DataError: A part's epoch is too short for its turns.
    """

    def __init__(self, parts: Sequence[Samples], per_epoch: int | None = None) -> None:
        self.parts = tuple(parts)
        self._count = sum(len(part) for part in parts) if per_epoch is None else per_epoch
        turns = -(-self._count // len(self.parts))
        lengths = [len(part) for part in parts]
        if min(lengths) < turns:
            raise DataError(
                f"data sets with epochs of {lengths} pictures cannot take {turns} turns: make them longer"
            )

    @property
    def sha256(self) -> str:
        """Of what names each part, in their order."""
        return hashlib.sha256(" ".join(part.sha256 for part in self.parts).encode()).hexdigest()

    @property
    def frame_wh(self) -> tuple[int, int]:
        """The one size of all their frames; raises DataError where there are several."""
        sizes = {part.frame_wh for part in self.parts}
        if len(sizes) > 1:
            some = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
            raise DataError(f"frames of several sizes ({some}): only a network without a background takes them")
        return sizes.pop()

    @property
    def labels(self) -> Sequence[Label]:
        """The classes that occur in any of them."""
        present = {label for part in self.parts for label in part.labels}
        return [label for label in Label if label in present]

    def __len__(self) -> int:
        return self._count

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Sample `index` of `epoch`; raises IndexError where it is not in the epoch."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        place, part = divmod(index, len(self.parts))
        sample = self.parts[part].sample(epoch, place)
        # Composites are named by their number, which every data set counts for itself.
        return replace(sample, name=f"{sample.name} of data set {part + 1}")
