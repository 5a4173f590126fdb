"""Reads folders of amodal COCO annotations, as `walt-train rwalt` and `walt-train compose` write them."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, PatchMask, Rle, decode_rle
from walt_train.data.pictures import (
    DataError,
    ImageRecord,
    ObjectsAndStatic,
    PictureSamples,
    data_name,
    image_sizes,
    part_of,
    read_file,
)
from walt_train.data.sample import AmodalObject, Split

__all__ = [
    "ANNOTATIONS",
    "AnnotationRecord",
    "CocoSamples",
    "DataError",
    "ImageRecord",
    "layers_of",
]

ANNOTATIONS = "annotations.json"
_APART_PERCENT = 25
"""Where at least this part of the later frames shows no object of the earlier ones, only those judge."""

_LOG = logging.getLogger(__name__)

Point = Annotated[list[float], Meta(min_length=2, max_length=2)]


class AnnotationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `annotations`, as far as layers need it.

    Attributes:
        image_id: Which image it belongs to.
        category_id: Its class.
        track_id: The physical object.
        depth_order: 0 is nearest.
        segmentation: The amodal mask.
        occluder_segmentation: What lies nearer within its box, static things included; None for objects alone.
        keypoints: COCO's flat x, y, visibility of each point, pixels of the picture; they may leave it.
        num_keypoints: How many of them have a visibility above 0; None where nobody counted.
        cuboid: Corners x, y of its 3D box, ground first, pixels of the picture.
    """

    image_id: int
    category_id: Label
    track_id: int
    depth_order: int
    segmentation: Rle
    occluder_segmentation: Rle | None = None
    keypoints: list[float] | None = None
    num_keypoints: int | None = None
    cuboid: Annotated[list[Point], Meta(min_length=8, max_length=8)] | None = None

    def points(self) -> NDArray[np.float64] | None:
        """(K, 3) x, y and COCO visibility; None where it has none.

        Raises:
            ValueError: They are no such points.
        """
        if not self.keypoints:
            return None
        if len(self.keypoints) % 3:
            raise ValueError(f"keypoints of {len(self.keypoints)} numbers are not in threes")
        points = np.array(self.keypoints, np.float64).reshape(-1, 3)
        if not np.isfinite(points).all() or not np.isin(points[:, 2], (0, 1, 2)).all():
            raise ValueError("a keypoint is not x, y, visibility 0, 1 or 2")
        named = int(np.count_nonzero(points[:, 2]))
        if self.num_keypoints is not None and named != self.num_keypoints:
            raise ValueError(f"num_keypoints is {self.num_keypoints}, but {named} are labelled")
        return points

    def corners(self) -> NDArray[np.float64] | None:
        """(8, 2) corners of its 3D box; None where it has none.

        Raises:
            ValueError: A coordinate is no number.
        """
        if self.cuboid is None:
            return None
        corners = np.array(self.cuboid, np.float64)
        if not np.isfinite(corners).all():
            raise ValueError("a corner of its cuboid is no number")
        return corners


class _File(msgspec.Struct, frozen=True):
    images: list[ImageRecord]
    annotations: list[AnnotationRecord]


