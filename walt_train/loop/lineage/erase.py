"""Removing what shows crops from a generation's folder: frozen clip art, golden and calibration pictures.

What is in a bundle cannot be removed from it: a device would refuse the bytes. It goes with the bundle.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from walt_edge.contract.clipart import FILE_NAME, ClipArt, write_clipart
from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import flush

_PICTURES = (".png", ".jpg", ".jpeg")
_DRAWN = ("golden", "calibration")
_SHEET = "composites.jpg"
_DRAWING = ".composites.partial"


class EraseError(WaltError):
    """A folder cannot be cleaned."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was removed.

    Attributes:
        clips: Clips and plates out of frozen clip art.
        files: Pictures of any kind.
    """

    clips: int = 0
    files: int = 0

    def __add__(self, other: Erased) -> Erased:
        return Erased(self.clips + other.clips, self.files + other.files)


def erase(folder: Path, ids: Collection[str], *, pictures: bool) -> Erased:
    """Removes crops and plates from a generation's folder; repeated, it removes what is left.

    Args:
        folder: The generation's.
        ids: Of the crops and plates.
        pictures: Whether they may be seen in what training has drawn: golden and calibration pictures go as a whole.

    Raises:
        EraseError: Something cannot be read or removed.
    """
    try:
        erased = erase_sheet(folder)
        for path in sorted((folder / "clipart").rglob(FILE_NAME)):
            erased += _from_clipart(path.parent, frozenset(ids))
        if pictures:
            for name in _DRAWN:
                erased += _remove(_pictures(folder / "train" / name))
        return erased
    except OSError as error:
        raise _cannot(error) from error


def erase_sheet(folder: Path) -> Erased:
    """Removes the sheet of composites, which may show any crop of the clip art; raises EraseError."""
    try:
        erase_drawing(folder)
        return _remove([path for path in (folder / _SHEET,) if path.exists()])
    except OSError as error:
        raise _cannot(error) from error


def erase_drawing(folder: Path) -> None:
    """Removes composites that were being drawn; raises EraseError."""
    _remove_tree(folder / _DRAWING)
    (folder / f"{_DRAWING}.png").unlink(missing_ok=True)


def erase_pictures(folder: Path) -> Erased:
    """Removes every picture below a folder; raises EraseError."""
    try:
        return _remove(_pictures(folder))
    except OSError as error:
        raise _cannot(error) from error


def erase_state(folder: Path) -> None:
    """Removes what a training goes on from: one that is not to end is not to be gone on with.

    Raises:
        EraseError: It cannot be removed.
    """
    _remove_tree(folder / "train" / "resume")


def erase_half(folder: Path) -> bool:
    """Removes clip art that was being frozen; returns whether there was any; raises EraseError."""
    return _remove_tree(folder / ".clipart.partial")


def erase_model(folder: Path) -> bool:
    """Removes weights and bundle; returns whether there were any; raises EraseError."""
    found = False
    try:
        for path in (folder / "bundle.walt", folder / "train" / "checkpoint.pt"):
            found |= path.exists()
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot(error) from error
    return _remove_tree(folder / "train" / "resume") or found


def _from_clipart(folder: Path, ids: frozenset[str]) -> Erased:
    try:
        clipart = msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=ClipArt)
    except msgspec.DecodeError as error:
        raise EraseError(f"{folder / FILE_NAME} is malformed ({error}): remove {folder} by hand") from error
    clips = [clip for clip in clipart.clips if clip.crop not in ids]
    plates = [plate for plate in clipart.plates if plate.id not in ids]
    gone = len(clipart.clips) - len(clips) + len(clipart.plates) - len(plates)
    # The record first: what it does not name any more is found, and removed, after a kill too.
    if gone:
        write_clipart(folder, msgspec.structs.replace(clipart, clips=clips, plates=plates))
    named = {folder / clip.image for clip in clips} | {folder / plate.image for plate in plates}
    below = [path.parent for path in folder.rglob(FILE_NAME) if path.parent != folder]
    own = (path for path in _pictures(folder) if not any(path.is_relative_to(other) for other in below))
    return Erased(gone, 0) + _remove(path for path in own if path not in named)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES)


def _remove(paths: Iterator[Path] | list[Path]) -> Erased:
    removed = list(paths)
    for path in removed:
        path.unlink(missing_ok=True)
    for parent in {path.parent for path in removed}:
        flush(parent)
    return Erased(0, len(removed))


def _remove_tree(folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise _cannot(error) from error
    return True


def _cannot(error: OSError) -> EraseError:
    return EraseError(f"cannot remove {error.filename}: {error.strerror}; mend it and repeat the command")
