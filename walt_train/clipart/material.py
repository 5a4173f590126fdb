"""Clip art as compositing needs it: decoded once, trimmed, with soft edges, grouped by physical object.

Everything here is integer arithmetic on decoded pixels, and the hash is of decoded pixels, so that two machines whose
decoders differ by a grey level notice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.clipart import FILE_NAME, Clip, ClipArt, ClipArtError, Plate, read_clipart
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import Mask, MaskError, Rle, decode_rle
from walt_edge.contract.messages import CropHeader
from walt_train.clipart.height import HeightLine, fit_height_line
from walt_train.clipart.objects import physical_objects
from walt_train.clipart.plates import fill_unknown, trusted
from walt_train.clipart.when import believed_times

ALPHA_HALF = 128
"""A pixel belongs to a mask from this alpha on."""
_POOL_OBJECTS_MIN = 24
_RAMP = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32)

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """One object's pixels.

    Attributes:
        image_bgr: (h, w, 3) uint8, with a pixel of context around the mask.
        alpha: (h, w) uint8; 128 and more inside the mask, less outside.
        box_xyxy: Of the mask in the frame, half-open pixels.
        xy: Top left corner of the image in the frame; may be -1, where the context leaves the frame.
        label: Its class.
        object_id: The physical object, numbered from 1 by the time it was first seen.
        plate_id: The plate it was seen before.
        hour: UTC hour it was seen at.
        seen_us: When it was seen, microseconds since 1970, as `believed_times` has it.
    """

    image_bgr: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    box_xyxy: Box
    xy: tuple[int, int]
    label: Label
    object_id: int
    plate_id: str
    hour: int
    seen_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """A plate without holes.

    Attributes:
        image_bgr: (H, W, 3) uint8.
        plate_id: Its id.
        hour: UTC hour that it stands for.
        utc_us: When it was finished.
    """

    image_bgr: NDArray[np.uint8]
    plate_id: str
    hour: int
    utc_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Some of the cutouts, grouped to draw from.

    Attributes:
        places: (N,) places in the material's cutouts.
        objects: Places of each physical object.
        by_label: `objects` of each class that occurs.
    """

    places: NDArray[np.intp]
    objects: list[list[int]]
    by_label: list[list[list[int]]]


@dataclass(frozen=True, eq=False)
class Material:
    """All that composites of one camera are made of.

    Attributes:
        camera: The camera's name.
        frame_wh: Size of its frames, pixels.
        cutouts: Objects seen whole, in the order of the clip art.
        backdrops: Plates, in the order of the clip art.
    """

    camera: str
    frame_wh: tuple[int, int]
    cutouts: tuple[Cutout, ...]
    backdrops: tuple[Backdrop, ...]

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        """The classes that occur, in the contract's order."""
        present = {cutout.label for cutout in self.cutouts}
        return tuple(label for label in Label if label in present)

    @cached_property
    def everything(self) -> Pool:
        """All cutouts."""
        return self._pool(range(len(self.cutouts)))

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """For each backdrop the cutouts seen within an hour of its time of day, or more where those are few."""
        return tuple(self._matching(backdrop.hour) for backdrop in self.backdrops)

    def _matching(self, hour: int) -> Pool:
        for reach in range(1, 12):
            near = [place for place, cutout in enumerate(self.cutouts) if hours_apart(cutout.hour, hour) <= reach]
            pool = self._pool(near)
            if len(pool.objects) >= _POOL_OBJECTS_MIN:
                return pool
        return self.everything

    def _pool(self, places: Iterable[int]) -> Pool:
        groups: dict[int, list[int]] = {}
        for place in places:
            groups.setdefault(self.cutouts[place].object_id, []).append(place)
        objects = [groups[object_id] for object_id in sorted(groups)]
        by_label = [[group for group in objects if self.cutouts[group[0]].label is label] for label in self.labels]
        chosen = np.array([place for group in objects for place in group], dtype=np.intp)
        return Pool(chosen, objects, [group for group in by_label if group])

    @cached_property
    def boxes_xyxy(self) -> NDArray[np.int32]:
        """(N, 4) boxes of the cutouts."""
        return np.array([cutout.box_xyxy for cutout in self.cutouts], dtype=np.int32).reshape(-1, 4)

    @cached_property
    def height_lines(self) -> dict[Label, HeightLine]:
        """Per class, how tall an object is where it stands; only where enough of them were seen."""
        lines = {}
        for label in self.labels:
            groups = [group for group in self.everything.objects if self.cutouts[group[0]].label is label]
            tall = [_middle([self.cutouts[place].box_xyxy for place in group]) for group in groups]
            line = fit_height_line(tall)
            if line is not None:
                lines[label] = line
        return lines

    @cached_property
    def sha256(self) -> str:
        """Names the decoded pixels, masks, positions and classes, 64 hex digits."""
        digest = hashlib.sha256(repr((self.camera, self.frame_wh)).encode())
        for cutout in self.cutouts:
            facts = (cutout.xy, cutout.box_xyxy, int(cutout.label), cutout.object_id, cutout.plate_id, cutout.hour)
            digest.update(repr((facts, cutout.alpha.shape)).encode())
            digest.update(cutout.image_bgr.tobytes())
            digest.update(cutout.alpha.tobytes())
        for backdrop in self.backdrops:
            digest.update(repr((backdrop.plate_id, backdrop.hour)).encode())
            digest.update(backdrop.image_bgr.tobytes())
        return digest.hexdigest()

    def only(self, wanted: Callable[[Cutout], bool]) -> Material:
        """The same camera with these cutouts alone."""
        return Material(self.camera, self.frame_wh, tuple(filter(wanted, self.cutouts)), self.backdrops)


