"""What synthetic occlusion is made of: clip art over its plates, or COCO instances over their pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import MaskError, PatchMask
from walt_train.clipart.chance import Chance
from walt_train.clipart.pieces import soft_edge
from walt_train.data.composites import CompositeSamples
from walt_train.data.kins import LABEL_OF, Category
from walt_train.data.pictures import (
    DataError,
    ImageRecord,
    data_name,
    find_pictures,
    image_sizes,
    part_of,
    read_file,
    read_image,
)
from walt_train.data.polygons import Segment, check_segment, segment_mask
from walt_train.data.sample import AmodalObject, Split

PIECE_MIN_PX = 1024
"""Smaller instances are not cut out."""
_DECODED = 16


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A cut-out: (h, w, 3) uint8 BGR, (h, w) uint8 alpha, 128 and more inside its mask."""

    image_bgr: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    label: Label
    object_id: int


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture to paste over, and the objects it shows, taken as whole and side by side."""

    image_bgr: NDArray[np.uint8]
    objects: tuple[AmodalObject, ...] = ()
    camera: str = ""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height."""
        return self.image_bgr.shape[1], self.image_bgr.shape[0]


class Stock(ABC):
    """Scenes and pieces to draw from."""

    sha256: str
    labels: Sequence[Label]

    @property
    @abstractmethod
    def frame_wh(self) -> tuple[int, int]:
        """Size of the pictures; raises DataError where they have several."""

    @abstractmethod
    def scene(self, chance: Chance) -> Scene:
        """One of the pictures, each equally likely."""

    @abstractmethod
    def piece(self, chance: Chance) -> Piece:
        """One of the cut-outs, each equally likely."""


class ClipArtStock(Stock):
    """Clip art of one camera, split by physical object and time.

    Raises:
        ClipArtError: The folder is missing, malformed or not enough for the split.
        UsageError: The split is none.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self._material = CompositeSamples(folder, split=split, per_epoch=1, seed=0).material
        self.sha256, self.labels = self._material.sha256, self._material.labels

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Size of the camera's frames."""
        return self._material.frame_wh

    def scene(self, chance: Chance) -> Scene:
        """An empty plate."""
        return Scene(chance.pick(self._material.backdrops).image_bgr, camera=self._material.camera)

    def piece(self, chance: Chance) -> Piece:
        """A clip."""
        cutout = chance.pick(self._material.cutouts)
        return Piece(cutout.image_bgr, cutout.alpha, cutout.label, cutout.object_id)


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `annotations` in a COCO instance file; `segmentation` is what is seen of it."""

    id: int
    image_id: int
    category_id: int
    segmentation: Segment
    iscrowd: int = 0


class _File(msgspec.Struct, frozen=True):
    images: list[ImageRecord]
    annotations: list[Instance]
    categories: list[Category]


class InstanceStock(Stock):
    """A COCO instance file: every person and vehicle in it is taken as whole.

    Pictures with a crowd of them are left out, for nobody counted it. What a picture's border cuts is pasted over,
    but not cut out. Of the pictures, the first 80% by file name train.

    Raises:
        DataError: The file is missing or malformed, or has nothing to cut out.
        UsageError: The split is none.
    """

    def __init__(self, path: Path, split: Split) -> None:
        data = read_file(path, "give a COCO instance file, or a folder of clip art")
        try:
            content = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is no COCO instance file: {error}") from error
        self._path = path
        self._label_of = {one.id: LABEL_OF.get(one.name.strip().lower()) for one in content.categories}
        _check(path, content)
        known = [one for one in content.annotations if self._label_of.get(one.category_id) is not None]
        crowded = {one.image_id for one in known if one.iscrowd}
        images = sorted(content.images, key=lambda image: (image.file_name, image.id))
        self._images = part_of(path, [image for image in images if image.id not in crowded], split)
        self._folder = find_pictures(path, self._images)
        chosen = {image.id: image for image in self._images}
        self._instances = [(chosen[one.image_id], one) for one in known if one.image_id in chosen]
        self._cut = [pair for pair in self._instances if self._can_be_cut(*pair)]
        if not self._cut:
            raise DataError(
                f"{path} has no whole person or vehicle of {PIECE_MIN_PX} pixels in split '{split}': nothing to paste"
            )
        present = {self._label_of[one.category_id] for _, one in self._instances}
        self.labels = tuple(label for label in Label if label in present)
        self.sha256 = data_name(data, split)

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Size of the pictures.

        Raises:
            DataError: They have different sizes.
        """
        sizes = sorted({(image.width, image.height) for image in self._images})
        if len(sizes) > 1:
            raise DataError(f"{self._path} has pictures of {len(sizes)} sizes, a fixed camera's frames have one")
        return sizes[0]

    def scene(self, chance: Chance) -> Scene:
        """A picture with its own objects."""
        image = chance.pick(self._images)
        masks = [(one, self._mask(image, one)) for owner, one in self._instances if owner.id == image.id]
        objects = [
            AmodalObject(label, mask, one.id)
            for one, mask in masks
            if mask.area and (label := self._label_of[one.category_id]) is not None
        ]
        return Scene(self._read(image), tuple(objects), image.camera)

    def piece(self, chance: Chance) -> Piece:
        """An instance that no border cuts, with a pixel of its surroundings."""
        image, one = chance.pick(self._cut)
        mask = self._mask(image, one)
        x0, y0, x1, y1 = mask.box_xyxy
        label = self._label_of[one.category_id]
        assert label is not None
        pixels = self._read(image)[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1]
        return Piece(pixels, soft_edge(np.pad(mask.mask, 1)), label, one.id)

    def _can_be_cut(self, image: ImageRecord, one: Instance) -> bool:
        mask = self._mask(image, one)
        x0, y0, x1, y1 = mask.box_xyxy
        inside = x0 > 0 and y0 > 0 and x1 < image.width and y1 < image.height
        return inside and mask.area >= PIECE_MIN_PX

    def _mask(self, image: ImageRecord, one: Instance) -> PatchMask:
        try:
            return PatchMask.from_full(segment_mask(one.segmentation, (image.height, image.width)))
        except MaskError as error:
            raise DataError(f"{self._path}, annotation {one.id}: {error}") from error

    def _read(self, image: ImageRecord) -> NDArray[np.uint8]:
        return _decoded(self._folder / image.file_name, image)


@lru_cache(maxsize=_DECODED)
def _decoded(path: Path, image: ImageRecord) -> NDArray[np.uint8]:
    pixels = read_image(path, image)
    pixels.flags.writeable = False
    return pixels


def _check(path: Path, content: _File) -> None:
    sizes = image_sizes(path, content.images)
    ids: set[int] = set()
    for one in content.annotations:
        if one.id in ids:
            raise DataError(f"{path} names annotation id {one.id} twice: number the annotations anew")
        ids.add(one.id)
        if one.image_id not in sizes:
            raise DataError(f"{path}, annotation {one.id}: there is no image {one.image_id}: remove it")
        try:
            check_segment(one.segmentation, sizes[one.image_id])
        except MaskError as error:
            raise DataError(f"{path}, annotation {one.id}: {error}") from error