class CocoSamples(PictureSamples):
    """The frames of a folder; masks and images are decoded when asked for.

    Args:
        folder: Holds `annotations.json` and the images that it names.
        split: `train`: the first 80% of the frames by time; `validation`: those after, if possible only frames that
            show no physical object of the earlier ones. Where those are fewer than a quarter of the later frames,
            as in composites of `--split all`, all of them judge, and a warning tells how many objects both have.
        per_epoch: Samples in an epoch, drawn in random order without repeats until all were shown; None for every
            frame once, in order.
        seed: Of that order, 0..2^64-1.

    Raises:
        DataError: The file is missing, malformed, holds no frame for the split, or an image is missing.
        UsageError: A number is out of its range.
    """

    def __init__(self, folder: Path, *, split: Split = "all", per_epoch: int | None = None, seed: int = 0) -> None:
        path = folder / ANNOTATIONS
        data = read_file(path, "render a street (walt-train rwalt) or compose one (walt-train compose)")
        content = _decode(path, data)
        self._objects = _by_image(path, content)
        images = sorted(content.images, key=lambda image: (image.time, image.frame, image.id))
        chosen = part_of(path, images, split)
        if split == "validation":
            chosen = self._apart(path, images[: len(images) - len(chosen)], chosen)
        super().__init__(
            path,
            folder,
            chosen,
            labels=[record.category_id for record in content.annotations],
            per_epoch=per_epoch,
            seed=seed,
            sha256=data_name(data, split, per_epoch, seed),
        )
        _check_times(path, chosen)

    def _layers(self, record: ImageRecord) -> ObjectsAndStatic:
        return layers_of(self._objects.get(record.id, []), record)

    def _apart(
        self, path: Path, earlier: Sequence[ImageRecord], later: Sequence[ImageRecord]
    ) -> Sequence[ImageRecord]:
        """Of the later frames those without an object of the earlier ones, or all of them if those are few."""
        known = self._tracks(earlier)
        apart = [image for image in later if not known & self._tracks([image])]
        if len(apart) * 100 >= len(later) * _APART_PERCENT:
            return apart
        judging = self._tracks(later)
        common = len(known & judging)
        _LOG.warning(
            "%s: of the %d objects that judge, %d (%d%%) train as well, and they judge too: figures will flatter; "
            "composites can be made with --split train and --split validation",
            path.parent,
            len(judging),
            common,
            100 * common // len(judging),
        )
        return later

    def _tracks(self, images: Iterable[ImageRecord]) -> set[tuple[str, int]]:
        return {(image.camera, record.track_id) for image in images for record in self._objects.get(image.id, [])}


def _decode(path: Path, data: bytes) -> _File:
    try:
        return msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no amodal COCO file: {error}") from error


def _by_image(path: Path, content: _File) -> dict[int, list[AnnotationRecord]]:
    """Annotations of each image, nearest first."""
    sizes = image_sizes(path, content.images)
    groups: dict[int, list[AnnotationRecord]] = {}
    for record in content.annotations:
        size = sizes.get(record.image_id, "no size, for it is missing")
        for mask in (record.segmentation, record.occluder_segmentation):
            if mask is not None and mask.size != size:
                raise DataError(f"{path}: a mask of {mask.size} for image {record.image_id} of {size}")
        try:
            record.points(), record.corners()
        except ValueError as error:
            raise DataError(f"{path}, object {record.track_id} in image {record.image_id}: {error}") from error
        groups.setdefault(record.image_id, []).append(record)
    for group in groups.values():
        group.sort(key=lambda record: record.depth_order)
    return groups


def _check_times(path: Path, images: Iterable[ImageRecord]) -> None:
    for image in images:
        try:
            dt.datetime.fromisoformat(image.time or "2000-01-01")
        except ValueError as error:
            raise DataError(f"{path}: time '{image.time}' of image {image.id} is not ISO 8601: correct it") from error


def layers_of(records: list[AnnotationRecord], image: ImageRecord) -> ObjectsAndStatic:
    """Objects, and the static things before them.

    What hides an object and belongs to no nearer one is static; together with the order that gives every layer back.
    """
    objects: list[AmodalObject] = []
    static: list[tuple[int, PatchMask]] = []
    nearer: Mask = np.zeros((image.height, image.width), dtype=bool)
    for record in records:
        mask = PatchMask.from_full(decode_rle(record.segmentation))
        if mask.mask.size == 0:
            continue
        if record.occluder_segmentation is not None:
            post = PatchMask.from_full(decode_rle(record.occluder_segmentation) & ~nearer)
            if post.mask.size:
                static.append((len(objects), post))
                _add(nearer, post)
        objects.append(AmodalObject(record.category_id, mask, record.track_id, record.points(), record.corners()))
        _add(nearer, mask)
    return tuple(objects), tuple(static)


def _add(canvas: Mask, patch: PatchMask) -> None:
    x0, y0, x1, y1 = patch.box_xyxy
    canvas[y0:y1, x0:x1] |= patch.mask
