"""Which data set an annotation file is, by what its first annotation holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from walt_edge.contract.clipart import FILE_NAME
from walt_train.data.coco import ANNOTATIONS, CocoSamples
from walt_train.data.cocoa import CocoaSamples
from walt_train.data.kins import KinsSamples
from walt_train.data.pictures import DataError, PictureSamples, read_file

_NOTHING = msgspec.Raw(b"")


class _Annotation(msgspec.Struct, frozen=True):
    regions: msgspec.Raw = _NOTHING
    a_segm: msgspec.Raw = _NOTHING
    inmodal_seg: msgspec.Raw = _NOTHING
    depth_order: msgspec.Raw = _NOTHING


class _File(msgspec.Struct, frozen=True):
    annotations: list[_Annotation]


def reader_of(path: Path) -> Callable[..., PictureSamples]:
    """Who reads an annotation file.

    Raises:
        DataError: It is missing, malformed or of no known kind.
    """
    try:
        content = msgspec.json.decode(read_file(path, "give an annotation file"), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no annotation file: {error}") from error
    first = content.annotations[0] if content.annotations else _Annotation()
    if bytes(first.regions):
        return CocoaSamples
    if bytes(first.a_segm) or bytes(first.inmodal_seg):
        return KinsSamples
    if bytes(first.depth_order) and path.name == ANNOTATIONS:
        return lambda file, **options: CocoSamples(file.parent, **options)
    raise DataError(
        f"{path} holds no amodal annotations that are known here: KINS (a_segm), COCOA (regions) or {ANNOTATIONS}"
    )


def find_annotations(folder: Path) -> Path:
    """The one JSON file of a folder or of `annotations/` in it.

    Raises:
        DataError: There is none, or there are several.
    """
    found = sorted([*folder.glob("*.json"), *(folder / "annotations").glob("*.json")])
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:4]) + (", ..." if len(found) > 4 else "")
        raise DataError(f"{folder} has {len(found)} annotation files ({names}): give the path of one")
    if not found:
        raise DataError(
            f"{folder} has neither {FILE_NAME} nor {ANNOTATIONS}, nor another annotation file: "
            "mine clip art, or render a street"
        )
    return found[0]
