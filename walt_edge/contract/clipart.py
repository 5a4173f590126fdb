"""`clipart.json`: what was mined of one camera, on disk.

`walt-edge mine` writes it directly and the store at home exports it; compositing reads it. Images lie beside it,
named by the sha256 of their bytes; masks are in the records.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import stays_below, write_whole
from walt_edge.contract.masks import Rle
from walt_edge.contract.messages import CropHeader, PlateHeader, Unit

FILE_NAME = "clipart.json"


class ClipArtError(WaltError):
    """A clip-art folder is missing, malformed or incomplete."""


class Cuboid(msgspec.Struct, frozen=True, kw_only=True):
    """A 3D box as the camera sees it.

    Attributes:
        corners_xy: Its eight corners, pixels of the frame: the four on the ground in order around it, then the four
            above them in the same order.
        size_m: Length, width and height, metres.
    """

    corners_xy: Annotated[list[tuple[float, float]], Meta(min_length=8, max_length=8)]
    size_m: tuple[float, float, float]


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """One object seen whole.

    Attributes:
        header: As it was mined.
        image: Its image's path below the folder.
        object: The physical object, where mining joined tracks; None leaves that to whoever reads.
        confidence: Calibrated probability that nothing hides a part of it; None where nobody calibrated.
        keypoints: Named by their order, as (x, y, visibility): pixels of the frame, 2 seen, 1 hidden, 0 unknown.
        cuboid: Its 3D box.
        crop: Id of the envelope that it came in, so that what is made of it can be traced; "" where nobody knows.
    """

    header: CropHeader
    image: str
    object: int | None = None
    confidence: Unit | None = None
    keypoints: list[tuple[float, float, int]] | None = None
    cuboid: Cuboid | None = None
    crop: str = ""


class Plate(msgspec.Struct, frozen=True, kw_only=True):
    """One background.

    Attributes:
        id: The sha256 that clips name it by.
        header: As it was made.
        image: Its image's path below the folder.
        source: `median` of many frames, or one real `frame` whose moving things are erased.
    """

    id: str
    header: PlateHeader
    image: str
    source: Literal["median", "frame"] = "median"


class StaticThing(msgspec.Struct, frozen=True, kw_only=True):
    """A pole, tree or sign that hides what passes behind it.

    Attributes:
        mask: Of the whole frame.
        ground_y: Row where it touches the ground; what touches it lower in the picture is nearer. The frame's
            height where nobody knows: then it is before everything.
    """

    mask: Rle
    ground_y: float


class ClipArt(msgspec.Struct, frozen=True, kw_only=True):
    """All clips and plates of one camera.

    Attributes:
        camera: The camera's name.
        frame_wh: Size of its frames, pixels.
        plates: Its backgrounds.
        clips: What was seen whole.
        rejected_by_reason: How many objects were not chosen, by reason.
        static: What stands before passing objects.
    """

    camera: str
    frame_wh: tuple[int, int]
    plates: list[Plate]
    clips: list[Clip]
    rejected_by_reason: dict[str, int]
    static: list[StaticThing] = []
    version: int = 1


def write_clipart(folder: Path, clipart: ClipArt) -> Path:
    """Writes `clipart.json` whole or not at all; returns its path."""
    return write_whole(folder / FILE_NAME, msgspec.json.format(msgspec.json.encode(clipart), indent=1))


def read_clipart(folder: Path) -> ClipArt:
    """Reads a clip-art folder.

    Raises:
        ClipArtError: No `clipart.json`, malformed, or an image that it names is missing or outside the folder.
    """
    path = folder / FILE_NAME
    try:
        clipart = msgspec.json.decode(path.read_bytes(), type=ClipArt)
    except FileNotFoundError as error:
        raise ClipArtError(f"no {FILE_NAME} in {folder}: make one with walt-edge mine --out {folder}") from error
    except OSError as error:
        raise ClipArtError(f"cannot read {path}: {error.strerror}; give a folder of clip art") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClipArtError(f"{path} is malformed: {error}") from error
    for image in [clip.image for clip in clipart.clips] + [plate.image for plate in clipart.plates]:
        if not stays_below(image):
            raise ClipArtError(f"{path} names {image}, which lies outside its folder: export the clip art again")
        if not (folder / image).is_file():
            raise ClipArtError(f"{path} names {image}, which is missing")
    return clipart
