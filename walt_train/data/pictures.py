"""Data sets of annotated pictures on disk: what all readers share."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.files import stays_below
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import MaskError, PatchMask
from walt_train.clipart.chance import Chance, Purpose
from walt_train.data.sample import SPLITS, AmodalObject, AmodalSample, Split

PIXELS_MAX = 64_000_000
"""Of a picture: a larger one is a mistake, and its masks would fill the memory."""
TRAINING_PERCENT = 80
"""Of the pictures, the first train."""


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


ObjectsAndStatic = tuple[tuple[AmodalObject, ...], tuple[tuple[int, PatchMask], ...]]


class PictureSamples(abc.ABC):
    """Annotated pictures; masks and pictures are decoded when asked for.

    Args:
        path: The annotation file, for messages.
        folder: Where the pictures lie.
        images: The pictures of the split, in order; at least one.
        labels: The classes that occur.
        per_epoch: Samples in an epoch, drawn in random order without repeats until all were shown; None for every
            picture once, in order.
        seed: Of that order, 0..2^64-1.
        sha256: Names the data.

    Raises:
        DataError: A picture is missing.
        UsageError: A number is out of its range.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        images: Sequence[ImageRecord],
        *,
        labels: Iterable[Label],
        per_epoch: int | None,
        seed: int,
        sha256: str,
    ) -> None:
        if per_epoch is not None and per_epoch < 1:
            raise UsageError(f"{per_epoch} samples an epoch: give at least 1")
        self._path, self._folder = path, folder
        self._images = images
        present = set(labels)
        self._labels = tuple(label for label in Label if label in present)
        self._per_epoch, self._seed, self._sha256 = per_epoch, seed, sha256
        _check_images(folder, images)

    @property
    def sha256(self) -> str:
        """Of the annotation file, which names the pixels, and of split and seed; 64 hex digits."""
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
            DataError: The picture or a mask of it is malformed.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        record = self._images[self._place(epoch, index)]
        image = read_image(self._folder / record.file_name, record)
        try:
            objects, static = self._layers(record)
        except MaskError as error:
            raise DataError(f"{self._path}, image {record.id}: {error}") from error
        return AmodalSample(
            image, objects, static, record.file_name, frame=record.frame, time=record.time, camera=record.camera
        )

    @abc.abstractmethod
    def _layers(self, record: ImageRecord) -> ObjectsAndStatic:
        """Objects nearest first, and static things with the number of objects before each; raises MaskError."""

    def _place(self, epoch: int, index: int) -> int:
        if self._per_epoch is None:
            return index
        lap, place = divmod(epoch * self._per_epoch + index, len(self._images))
        return _shuffled(self._seed, lap, len(self._images))[place]


@lru_cache(maxsize=8)
def _shuffled(seed: int, lap: int, count: int) -> tuple[int, ...]:
    """The order of `count` pictures in a lap."""
    order = list(range(count))
    Chance(seed, lap, 0, Purpose.FRAMES).shuffle(order)
    return tuple(order)


def read_file(path: Path, remedy: str) -> bytes:
    """The bytes of an annotation file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; {remedy}") from error


def image_sizes(path: Path, images: Iterable[ImageRecord]) -> dict[int, tuple[int, int]]:
    """(height, width) of each image id.

    Raises:
        DataError: An id stands twice, a size is none, or a name leads out of the pictures' folder.
    """
    sizes: dict[int, tuple[int, int]] = {}
    for image in images:
        if image.id in sizes:
            raise DataError(f"{path} names an image id twice: number the images anew")
        if not stays_below(image.file_name):
            raise DataError(f"{path}: {image.file_name} lies outside the pictures' folder: give names below it")
        if image.width < 1 or image.height < 1 or image.width * image.height > PIXELS_MAX:
            raise DataError(f"{path}: image {image.id} is {image.width}x{image.height}: correct its size")
        sizes[image.id] = image.height, image.width
    return sizes


def part_of(path: Path, images: Sequence[ImageRecord], split: Split) -> Sequence[ImageRecord]:
    """The first 80% to train, those after to judge.

    Raises:
        DataError: There are too few.
        UsageError: The split is none.
    """
    if split not in SPLITS:
        raise UsageError(f"split '{split}' is none of {', '.join(SPLITS)}")
    bound = len(images) * TRAINING_PERCENT // 100
    wanted = {"all": images, "train": images[:bound], "validation": images[bound:]}[split]
    if not wanted:
        raise DataError(f"{path} has {len(images)} frames, too few for split '{split}'")
    return wanted


def find_pictures(path: Path, images: Sequence[ImageRecord]) -> Path:
    """The folder that holds the pictures of an annotation file: its own, one in it, one beside it.

    Raises:
        DataError: None holds the first picture.
    """
    name = images[0].file_name
    for near in (path.parent, path.parent.parent):
        inside = sorted(folder for folder in near.iterdir() if folder.is_dir())
        for folder in (near, *inside):
            if (folder / name).is_file():
                return folder
    raise DataError(f"no folder in or beside {path.parent} holds {name}: put the pictures there")


def data_name(data: bytes, *facts: object) -> str:
    """A name for annotations and what is made of them, 64 hex digits."""
    return hashlib.sha256(data + " ".join(["", *map(str, facts)]).encode()).hexdigest()


def _check_images(folder: Path, images: Sequence[ImageRecord]) -> None:
    missing = [image.file_name for image in images if not (folder / image.file_name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{folder} lacks {missing[0]}{more}: write the data set again with its images")


def read_image(path: Path, record: ImageRecord) -> NDArray[np.uint8]:
    """Decodes a picture, (H, W, 3) uint8 BGR.

    Raises:
        DataError: It is none, or of another size than the record says.
    """
    image: NDArray[np.uint8] | None = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None or image.shape[:2] != (record.height, record.width):
        found = "no readable image" if image is None else f"{image.shape[1]}x{image.shape[0]}"
        raise DataError(f"{path} is {found}, expected {record.width}x{record.height}: write the data set again")
    return image
