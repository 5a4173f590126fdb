"""What the gate reads of a folder's `annotations.json`: its pictures, and what says where the truth comes from."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import msgspec

from walt_edge.contract.errors import WaltError

ANNOTATIONS = "annotations.json"


class AnnotatedError(WaltError):
    """Annotations are missing or malformed."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An entry of `images`.

    Attributes:
        file: Below the folder.
        camera: That took it, or "".
        time: As it is written.
        captured_us: The same, microseconds since 1970-01-01 UTC; None where it is no time.
    """

    file: str
    camera: str
    time: str
    captured_us: int | None


@dataclass(frozen=True, slots=True)
class Described:
    """A folder of annotations.

    Attributes:
        pictures: In the order of the file; at least one.
        seed: Of a street that `walt-train rwalt` rendered; None for anything else.
        preset: Of that street.
        maker: What made the truth, as far as it left its name.
        maker_sha256: Of that detector's bundle or weights; "" where there is none, or nobody knows.
        detector: Whether a detector made the truth.
    """

    pictures: tuple[Picture, ...]
    seed: int | None
    preset: str
    maker: str
    maker_sha256: str
    detector: bool


class _Image(msgspec.Struct, frozen=True):
    file_name: str
    camera: str = ""
    time: str = ""


class _Swalt(msgspec.Struct, frozen=True):
    detector: str
    detector_sha256: str = ""


class _Info(msgspec.Struct, frozen=True):
    rwalt_version: int | None = None
    seed: int | None = None
    preset: str = ""
    swalt: _Swalt | None = None


class _File(msgspec.Struct, frozen=True):
    images: tuple[_Image, ...]
    info: _Info = _Info()


def read_annotated(folder: Path) -> Described:
    """Reads a folder's annotations as far as the gate needs them.

    Raises:
        AnnotatedError: They are missing, malformed or name no picture.
    """
    path = folder / ANNOTATIONS
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise AnnotatedError(f"cannot read {path}: {error.strerror}; give a COCO folder with exact layers") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AnnotatedError(f"{path} is no file of annotations ({error}): write the folder again") from error
    names = [image.file_name for image in found.images]
    if not names or len(set(names)) < len(names):
        raise AnnotatedError(f"{path} names no picture, or one twice: write the folder again")
    info = found.info
    is_rendered = info.rwalt_version is not None and info.seed is not None
    maker = f"rwalt {info.rwalt_version}" if is_rendered else info.swalt.detector if info.swalt else ""
    return Described(
        pictures=tuple(Picture(one.file_name, one.camera, one.time, micros(one.time)) for one in found.images),
        seed=info.seed if is_rendered else None,
        preset=info.preset,
        maker=maker,
        maker_sha256=info.swalt.detector_sha256 if info.swalt else "",
        detector=info.swalt is not None,
    )


def micros(time: str) -> int | None:
    """An ISO 8601 time as microseconds since 1970-01-01 UTC; None where it is none."""
    try:
        moment = dt.datetime.fromisoformat(time)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