def _middle(boxes: list[Box]) -> tuple[int, int]:
    """Ground row and height of an object in its middle appearance, so that each object counts once."""
    _, top, _, bottom = sorted(boxes, key=lambda box: (box[3], box[1]))[len(boxes) // 2]
    return bottom, bottom - top


def load_material(folder: Path) -> Material:
    """Decodes a clip-art folder; what is marked as holdout stays out.

    Raises:
        ClipArtError: The folder is missing, malformed or empty, or an image of it is bad.
    """
    clipart = read_clipart(folder)
    clips = [clip for clip in clipart.clips if not clip.header.holdout]
    remedy = f"mine more with walt-edge mine --out {folder}"
    if not clips:
        kept_out = f", {len(clipart.clips)} of them holdout" if clipart.clips else ""
        raise ClipArtError(
            f"{folder / FILE_NAME} has {len(clipart.clips)} clips{kept_out}, none to train on: {remedy}"
        )
    if not clipart.plates:
        raise ClipArtError(f"{folder / FILE_NAME} has no plate to paste over: {remedy} from a longer recording")
    seen_us = believed_times([clip.header for clip in clips])
    object_ids = physical_objects([clip.header for clip in clips], seen_us)
    cutouts = tuple(_cutout(folder, clipart, *facts) for facts in zip(clips, object_ids, seen_us, strict=True))
    return Material(clipart.camera, clipart.frame_wh, cutouts, tuple(_backdrops(folder, clipart)))


def _cutout(folder: Path, clipart: ClipArt, clip: Clip, object_id: int, seen_us: int) -> Cutout:
    header, path = clip.header, folder / clip.image
    image = _read_image(path)
    mask = _read_mask(header.mask, image, path)
    _check_inside(header, mask, clipart.frame_wh, path)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    left, top = header.crop_xy
    # The ramp needs a pixel of context; where the crop ends before, its border pixel is repeated.
    padded = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)[y0 : y1 + 2, x0 : x1 + 2]
    inside = np.pad(mask[y0:y1, x0:x1], 1)
    return Cutout(
        image_bgr=np.ascontiguousarray(padded),
        alpha=soft_edge(inside),
        box_xyxy=(left + x0, top + y0, left + x1, top + y1),
        xy=(left + x0 - 1, top + y0 - 1),
        label=header.label,
        object_id=object_id,
        plate_id=header.plate,
        hour=_hour(header.captured.utc_us),
        seen_us=seen_us,
    )


