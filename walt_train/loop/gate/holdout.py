"""Frozen holdouts: truth that judges, named by the sha256 of everything in it.

A truth folder holds `annotations.json` (COCO with exact amodal layers) and its pictures. `holdout.json` beside them
says where the truth comes from, which cameras and devices it shows and when each frame was captured; without that
nobody could tell whether a model has learned from what judges it. Once frozen, one changed byte is found.
"""

from __future__ import annotations

import enum
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import stays_below, write_whole
from walt_train.loop.gate.annotated import ANNOTATIONS, Described, Picture, read_annotated

FILE_NAME = "holdout.json"
_CHUNK = 1 << 20
_LOG = logging.getLogger(__name__)

Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\A[A-Za-z0-9_.-]+\Z")]


class HoldoutError(WaltError):
    """A folder is no holdout, or not any more the one that was frozen."""


class Source(enum.StrEnum):
    """Where truth comes from."""

    RENDERED = "rendered"
    STATIONARY = "stationary"
    HUMAN = "human"
    MODEL = "model"


class Shown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a picture beyond its annotations.

    Attributes:
        camera: That took it; "" as the annotations say.
        captured_us: When, microseconds since 1970-01-01 UTC; None as the annotations say.
        crop: Id of the envelope that it came in; "" where it came otherwise.
        tracks: Objects that it shows, `SITE/DEVICE/BOOT/TRACK`, where the device told.
    """

    camera: str = ""
    captured_us: int | None = None
    crop: str = ""
    tracks: tuple[str, ...] = ()


class HeldFrame(Shown, frozen=True, kw_only=True, omit_defaults=True):
    """A picture that judges.

    Attributes:
        file: Below the folder.
        sha256: Of the file.
    """

    file: str
    sha256: Sha256


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What names a rendered street: with these the same street is rendered again."""

    seed: int
    preset: str = ""


class Holdout(msgspec.Struct, frozen=True, kw_only=True):
    """`holdout.json`.

    Attributes:
        name: What people call it.
        source: Where its truth comes from.
        cameras: That took its pictures.
        devices: That these cameras are on, `SITE/DEVICE`; none of what was rendered.
        frames: Its pictures.
        annotations_sha256: Of `annotations.json`.
        scene: Of what was rendered.
        made_us: When it was frozen.
        made_by: Who vouches for the truth: a person, a program, a detector.
        made_by_sha256: Of the bundle or weights of a detector that made it; "" where none did.
        content_sha256: Over all of the above.
    """

    name: Name
    source: Source
    cameras: tuple[str, ...]
    devices: tuple[str, ...]
    frames: tuple[HeldFrame, ...]
    annotations_sha256: Sha256
    scene: Scene | None = None
    made_us: int = 0
    made_by: str = ""
    made_by_sha256: str = ""
    content_sha256: str = ""
    version: int = 1

    def named(self) -> str:
        """The sha256 over everything but `content_sha256`."""
        plain = msgspec.structs.replace(self, content_sha256="")
        return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def freeze(
    folder: Path,
    *,
    source: Source,
    made_us: int,
    name: str = "",
    cameras: Sequence[str] = (),
    devices: Sequence[str] = (),
    made_by: str = "",
    begin_us: int | None = None,
    shown: Mapping[str, Shown] | None = None,
) -> Holdout:
    """Writes `holdout.json`; what is frozen already stays as it is.

    Args:
        folder: Holds `annotations.json` and the pictures that it names.
        source: Where the truth comes from.
        made_us: Now, microseconds since 1970-01-01 UTC.
        name: What people call it; by default the folder's name.
        cameras: That took the pictures; by default those of the annotations. With one, it took all of them.
        devices: `SITE/DEVICE` of these cameras; not of what was rendered.
        made_by: Who vouches for it; a program that left its name may be left out.
        begin_us: When the first picture was captured, where the annotations' clock begins anywhere.
        shown: What is known beyond the annotations, by file.

    Raises:
        HoldoutError: It is frozen otherwise, incomplete, or not from where it is said to be from.
    """
    described = read_annotated(folder)
    _check_source(folder, described, source)
    if source is not Source.RENDERED and not (devices and (made_by or described.maker)):
        raise HoldoutError(
            f"{folder}: whose pictures are these, and who made the truth? Give --device SITE/DEVICE and --by NAME"
        )
    frames = _frames(folder, described, source, tuple(cameras), begin_us, shown or {})
    holdout = Holdout(
        name=name or folder.resolve().name,
        source=source,
        cameras=tuple(sorted({frame.camera for frame in frames})),
        devices=tuple(sorted(set(devices))) if source is not Source.RENDERED else (),
        frames=frames,
        annotations_sha256=file_sha256(folder / ANNOTATIONS),
        scene=None if described.seed is None else Scene(seed=described.seed, preset=described.preset),
        made_us=made_us,
        made_by=made_by or described.maker,
        made_by_sha256=described.maker_sha256,
    )
    return _write(folder, msgspec.structs.replace(holdout, content_sha256=holdout.named()))


