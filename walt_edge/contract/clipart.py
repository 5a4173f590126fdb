"""`clipart.json`: what was mined of one camera, on disk.

`walt-edge mine` writes it directly and the store at home exports it; compositing reads it. Images lie beside it,
named by the sha256 of their bytes; masks are in the records.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole
from walt_edge.contract.messages import CropHeader, PlateHeader

FILE_NAME = "clipart.json"


class ClipArtError(WaltError):
    """A clip-art folder is missing, malformed or incomplete."""


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """One object seen whole: its header, and its image's path below the folder."""

    header: CropHeader
    image: str


class Plate(msgspec.Struct, frozen=True, kw_only=True):
    """One background: its header, its id (sha256 as named by the clips), its image's path below the folder."""

    id: str
    header: PlateHeader
    image: str


class ClipArt(msgspec.Struct, frozen=True, kw_only=True):
    """All clips and plates of one camera.

    Attributes:
        camera: The camera's name.
        frame_wh: Size of its frames, pixels.
        plates: Its backgrounds.
        clips: What was seen whole.
        rejected_by_reason: How many objects were not chosen, by reason.
    """

    camera: str
    frame_wh: tuple[int, int]
    plates: list[Plate]
    clips: list[Clip]
    rejected_by_reason: dict[str, int]
    version: int = 1


def write_clipart(folder: Path, clipart: ClipArt) -> Path:
    """Writes `clipart.json` whole or not at all; returns its path."""
    return write_whole(folder / FILE_NAME, msgspec.json.format(msgspec.json.encode(clipart), indent=1))


def read_clipart(folder: Path) -> ClipArt:
    """Reads a clip-art folder.

    Raises:
        ClipArtError: No `clipart.json`, malformed, or an image that it names is missing.
    """
    path = folder / FILE_NAME
    try:
        clipart = msgspec.json.decode(path.read_bytes(), type=ClipArt)
    except FileNotFoundError as error:
        raise ClipArtError(f"no {FILE_NAME} in {folder}: make one with walt-edge mine --out {folder}") from error
    except msgspec.DecodeError as error:
        raise ClipArtError(f"{path} is malformed: {error}") from error
    for image in [clip.image for clip in clipart.clips] + [plate.image for plate in clipart.plates]:
        if not (folder / image).is_file():
            raise ClipArtError(f"{path} names {image}, which is missing")
    return clipart
