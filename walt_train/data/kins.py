"""Reads KINS (Qi, Jiang, Liu, Shen, Jia, "Amodal Instance Segmentation With KINS Dataset", CVPR 2019).

A COCO-like file whose annotations have an amodal mask (`a_segm`) and the mask of what is seen (`i_segm`); an older
edition calls them `segmentation` and `inmodal_seg`. Its `oco_id` and `ico_id` name clusters of touching objects and
the objects in them, which is no order that its authors stand by: who is nearer is read from the masks.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import MaskError
from walt_train.data.depth import Region, order_by_sight, stack
from walt_train.data.pictures import (
    DataError,
    ImageRecord,
    ObjectsAndStatic,
    PictureSamples,
    data_name,
    find_pictures,
    image_sizes,
    part_of,
    read_file,
)
from walt_train.data.polygons import Segment, check_segment, segment_mask
from walt_train.data.sample import Split

LABEL_OF = {
    "cyclist": Label.PERSON,
    "pedestrian": Label.PERSON,
    "rider": Label.PERSON,
    "person": Label.PERSON,
    "person-sitting": Label.PERSON,
    "person_sitting": Label.PERSON,
    "car": Label.VEHICLE,
    "van": Label.VEHICLE,
    "truck": Label.VEHICLE,
    "bus": Label.VEHICLE,
    "tram": Label.VEHICLE,
}
"""Classes by the file's category names; any other (`misc`) only hides what is behind it."""


class Category(msgspec.Struct, frozen=True):
    """An entry of `categories`."""

    id: int
    name: str


class KinsAnnotation(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `annotations`, as far as layers need it.

    Attributes:
        id: Its number in the file.
        image_id: Which image it belongs to.
        category_id: One of the file's categories.
        a_segm: The amodal mask; `segmentation` where a file has none.
        i_segm: The visible mask; `inmodal_seg` where a file has none.
    """

    id: int
    image_id: int
    category_id: int
    a_segm: Segment | None = None
    i_segm: Segment | None = None
    segmentation: Segment | None = None
    inmodal_seg: Segment | None = None

    @property
    def amodal(self) -> Segment | None:
        """The full extent."""
        return self.segmentation if self.a_segm is None else self.a_segm

    @property
    def visible(self) -> Segment | None:
        """What is seen."""
        return self.inmodal_seg if self.i_segm is None else self.i_segm


class _File(msgspec.Struct, frozen=True):
    images: list[ImageRecord]
    annotations: list[KinsAnnotation]
    categories: list[Category]


class KinsSamples(PictureSamples):
    """The pictures of a KINS file.

    Of two objects that one is nearer which is seen where the other is hidden. What hides a part of an object though
    nothing annotated covers it becomes a static thing before it.

    Args:
        path: The JSON file; its pictures lie in its folder, in one in it, or in one beside it.
        split: `train`: the first 80% of the pictures by file name; `validation`: those after.
        per_epoch: As `PictureSamples`.
        seed: As `PictureSamples`.

    Raises:
        DataError: The file is missing or malformed, shows neither person nor vehicle, or a picture is missing.
        UsageError: A number is out of its range.
    """

    def __init__(self, path: Path, *, split: Split = "all", per_epoch: int | None = None, seed: int = 0) -> None:
        data = read_file(path, "give the path of a KINS annotation file")
        try:
            content = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is no KINS file: {error}") from error
        names = {category.id: category.name.strip().lower() for category in content.categories}
        self._objects = _by_image(path, content, names)
        self._label_of = {number: LABEL_OF.get(name) for number, name in names.items()}
        images = part_of(path, sorted(content.images, key=lambda image: (image.file_name, image.id)), split)
        found = {self._label_of[record.category_id] for record in content.annotations}
        labels = [label for label in found if label is not None]
        if not labels:
            raise DataError(f"{path} has no annotation of a person or a vehicle: nothing can be learned from it")
        super().__init__(
            path,
            find_pictures(path, images),
            images,
            labels=labels,
            per_epoch=per_epoch,
            seed=seed,
            sha256=data_name(data, "kins", split, per_epoch, seed),
        )

    def _layers(self, record: ImageRecord) -> ObjectsAndStatic:
        regions = [self._region(one, (record.height, record.width)) for one in self._objects.get(record.id, [])]
        return stack(regions, order_by_sight(regions))

    def _region(self, record: KinsAnnotation, size_hw: tuple[int, int]) -> Region:
        assert record.amodal is not None
        assert record.visible is not None
        try:
            amodal, visible = segment_mask(record.amodal, size_hw), segment_mask(record.visible, size_hw)
        except MaskError as error:
            raise MaskError(f"annotation {record.id}: {error}") from error
        return Region(self._label_of[record.category_id], amodal, visible & amodal, record.id)


def _by_image(path: Path, content: _File, names: dict[int, str]) -> dict[int, list[KinsAnnotation]]:
    sizes = image_sizes(path, content.images)
    groups: dict[int, list[KinsAnnotation]] = {}
    seen: set[int] = set()
    for record in content.annotations:
        if record.id in seen:
            raise DataError(f"{path} names annotation id {record.id} twice: number the annotations anew")
        seen.add(record.id)
        _check(path, record, sizes, names)
        groups.setdefault(record.image_id, []).append(record)
    return groups


def _check(path: Path, record: KinsAnnotation, sizes: dict[int, tuple[int, int]], names: dict[int, str]) -> None:
    where = f"{path}, annotation {record.id}"
    if record.image_id not in sizes:
        raise DataError(f"{where}: there is no image {record.image_id}: remove it, or add the image")
    if record.category_id not in names:
        raise DataError(f"{where}: there is no category {record.category_id}: add it to `categories`")
    for kind, segment in (("a_segm", record.amodal), ("i_segm", record.visible)):
        if segment is None:
            raise DataError(f"{where} has no {kind}: take KINS' own annotations, which have both masks")
        if kind == "i_segm" and segment == []:
            continue  # hidden altogether
        try:
            check_segment(segment, sizes[record.image_id])
        except MaskError as error:
            raise DataError(f"{where}, {kind}: {error}") from error