def soft_edge(mask: Mask) -> NDArray[np.uint8]:
    """Alpha with a ramp of one pixel to either side: at least 128 exactly where the mask is."""
    # Sums of small whole numbers are exact in float32, and the filter only adds.
    weight = cv2.filter2D(mask.astype(np.float32), cv2.CV_32F, _RAMP, borderType=cv2.BORDER_CONSTANT).astype(np.int32)
    inside = np.maximum(weight * 16, ALPHA_HALF)
    outside = np.minimum(weight * 16, ALPHA_HALF - 16)
    alpha: NDArray[np.uint8] = np.minimum(np.where(mask, inside, outside), 255).astype(np.uint8)
    return alpha


def _newest(plates: Iterable[Plate]) -> list[Plate]:
    """The newest plate of every boot and hour, in the order of the clip art.

    A device sends another one when somebody or something has left the place: what stands in the older one would be
    taught as background.
    """
    newest: dict[tuple[str, int], Plate] = {}
    for plate in plates:
        key = plate.header.captured.boot_id, plate.header.hour
        if key not in newest or plate.header.captured.monotonic_ns >= newest[key].header.captured.monotonic_ns:
            newest.pop(key, None)
            newest[key] = plate
    return list(newest.values())


def _backdrops(folder: Path, clipart: ClipArt) -> Iterable[Backdrop]:
    plates = _newest(clipart.plates)
    read = [_read_plate(folder / plate.image, plate, clipart.frame_wh) for plate in plates]
    images, known = [image for image, _ in read], [mask for _, mask in read]
    if not any(mask.any() for mask in known):
        raise ClipArtError(f"no plate in {folder} knows any pixel: mine a longer recording")
    hours = [plate.header.hour for plate in plates]
    for place, plate in enumerate(plates):
        nearest = sorted(
            range(len(read)), key=lambda other: (hours_apart(hours[place], hours[other]), other != place)
        )
        filled = fill_unknown([images[other] for other in nearest], [known[other] for other in nearest])
        yield Backdrop(filled, plate.id, plate.header.hour, plate.header.captured.utc_us)


def hours_apart(one: int, other: int) -> int:
    """Hours between two hours of the day, 0..12."""
    ahead = (one - other) % 24
    return min(ahead, 24 - ahead)


def _hour(utc_us: int) -> int:
    return utc_us // 3_600_000_000 % 24


def _read_image(path: Path) -> NDArray[np.uint8]:
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    image: NDArray[np.uint8] | None = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ClipArtError(f"{path} is no readable image: mine again, or export the clip art again")
    return image


def _read_mask(rle: Rle, image: NDArray[np.uint8], path: Path) -> Mask:
    if rle.size != image.shape[:2]:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise ClipArtError(f"{path} is {size}, its mask {rle.size[1]}x{rle.size[0]}: export the clip art again")
    try:
        return decode_rle(rle)
    except MaskError as error:
        raise ClipArtError(f"the mask of {path} is malformed ({error}): export the clip art again") from error


def _check_inside(header: CropHeader, mask: Mask, frame_wh: tuple[int, int], path: Path) -> None:
    if not mask.any():
        raise ClipArtError(f"the mask of {path} is empty: export the clip art again")
    right, bottom = header.crop_xy[0] + mask.shape[1], header.crop_xy[1] + mask.shape[0]
    if right > frame_wh[0] or bottom > frame_wh[1]:
        raise ClipArtError(
            f"{path} reaches to {right}, {bottom} of a frame of {frame_wh[0]}x{frame_wh[1]}: mine again"
        )


def _read_plate(path: Path, plate: Plate, frame_wh: tuple[int, int]) -> tuple[NDArray[np.uint8], Mask]:
    image = _read_image(path)
    if image.shape[1::-1] != tuple(frame_wh):
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise ClipArtError(f"plate {path} is {size}, the frames {frame_wh[0]}x{frame_wh[1]}: mine again")
    return image, trusted(_read_mask(plate.header.known, image, path))
