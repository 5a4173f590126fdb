"""An archive's folders: one for each epoch, and nothing in them that an earlier run left."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from walt_edge.contract.clipart import FILE_NAME, ClipArt, StaticThing, read_clipart, write_clipart
from walt_edge.contract.errors import WaltError
from walt_train.mining.choosing import Chosen
from walt_train.mining.pieces import PlatePiece
from walt_train.mining.records import ArchiveRecord, EpochRecord
from walt_train.mining.sheet import FILE_NAME as SHEET

_EPOCH = re.compile(r"epoch-[0-9]+")
_IMAGE = re.compile(r"[0-9a-f]{64}\.(jpg|png)")
_KINDS = ("crops", "plates")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochFolder:
    """What an epoch's folder holds.

    Attributes:
        camera: The camera's name.
        frame_wh: Size of its frames, pixels.
        plates: In the epoch's pose.
        chosen: Clips, in the order of time.
        things: What stands before passing objects.
        rejected: How many clips were not chosen, by reason.
    """

    camera: str
    frame_wh: tuple[int, int]
    plates: Sequence[PlatePiece]
    chosen: Sequence[Chosen]
    things: Sequence[StaticThing]
    rejected: Mapping[str, int]

    def write(self, out: Path, number: int, *, first_object: int) -> EpochRecord:
        """Writes it, the first epoch into `out` itself and others below it.

        Args:
            out: The archive.
            number: Of the epoch, from 0.
            first_object: Objects are numbered on from this.

        Raises:
            WaltError: It cannot be written.
        """
        folder = out / f"epoch-{number}" if number else out
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WaltError(f"cannot make {folder}: {error.strerror}; give another --out") from error
        clips = [
            one.piece.write(folder, header=one.header, object=first_object + one.object, confidence=one.confidence)
            for one in self.chosen
        ]
        clipart = ClipArt(
            camera=self.camera,
            frame_wh=self.frame_wh,
            plates=[piece.write(folder) for piece in self.plates],
            clips=clips,
            rejected_by_reason=dict(sorted(self.rejected.items(), key=lambda pair: -pair[1])),
            static=list(self.things),
        )
        write_clipart(folder, clipart)
        return EpochRecord(
            folder=folder.name if number else ".",
            clips=len(clips),
            objects=len({clip.object for clip in clips}),
            plates=len(clipart.plates),
            static=len(clipart.static),
            until_us=max(plate.header.captured.utc_us for plate in clipart.plates),
        )


def sweep(out: Path, record: ArchiveRecord) -> None:
    """Removes what earlier runs wrote and the record no longer names: epochs, and images of clips not chosen now.

    Only what mining names itself is looked at: `epoch-N`, and images named by their hash. A run that gave nothing
    leaves everything.

    Raises:
        WaltError: Something cannot be removed.
    """
    named = {out / epoch.folder for epoch in record.epochs}
    gone = {path for path in out.glob("epoch-*") if path.is_dir() and _EPOCH.fullmatch(path.name)} - named
    if not named:
        return
    try:
        for folder in named:
            clipart = read_clipart(folder)
            kept = {folder / clip.image for clip in clipart.clips} | {
                folder / plate.image for plate in clipart.plates
            }
            _remove(set(_images(folder)) - kept)
        for folder in gone:
            _remove({folder / FILE_NAME, folder / SHEET, *_images(folder)})
            for left in (*(folder / kind for kind in _KINDS), folder):
                if left.is_dir() and not any(left.iterdir()):
                    left.rmdir()
    except OSError as error:
        raise WaltError(f"cannot tidy {out}: {error.strerror}; remove what it names by hand") from error


def _images(folder: Path) -> Iterator[Path]:
    for kind in _KINDS:
        yield from (path for path in (folder / kind).glob("*") if _IMAGE.fullmatch(path.name))


def _remove(paths: set[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
