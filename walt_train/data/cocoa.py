"""Reads COCOA (Zhu, Tian, Metaxas, Dollár, "Semantic Amodal Segmentation", CVPR 2017).

One annotation an image, with `regions` outlined as wholes and named freely, and a `depth_constraint` such as
"1-2,1-3": region 1 lies before the regions 2 and 3. Regions count from 1, in their order from the nearest.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from walt_edge.contract.labels import Label
from walt_edge.contract.masks import MaskError
from walt_train.data.depth import CyclicOrderError, Region, nearest_first, stack
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
from walt_train.data.polygons import RunLengths, Segment, check_segment, segment_mask
from walt_train.data.sample import Split

_PERSON = (
    "person people man men woman women boy girl child children kid baby lady ladies guy gentleman pedestrian player "
    "batter catcher umpire pitcher skier snowboarder surfer skateboarder rider cyclist biker driver policeman"
)
_VEHICLE = "car truck bus buses van taxi cab suv pickup lorry lorries tram minivan jeep ambulance"
WORDS = {Label.PERSON: frozenset(_PERSON.split()), Label.VEHICLE: frozenset(_VEHICLE.split())}
"""A region is what the last word of its name says, without a plural's s; any other name only hides."""

_PAIR = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*")
_REGIONS = 10_000
"""Region k of image i is object i * 10,000 + k."""


class CocoaRegion(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `regions`, as far as layers need it.

    Attributes:
        segmentation: The amodal mask.
        name: What it is, in the annotator's words.
        order: 1 is nearest; the place in the list where a file has none.
        is_stuff: Whether it is sky, ground or the like rather than a thing.
        visible_mask: What is seen, where that is less than the amodal mask.
        invisible_mask: What is hidden; read where there is no `visible_mask`.
    """

    segmentation: Segment
    name: str = ""
    order: float | None = None
    is_stuff: bool | int = msgspec.field(name="isStuff", default=False)
    visible_mask: RunLengths | None = None
    invisible_mask: RunLengths | None = None

    @property
    def label(self) -> Label | None:
        """Person or vehicle; None for anything else, and for stuff."""
        words = re.findall(r"[a-z]+", self.name.lower())
        if self.is_stuff or not words:
            return None
        for label, known in WORDS.items():
            if words[-1] in known or words[-1].removesuffix("s") in known:
                return label
        return None


class CocoaAnnotation(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `annotations`: all regions of an image."""

    image_id: int
    regions: list[CocoaRegion]
    depth_constraint: str = ""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Places in `regions`, (near, far).

        Raises:
            ValueError: The text is malformed or names a region that is not there.
        """
        pairs = []
        for part in filter(str.strip, self.depth_constraint.split(",")):
            match = _PAIR.fullmatch(part)
            near, far = (int(number) for number in match.groups()) if match else (0, 0)
            if not (1 <= near <= len(self.regions) and 1 <= far <= len(self.regions)):
                raise ValueError(f"constraint '{part}' is not NEAR-FAR of regions 1 to {len(self.regions)}")
            pairs.append((near - 1, far - 1))
        return pairs

    @property
    def order(self) -> list[int]:
        """Places in `regions`, nearest first.

        Raises:
            CyclicOrderError: The constraints contradict one another.
            ValueError: They are malformed.
        """
        orders = [
            float(place if region.order is None else region.order)
            for place, region in enumerate(self.regions, start=1)
        ]
        return nearest_first(len(self.regions), self.pairs, orders)


class _File(msgspec.Struct, frozen=True):
    images: list[ImageRecord]
    annotations: list[CocoaAnnotation]


class CocoaSamples(PictureSamples):
    """The pictures of a COCOA file.

    Regions that are neither person nor vehicle hide what is behind them where a constraint puts them before
    something, stuff too; all others are left out. So is the rest of a picture that nobody outlined.

    Args:
        path: The JSON file; its pictures lie in its folder, in one in it, or in one beside it.
        split: `train`: the first 80% of the pictures by file name; `validation`: those after.
        per_epoch: As `PictureSamples`.
        seed: As `PictureSamples`.

    Raises:
        DataError: The file is missing or malformed, its constraints form a ring, it shows neither person nor vehicle,
            or a picture is missing.
        UsageError: A number is out of its range.
    """

    def __init__(self, path: Path, *, split: Split = "all", per_epoch: int | None = None, seed: int = 0) -> None:
        data = read_file(path, "give the path of a COCOA annotation file")
        try:
            content = msgspec.json.decode(data, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is no COCOA file: {error}") from error
        self._annotations = _by_image(path, content)
        images = sorted(content.images, key=lambda image: (image.file_name, image.id))
        images = list(part_of(path, [image for image in images if image.id in self._annotations], split))
        labels = {region.label for one in content.annotations for region in one.regions} - {None}
        if not labels:
            raise DataError(f"{path} names no person and no vehicle: nothing can be learned from it")
        super().__init__(
            path,
            find_pictures(path, images),
            images,
            labels=[label for label in labels if label is not None],
            per_epoch=per_epoch,
            seed=seed,
            sha256=data_name(data, "cocoa", split, per_epoch, seed),
        )

    def _layers(self, record: ImageRecord) -> ObjectsAndStatic:
        annotation = self._annotations[record.id]
        before = {near for near, _ in annotation.pairs}
        order = [
            place for place in annotation.order if annotation.regions[place].label is not None or place in before
        ]
        size_hw = record.height, record.width
        regions = [_region(annotation.regions[place], record.id * _REGIONS + place + 1, size_hw) for place in order]
        return stack(regions, range(len(regions)))


def _region(region: CocoaRegion, track_id: int, size_hw: tuple[int, int]) -> Region:
    try:
        amodal = segment_mask(region.segmentation, size_hw)
        visible = amodal
        if region.visible_mask is not None:
            visible = amodal & segment_mask(region.visible_mask, size_hw)
        elif region.invisible_mask is not None:
            visible = amodal & ~segment_mask(region.invisible_mask, size_hw)
    except MaskError as error:
        raise MaskError(f"region {track_id % _REGIONS} ({region.name}): {error}") from error
    return Region(region.label, amodal, visible, track_id)


def _by_image(path: Path, content: _File) -> dict[int, CocoaAnnotation]:
    sizes = image_sizes(path, content.images)
    names = {image.id: image.file_name for image in content.images}
    found: dict[int, CocoaAnnotation] = {}
    for annotation in content.annotations:
        if annotation.image_id not in sizes:
            raise DataError(f"{path}: there is no image {annotation.image_id}: remove its regions, or add the image")
        where = f"{path}, {names[annotation.image_id]}"
        if annotation.image_id in found:
            raise DataError(f"{where} is annotated twice: keep one annotator's regions")
        _check(where, annotation, sizes[annotation.image_id])
        found[annotation.image_id] = annotation
    return found


def _check(where: str, annotation: CocoaAnnotation, size_hw: tuple[int, int]) -> None:
    for number, region in enumerate(annotation.regions, start=1):
        for segment in (region.segmentation, region.visible_mask, region.invisible_mask):
            try:
                if segment is not None:
                    check_segment(segment, size_hw)
            except MaskError as error:
                raise DataError(f"{where}, region {number}: {error}") from error
    try:
        _ = annotation.order
    except CyclicOrderError as error:
        told = f"regions {', '.join(str(place + 1) for place in error.places)} lie before one another in a ring"
        raise DataError(f"{where}: {told}: remove a constraint, or the image") from error
    except ValueError as error:
        raise DataError(f"{where}: {error}: correct it") from error
