"""What training and judging read: amodal samples, composed on the fly or read from COCO files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from walt_edge.contract.clipart import FILE_NAME

if TYPE_CHECKING:
    from walt_train.clipart.settings import ComposeSettings
    from walt_train.data.sample import Samples, Split


DEFAULT_PER_EPOCH = 1000
"""Composites in an epoch, where nobody says how many."""
_CAMERAS_PER_JUDGE = 10


def open_samples(
    folder: Path,
    *,
    split: Split,
    per_epoch: int | None = None,
    seed: int = 0,
    settings: ComposeSettings | None = None,
) -> Samples:
    """Opens a folder of clip art or of amodal annotations, an annotation file, or a folder of such folders.

    Args:
        folder: Holds `clipart.json`, `annotations.json`, or one JSON file of KINS or COCOA, itself or in
            `annotations/`; or is that file; or holds nothing but folders with `clipart.json` or `annotations.json`,
            which take turns; of ten and more, one in ten judges as a whole, so that no camera is on both sides.
        split: `train`, `validation` or `all`.
        per_epoch: Samples in an epoch; None for annotated pictures in their order, 1,000 composites of clip art.
            A folder of folders must be told.
        seed: 0..2^64-1.
        settings: Of composites; by default cropped ones to train on and whole frames to judge on.

    Raises:
        DataError: There is none of these, or the annotations are malformed.
        ClipArtError: The clip art is malformed or not enough.
        UsageError: A number is out of range.
    """
    # Imported here, since these build on this package's samples and layers.
    from walt_train.clipart.settings import JUDGING, TRAINING
    from walt_train.data.coco import ANNOTATIONS, CocoSamples
    from walt_train.data.composites import CompositeSamples
    from walt_train.data.formats import find_annotations, reader_of
    from walt_train.data.mixture import MixedSamples

    settings = settings or (JUDGING if split == "validation" else TRAINING)
    if (folder / FILE_NAME).is_file():
        count = DEFAULT_PER_EPOCH if per_epoch is None else per_epoch
        return CompositeSamples(folder, split=split, per_epoch=count, seed=seed, settings=settings)
    if (folder / ANNOTATIONS).is_file():
        return CocoSamples(folder, split=split, per_epoch=per_epoch, seed=seed)
    inner, own = _shared_out(data_sets_in(folder), split)
    if inner and per_epoch is not None:
        each = -(-per_epoch // len(inner))
        parts = [open_samples(one, split=own, per_epoch=each, seed=seed, settings=settings) for one in inner]
        return MixedSamples(parts, per_epoch)
    path = folder if folder.is_file() else find_annotations(folder)
    return reader_of(path)(path, split=split, per_epoch=per_epoch, seed=seed)


def _shared_out(folders: list[Path], split: Split) -> tuple[list[Path], Split]:
    """Which of several data sets a split takes, and which split of each."""
    held_out = len(folders) // _CAMERAS_PER_JUDGE
    if split == "all" or not held_out:
        return folders, split
    return (folders[:-held_out] if split == "train" else folders[-held_out:]), "all"


def data_sets_in(folder: Path) -> list[Path]:
    """The folders in a folder that are data sets; none where it is one itself."""
    from walt_train.data.coco import ANNOTATIONS

    names = (FILE_NAME, ANNOTATIONS)
    if not folder.is_dir() or any((folder / name).is_file() for name in names):
        return []
    # Hidden ones are not finished.
    shown = sorted(path for path in folder.iterdir() if path.name[0] != ".")
    return [path for path in shown if any((path / name).is_file() for name in names)]
