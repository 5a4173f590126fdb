"""`mining.json`: what was mined, assumed and moved. For readers that know the contract only."""

from __future__ import annotations

from pathlib import Path

import msgspec

from walt_edge.contract.errors import WaltError

RECORD = "mining.json"


class SourceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was assumed about a source.

    Attributes:
        source: Its paths.
        begins_us: Time of its first frame, microseconds since 1970 UTC.
        assumed: Where that time comes from.
        stills: Whether its pictures lie too far apart to follow anything.
    """

    source: str
    begins_us: int
    assumed: str
    stills: bool


class PoseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where a plate lay.

    Attributes:
        plate: Its id.
        source: Its source's folder.
        epoch: From 0.
        shift_px: Largest displacement of a corner against the epoch's first plate; 0 for that one.
        rotation_deg: Against it.
        quality: Of the fit, -1..1.
        moved: Whether clips and plates were moved by it.
    """

    plate: str
    source: str
    epoch: int
    shift_px: float
    rotation_deg: float
    quality: float
    moved: bool


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What an epoch's folder holds.

    Attributes:
        folder: Below the archive's; "." for the first.
        clips: How many.
        objects: Physical ones that they show.
        plates: How many, real frames included.
        static: Static things.
        until_us: Time of the newest plate, microseconds since 1970 UTC.
    """

    folder: str
    clips: int
    objects: int
    plates: int
    static: int
    until_us: int = 0


class ArchiveRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        camera: The camera's name.
        sources: In the order of time.
        unusable: Why a source gave nothing, by its paths.
        frames: How many were looked at.
        objects_judged: Tracks, or things in stills, that were judged.
        poses: Of every median plate.
        epochs: One folder each.
        rejected_by_reason: By the eyes and by the gates.
    """

    camera: str
    sources: list[SourceRecord]
    unusable: dict[str, str]
    frames: int
    objects_judged: int
    poses: list[PoseRecord]
    epochs: list[EpochRecord]
    rejected_by_reason: dict[str, int]
    version: int = 1


def read_record(folder: Path) -> ArchiveRecord:
    """What `walt-train mine` told of a folder.

    Raises:
        WaltError: It is missing or malformed.
    """
    path = folder / RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=ArchiveRecord)
    except OSError as error:
        raise WaltError(f"cannot read {path}: {error.strerror}; mine again") from error
    except msgspec.DecodeError as error:
        raise WaltError(f"{path} is malformed ({error}): mine again") from error