def read_holdout(folder: Path) -> Holdout:
    """Reads a frozen holdout and checks every byte of it.

    Raises:
        HoldoutError: It is not frozen, malformed, or something changed since.
    """
    holdout = _read(folder / FILE_NAME)
    if holdout.named() != holdout.content_sha256:
        raise HoldoutError(
            f"{folder / FILE_NAME} was changed after it was frozen: restore it, or freeze a new folder"
        )
    wanted = {ANNOTATIONS: holdout.annotations_sha256} | {frame.file: frame.sha256 for frame in holdout.frames}
    for file, sha256 in wanted.items():
        if file_sha256(folder / file) != sha256:
            raise HoldoutError(f"{folder / file} was changed after it was frozen: restore it, or freeze a new folder")
    return holdout


def holdout_of(folder: Path, now_us: int) -> Holdout:
    """The holdout of a folder; a rendered one that was never frozen is frozen now, for it says itself what it is.

    Raises:
        HoldoutError: It is not frozen and nobody knows where it comes from, or it changed.
    """
    if (folder / FILE_NAME).exists():
        return read_holdout(folder)
    if read_annotated(folder).seed is None:
        raise HoldoutError(
            f"{folder} does not say where its truth comes from: walt-loop holdout freeze {folder} "
            "--source stationary|human --device SITE/DEVICE --by NAME"
        )
    return freeze(folder, source=Source.RENDERED, made_us=now_us)


def file_sha256(path: Path) -> str:
    """Of a file's bytes; raises HoldoutError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HoldoutError(f"cannot read {path}: {error.strerror}; restore it") from error


def _check_source(folder: Path, described: Described, source: Source) -> None:
    """What says itself where it comes from cannot be said to come from elsewhere."""
    if (described.seed is not None) != (source is Source.RENDERED):
        found = "was rendered" if described.seed is not None else "was not rendered by walt-train rwalt"
        raise HoldoutError(f"{folder} {found}: --source {source} does not fit")
    if described.detector and source is Source.HUMAN:
        raise HoldoutError(f"{folder} was made by the detector {described.maker}: expected --source stationary")


def _frames(
    folder: Path,
    described: Described,
    source: Source,
    cameras: tuple[str, ...],
    begin_us: int | None,
    shown: Mapping[str, Shown],
) -> tuple[HeldFrame, ...]:
    unknown = sorted(set(shown) - {picture.file for picture in described.pictures})
    if unknown:
        raise HoldoutError(f"{folder / ANNOTATIONS} has no picture {unknown[0]}, of which something is told")
    first_us = min((one.captured_us for one in described.pictures if one.captured_us is not None), default=0)
    shift_us = 0 if begin_us is None else begin_us - first_us
    found = []
    for picture in described.pictures:
        if not stays_below(picture.file):
            raise HoldoutError(f"{folder}: {picture.file} lies outside it: give names below the folder")
        told = shown.get(picture.file, Shown())
        captured_us = None if source is Source.RENDERED else _captured_us(folder, picture, told, shift_us)
        camera = told.camera or (cameras[0] if len(cameras) == 1 else picture.camera)
        if not camera or (cameras and camera not in cameras):
            raise HoldoutError(
                f"{folder}: {picture.file} is of camera '{camera}': give --camera NAME for all of them"
            )
        found.append(
            HeldFrame(
                file=picture.file,
                sha256=file_sha256(folder / picture.file),
                camera=camera,
                captured_us=captured_us,
                crop=told.crop,
                tracks=told.tracks,
            )
        )
    return tuple(found)


def _captured_us(folder: Path, picture: Picture, told: Shown, shift_us: int) -> int:
    if told.captured_us is not None:
        return told.captured_us
    if picture.captured_us is None or (not shift_us and picture.captured_us < _WALT_BEGAN_US):
        raise HoldoutError(
            f"{folder}: nobody knows when {picture.file} was captured ('{picture.time}'): give --begin TIME"
        )
    return picture.captured_us + shift_us


_WALT_BEGAN_US = 1_577_836_800_000_000
"""2020: what claims to be older was written by a clock that nobody set, or counts from anywhere."""


def _read(path: Path) -> Holdout:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holdout)
    except FileNotFoundError as error:
        raise HoldoutError(
            f"{path.parent} is not frozen: walt-loop holdout freeze {path.parent} --source ..."
        ) from error
    except OSError as error:
        raise HoldoutError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HoldoutError(f"{path} is malformed ({error}): restore it, or freeze a new folder") from error


def _write(folder: Path, holdout: Holdout) -> Holdout:
    path = folder / FILE_NAME
    if path.exists():
        before = read_holdout(folder)
        if _said(before) != _said(holdout):
            raise HoldoutError(f"{folder} is frozen as {before.source} '{before.name}': freeze another folder")
        return before
    try:
        write_whole(path, msgspec.json.format(msgspec.json.encode(holdout), indent=1))
    except OSError as error:
        if holdout.source is not Source.RENDERED:
            raise HoldoutError(f"cannot write {path}: {error.strerror}; make the folder writable") from error
        _LOG.warning("%s cannot be written (%s): changes to it will not be found", path, error.strerror)
    return holdout


def _said(holdout: Holdout) -> Holdout:
    """All but when it was said."""
    return msgspec.structs.replace(holdout, made_us=0, content_sha256="")


def totals(holdouts: Iterable[Holdout]) -> str:
    """For a log: how much judges."""
    return ", ".join(f"{one.name} ({one.source}, {len(one.frames)} frames)" for one in holdouts)
