"""Composites of a clip-art folder as a data set, split by physical object and time."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from walt_edge.contract.clipart import FILE_NAME, ClipArtError
from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_train.clipart.compose import compose
from walt_train.clipart.material import Material, load_material
from walt_train.clipart.settings import ComposeSettings
from walt_train.data.sample import SPLITS, AmodalSample, Split

VALIDATION_PERCENT = 20
"""Of the objects of each class, the last seen judge."""
_SPLIT_OBJECTS_MIN, _VALIDATION_OBJECTS_MIN = 4, 2

_LOG = logging.getLogger(__name__)


class CompositeSamples:
    """Composites without end: a pure function of (folder, split, settings, seed).

    Args:
        folder: Clip art, as `walt-edge mine` and `walt-loop store --export` write it.
        split: `train` and `validation` share no physical object, and of each class nothing that trains was seen
            after the first that judges; `all` takes every one.
        per_epoch: Samples in an epoch, at least 1.
        seed: 0..2^64-1.
        settings: How they are made.

    Attributes:
        material: What they are made of.
        clipart_sha256: Of the folder's `clipart.json`.

    Raises:
        ClipArtError: The folder is missing, malformed or empty, has no plate, or too few objects for the split.
        UsageError: A number is out of its range.
    """

    def __init__(
        self, folder: Path, *, split: Split, per_epoch: int, seed: int, settings: ComposeSettings | None = None
    ) -> None:
        if per_epoch < 1:
            raise UsageError(f"{per_epoch} samples an epoch: give at least 1")
        if split not in SPLITS:
            raise UsageError(f"split '{split}' is none of {', '.join(SPLITS)}")
        self.settings = settings or ComposeSettings()
        self.material = _part(load_material(folder), split, folder).prepare()
        self.clipart_sha256 = hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()
        self._per_epoch = per_epoch
        self._seed = seed
        if len(self.material.labels) == 1:
            only = self.material.labels[0].title
            _LOG.warning("%s has clips of one class only (%s): nothing else will be learned from it", folder, only)

    @property
    def sha256(self) -> str:
        """Of decoded clips, plates, settings and seed, 64 hex digits."""
        named = f"{self.material.sha256} {self.settings} {self._seed}"
        return hashlib.sha256(named.encode()).hexdigest()

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Size of the camera's frames, pixels."""
        return self.material.frame_wh

    @property
    def labels(self) -> Sequence[Label]:
        """The classes that occur, in the contract's order."""
        return self.material.labels

    def __len__(self) -> int:
        """Samples in an epoch."""
        return self._per_epoch

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Composite `index` of `epoch`.

        Raises:
            IndexError: The index is not in the epoch.
        """
        if not 0 <= index < self._per_epoch:
            raise IndexError(f"composite {index} of an epoch of {self._per_epoch}")
        return compose(self.material, self.settings, self._seed, epoch, index)


def _part(material: Material, split: Split, folder: Path) -> Material:
    if split == "all":
        return material
    last = {label: _last_objects(material, label) for label in material.labels}
    judging = frozenset[int]().union(*last.values())
    if split == "validation":
        if not judging:
            count = len(material.everything.objects)
            fewest = f"mine at least {_SPLIT_OBJECTS_MIN} of a class"
            raise ClipArtError(f"{folder} has clips of {count} objects, too few to judge on: {fewest}")
        return material.only(lambda cutout: cutout.object_id in judging)
    begins_us = {
        label: min(cutout.seen_us for cutout in material.cutouts if cutout.object_id in objects)
        for label, objects in last.items()
        if objects
    }
    return material.only(
        lambda cutout: (
            cutout.object_id not in judging and cutout.seen_us <= begins_us.get(cutout.label, cutout.seen_us)
        )
    )


def _last_objects(material: Material, label: Label) -> frozenset[int]:
    """The last objects of a class, by the time they were first seen; object ids rise with it."""
    objects = sorted({cutout.object_id for cutout in material.cutouts if cutout.label is label})
    if len(objects) < _SPLIT_OBJECTS_MIN:
        _LOG.warning("%d objects of class %s only: they train, none is left to judge", len(objects), label.title)
        return frozenset()
    return frozenset(objects[-max(_VALIDATION_OBJECTS_MIN, len(objects) * VALIDATION_PERCENT // 100) :])
