"""Reads folders of amodal COCO annotations, as `walt-train rwalt` and `walt-train compose` write them."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, MaskError, PatchMask, Rle, decode_rle
from walt_train.clipart.chance import Chance, Purpose
from walt_train.data.sample import SPLITS, AmodalObject, AmodalSample, Split

ANNOTATIONS = "annotations.json"
TRAINING_PERCENT = 80
"""Of the frames, the first train."""
_APART_PERCENT = 25
"""Where at least this part of the later frames shows no object of the earlier ones, only those judge."""

_LOG = logging.getLogger(__name__)


class DataError(WaltError):
    """A data set is missing, malformed or incomplete."""


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `images`."""

    id: int
    file_name: str
    width: int
    height: int
    time: str = ""
    camera: str = ""
    frame: int = 0


class AnnotationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `annotations`, as far as layers need it.

    Attributes:
        image_id: Which image it belongs to.
        category_id: Its class.
        track_id: The physical object.
        depth_order: 0 is nearest.
        segmentation: The amodal mask.
        occluder_segmentation: What lies nearer within its box, static things included; None for objects alone.
    """

    image_id: int
    category_id: Label
    track_id: int
    depth_order: int
    segmentation: Rle
    occluder_segmentation: Rle | None = None


class _File(msgspec.Struct, frozen=True):
    images: list[ImageRecord]
    annotations: list[AnnotationRecord]


class CocoSamples:
    """The frames of a folder; masks and images are decoded when asked for.

    Args:
        folder: Holds `annotations.json` and the images that it names.
        split: `train`: the first 80% of the frames; `validation`: those after, if possible only frames that show no
            object of the earlier ones.
        per_epoch: Samples in an epoch, drawn in random order without repeats until all were shown; None for every
            frame once, in order.
        seed: Of that order, 0..2^64-1.

    Raises:
        DataError: The file is missing, malformed, holds no frame for the split, or an image is missing.
        UsageError: A number is out of its range.
    """

    def __init__(self, folder: Path, *, split: Split = "all", per_epoch: int | None = None, seed: int = 0) -> None:
        if per_epoch is not None and per_epoch < 1:
            raise UsageError(f"{per_epoch} samples an epoch: give at least 1")
        if split not in SPLITS:
            raise UsageError(f"split '{split}' is none of {', '.join(SPLITS)}")
        self._folder = folder
        data = _read_bytes(folder / ANNOTATIONS)
        content = _decode(folder / ANNOTATIONS, data)
        self._objects = _by_image(folder / ANNOTATIONS, content)
        images = sorted(content.images, key=lambda image: (image.time, image.frame, image.id))
        self._images = self._part(images, split)
        self._per_epoch = per_epoch
        self._seed = seed
        self._labels = _labels(content.annotations)
        self._sha256 = hashlib.sha256(data + f" {split} {per_epoch} {seed}".encode()).hexdigest()
        _check_times(folder / ANNOTATIONS, self._images)
        _check_images(folder, self._images)

    @property
    def sha256(self) -> str:
        """Of `annotations.json`, which names the pixels, and of split and seed; 64 hex digits."""
        return self._sha256

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Size of the frames, pixels.

        Raises:
            DataError: They have different sizes: they are not the whole frames of one fixed camera.
        """
        sizes = sorted({(image.width, image.height) for image in self._images})
        if len(sizes) > 1:
            some = " and ".join(f"{width}x{height}" for width, height in (sizes[0], sizes[-1]))
            raise DataError(
                f"{self._folder} has pictures of {len(sizes)} sizes ({some}), a fixed camera's frames have one: "
                "compose without --crop-chance, or take one camera's frames"
            )
        return sizes[0]

    @property
    def labels(self) -> Sequence[Label]:
        """The classes that occur, in the contract's order."""
        return self._labels

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self._images) if self._per_epoch is None else self._per_epoch

    def sample(self, epoch: int, index: int) -> AmodalSample:
        """Sample `index` of `epoch`.

        Raises:
            IndexError: The index is not in the epoch.
            DataError: The image or a mask of it is malformed.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        record = self._images[self._place(epoch, index)]
        image = _read_image(self._folder / record.file_name, record)
        try:
            objects, static = layers_of(self._objects.get(record.id, []), record)
        except MaskError as error:
            raise DataError(f"{self._folder / ANNOTATIONS}, image {record.id}: {error}") from error
        return AmodalSample(
            image, objects, static, record.file_name, frame=record.frame, time=record.time, camera=record.camera
        )

    def _place(self, epoch: int, index: int) -> int:
        if self._per_epoch is None:
            return index
        lap, place = divmod(epoch * self._per_epoch + index, len(self._images))
        return _shuffled(self._seed, lap, len(self._images))[place]

    def _part(self, images: list[ImageRecord], split: Split) -> list[ImageRecord]:
        bound = len(images) * TRAINING_PERCENT // 100
        wanted = {"all": images, "train": images[:bound], "validation": images[bound:]}[split]
        if not wanted:
            raise DataError(f"{self._folder / ANNOTATIONS} has {len(images)} frames, too few for split '{split}'")
        if split != "validation":
            return wanted
        known = self._tracks(images[:bound])
        apart = [image for image in wanted if not known & self._tracks([image])]
        if len(apart) * 100 >= len(wanted) * _APART_PERCENT:
            return apart
        _LOG.warning("%s: objects of the earlier frames are in most of the later ones; they judge too", self._folder)
        return wanted

    def _tracks(self, images: list[ImageRecord]) -> set[int]:
        return {record.track_id for image in images for record in self._objects.get(image.id, [])}


@lru_cache(maxsize=8)
def _shuffled(seed: int, lap: int, count: int) -> tuple[int, ...]:
    """The order of `count` frames in a lap."""
    order = list(range(count))
    Chance(seed, lap, 0, Purpose.FRAMES).shuffle(order)
    return tuple(order)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = "render a street (walt-train rwalt) or compose one (walt-train compose)"
        raise DataError(f"cannot read {path}: {error.strerror}; {remedy}") from error


def _decode(path: Path, data: bytes) -> _File:
    try:
        return msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no amodal COCO file: {error}") from error


def _by_image(path: Path, content: _File) -> dict[int, list[AnnotationRecord]]:
    """Annotations of each image, nearest first."""
    sizes = {image.id: (image.height, image.width) for image in content.images}
    if len(sizes) != len(content.images):
        raise DataError(f"{path} names an image id twice: number the images anew")
    groups: dict[int, list[AnnotationRecord]] = {}
    for record in content.annotations:
        size = sizes.get(record.image_id, "no size, for it is missing")
        for mask in (record.segmentation, record.occluder_segmentation):
            if mask is not None and mask.size != size:
                raise DataError(f"{path}: a mask of {mask.size} for image {record.image_id} of {size}")
        groups.setdefault(record.image_id, []).append(record)
    for group in groups.values():
        group.sort(key=lambda record: record.depth_order)
    return groups


def _labels(records: list[AnnotationRecord]) -> tuple[Label, ...]:
    present = {record.category_id for record in records}
    return tuple(label for label in Label if label in present)


def _check_times(path: Path, images: list[ImageRecord]) -> None:
    for image in images:
        try:
            dt.datetime.fromisoformat(image.time or "2000-01-01")
        except ValueError as error:
            raise DataError(f"{path}: time '{image.time}' of image {image.id} is not ISO 8601: correct it") from error


def _check_images(folder: Path, images: list[ImageRecord]) -> None:
    missing = [image.file_name for image in images if not (folder / image.file_name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{folder} lacks {missing[0]}{more}: write the data set again with its images")


def _read_image(path: Path, record: ImageRecord) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] | None = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None or image.shape[:2] != (record.height, record.width):
        found = "no readable image" if image is None else f"{image.shape[1]}x{image.shape[0]}"
        raise DataError(f"{path} is {found}, expected {record.width}x{record.height}: write the data set again")
    return image


def layers_of(
    records: list[AnnotationRecord], image: ImageRecord
) -> tuple[tuple[AmodalObject, ...], tuple[tuple[int, PatchMask], ...]]:
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
        objects.append(AmodalObject(record.category_id, mask, record.track_id))
        _add(nearer, mask)
    return tuple(objects), tuple(static)


def _add(canvas: Mask, patch: PatchMask) -> None:
    x0, y0, x1, y1 = patch.box_xyxy
    canvas[y0:y1, x0:x1] |= patch.mask
