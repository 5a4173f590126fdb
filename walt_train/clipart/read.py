"""A clip-art folder, decoded and checked.

What a manifest says is not believed: sizes, masks and points are checked against the decoded images, and whatever
does not fit is told with the file's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.clipart import Clip, ClipArt, ClipArtError, Plate
from walt_edge.contract.masks import Mask, MaskError, PatchMask, Rle, decode_rle
from walt_edge.contract.messages import CropHeader
from walt_train.clipart.light import Light, LightMap, light_maps, own_light
from walt_train.clipart.pieces import POINT_ONE, Backdrop, Cutout, Points, Post, soft_edge
from walt_train.clipart.plates import fill_unknown, trusted

_LATEST_US = 253_402_300_799_000_000
"""The end of the year 9999: no calendar goes further."""
MASK_MIN_PX = 16
"""A smaller mask shows no object."""
_HOUR_US = 3_600_000_000
_AGAIN = "export the clip art again"


@dataclass(frozen=True, slots=True, eq=False)
class PlateView:
    """A plate as it was read.

    Attributes:
        plate: Its record.
        image_bgr: (H, W, 3) uint8, unknown pixels filled.
        known: (H, W) bool, where it can be trusted.
        guessed: (H, W) bool, pixels that no plate of the camera knows.
        light: Its light.
    """

    plate: Plate
    image_bgr: NDArray[np.uint8]
    known: Mask
    guessed: Mask
    light: LightMap


def read_plates(folder: Path, clipart: ClipArt) -> list[PlateView]:
    """Every plate, unknown pixels filled from those that serve as backdrops, then from older ones.

    Raises:
        ClipArtError: An image or a mask is malformed, or no plate knows any pixel.
    """
    plates, current = clipart.plates, {id(plate) for plate in newest(clipart.plates)}
    images, known = [], []
    for plate in plates:
        if plate.header.captured.utc_us > _LATEST_US:
            raise ClipArtError(f"plate {folder / plate.image} is of a time after the year 9999: mine again")
        images.append(_plate_image(folder / plate.image, clipart.frame_wh))
        known.append(trusted(read_mask(plate.header.known, images[-1], folder / plate.image)))
    if not any(mask.any() for mask in known):
        raise ClipArtError(f"no plate in {folder} knows any pixel: mine a longer recording")
    filled = []
    for place, plate in enumerate(plates):
        sources = sorted(
            range(len(plates)),
            key=lambda other: (  # of the loop's plate, at once
                # An older one may show what has left since: it serves where all others know nothing.
                other != place and id(plates[other]) not in current,
                hours_apart(plate.header.hour, plates[other].header.hour),
                other != place,
                plates[other].source == "frame",
            ),
        )
        filled.append(fill_unknown([images[other] for other in sources], [known[other] for other in sources]))
    images, guessed = [image for image, _ in filled], [mask for _, mask in filled]
    return [PlateView(*facts) for facts in zip(plates, images, known, guessed, light_maps(images), strict=True)]


def newest(plates: Iterable[Plate]) -> list[Plate]:
    """Of every boot and hour the newest median plate, and all frames, in the order of the clip art.

    A device sends another one when somebody or something has left the place: what stands in the older one would be
    taught as background.
    """
    chosen: dict[tuple[str, int, str], Plate] = {}
    for plate in plates:
        captured = plate.header.captured
        key = captured.boot_id, plate.header.hour, plate.id if plate.source == "frame" else ""
        if key not in chosen or captured.monotonic_ns >= chosen[key].header.captured.monotonic_ns:
            chosen.pop(key, None)
            chosen[key] = plate
    return list(chosen.values())


def backdrops(views: Sequence[PlateView]) -> Iterable[Backdrop]:
    """The plates to paste over."""
    current = {id(plate) for plate in newest(view.plate for view in views)}
    for view in views:
        if id(view.plate) in current:
            header = view.plate.header
            yield Backdrop(
                view.image_bgr,
                view.plate.id,
                header.hour,
                header.captured.utc_us,
                view.light,
                view.plate.source,
                np.flatnonzero(view.guessed),
            )


def read_cutout(folder: Path, clip: Clip, object_id: int, seen_us: int, views: Sequence[PlateView]) -> Cutout:
    """Decodes a clip and trims it to its mask.

    Raises:
        ClipArtError: Its image, mask or points are malformed.
    """
    header, path = clip.header, folder / clip.image
    image = _read_image(path)
    mask = read_mask(header.mask, image, path)
    frame_wh = views[0].image_bgr.shape[1], views[0].image_bgr.shape[0]
    check_inside(header, mask, frame_wh, path)
    tight = PatchMask.from_full(mask)
    x0, y0, x1, y1 = tight.box_xyxy
    left, top = header.crop_xy
    # The ramp needs a pixel of context; where the crop ends before, its border pixel is repeated.
    padded = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)[y0 : y1 + 2, x0 : x1 + 2]
    keypoints, seen = _keypoints(clip, frame_wh, path)
    return Cutout(
        image_bgr=np.ascontiguousarray(padded),
        alpha=soft_edge(np.pad(tight.mask, 1)),
        box_xyxy=(left + x0, top + y0, left + x1, top + y1),
        xy=(left + x0 - 1, top + y0 - 1),
        label=header.label,
        object_id=object_id,
        plate_id=header.plate,
        hour=hour_of(header.captured.utc_us),
        seen_us=seen_us,
        light=_light(header, image, mask, (left + x0, top + y0, left + x1, top + y1), views),
        confidence=clip.confidence,
        keypoints=keypoints,
        seen=seen,
        cuboid=None if clip.cuboid is None else _points(clip.cuboid.corners_xy, "3D box", path),
        crop=clip.crop,
    )


def read_posts(folder: Path, clipart: ClipArt) -> tuple[Post, ...]:
    """The static things.

    Raises:
        ClipArtError: A mask is malformed, empty, or not of the frame's size.
    """
    return tuple(_post(folder, clipart, place) for place in range(len(clipart.static)))


def _post(folder: Path, clipart: ClipArt, place: int) -> Post:
    thing, what = clipart.static[place], f"static thing {place} in {folder}"
    (width, height), (rows, columns) = clipart.frame_wh, thing.mask.size
    if (rows, columns) != (height, width):
        raise ClipArtError(f"{what} has a mask of {columns}x{rows}, the frames are {width}x{height}: mine again")
    if not 0 <= thing.ground_y <= height:
        raise ClipArtError(f"{what} stands on row {thing.ground_y:g} of a frame with {height} rows: mine again")
    try:
        mask = PatchMask.from_full(decode_rle(thing.mask))
    except MaskError as error:
        raise ClipArtError(f"the mask of {what} is malformed ({error}): mine again") from error
    if mask.mask.size == 0:
        raise ClipArtError(f"the mask of {what} is empty: mine again")
    return Post(mask, soft_edge(np.pad(mask.mask, 1)), thing.ground_y if thing.ground_y < height else math.inf)


def _light(
    header: CropHeader,
    image: NDArray[np.uint8],
    mask: Mask,
    box: tuple[int, int, int, int],
    views: Sequence[PlateView],
) -> Light:
    """From its own plate, or where that is gone from the one nearest in time."""
    hour = hour_of(header.captured.utc_us)
    view = min(
        views,
        key=lambda view: (
            view.plate.id != header.plate,
            hours_apart(hour, view.plate.header.hour),
            abs(view.plate.header.captured.utc_us - header.captured.utc_us),
        ),
    )
    left, top = header.crop_xy
    rows, columns = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
    return own_light(view.light.at(box), image, mask, view.image_bgr[rows, columns], view.known[rows, columns])


def _keypoints(
    clip: Clip, frame_wh: tuple[int, int], path: Path
) -> tuple[Points, NDArray[np.int64]] | tuple[None, None]:
    """Points, and whether they can be seen; what is not labelled lies anywhere."""
    if clip.keypoints is None:
        return None, None
    seen = np.array([visibility for *_, visibility in clip.keypoints], dtype=np.int64)
    points = _points([(x, y) for x, y, _ in clip.keypoints], "keypoints", path)
    odd = (seen < 0) | (seen > 2)
    if odd.any():
        raise ClipArtError(f"a keypoint of {path} has visibility {seen[odd][0]}, it is 0, 1 or 2: {_AGAIN}")
    outside = ((points < 0) | (points > POINT_ONE * np.array(frame_wh))).any(axis=1) & (seen > 0)
    if outside.any():
        x, y = points[outside][0] / POINT_ONE
        size = f"{frame_wh[0]}x{frame_wh[1]}"
        raise ClipArtError(f"a keypoint of {path} lies at {x:g}, {y:g}, outside the frame of {size}: {_AGAIN}")
    return points, seen


def _points(points_xy: Sequence[tuple[float, float]], what: str, path: Path) -> Points:
    """(K, 2) in 1/256 pixel."""
    points = np.array(points_xy, dtype=np.float64).reshape(-1, 2)
    if not (np.abs(points) < 1 << 20).all():
        raise ClipArtError(f"the {what} of {path} has a coordinate that is no place in a picture: {_AGAIN}")
    return np.rint(points * POINT_ONE).astype(np.int64)


def hours_apart(one: int, other: int) -> int:
    """Hours between two hours of the day, 0..12."""
    ahead = (one - other) % 24
    return min(ahead, 24 - ahead)


def hour_of(utc_us: int) -> int:
    """Hour of the day in UTC, 0..23."""
    return utc_us // _HOUR_US % 24


def _read_image(path: Path) -> NDArray[np.uint8]:
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    image: NDArray[np.uint8] | None = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ClipArtError(f"{path} is no readable image: mine again, or {_AGAIN}")
    return image


def read_mask(rle: Rle, image: NDArray[np.uint8], path: Path) -> Mask:
    """Decodes a mask of the image's size.

    Raises:
        ClipArtError: It has another, or is malformed.
    """
    if rle.size != image.shape[:2]:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise ClipArtError(f"{path} is {size}, its mask {rle.size[1]}x{rle.size[0]}: {_AGAIN}")
    try:
        return decode_rle(rle)
    except MaskError as error:
        raise ClipArtError(f"the mask of {path} is malformed ({error}): {_AGAIN}") from error


def check_inside(header: CropHeader, mask: Mask, frame_wh: tuple[int, int], path: Path) -> None:
    """Raises ClipArtError for a crop that shows too little, or reaches out of its frame."""
    area = int(np.count_nonzero(mask))
    if area < MASK_MIN_PX:
        found = f"has {area} pixel{'s' * (area != 1)}, too few" if area else "is empty"
        raise ClipArtError(f"the mask of {path} {found}: {_AGAIN}")
    right, bottom = header.crop_xy[0] + mask.shape[1], header.crop_xy[1] + mask.shape[0]
    if min(header.crop_xy) < 0 or right > frame_wh[0] or bottom > frame_wh[1]:
        reach = f"{header.crop_xy[0]}, {header.crop_xy[1]} to {right}, {bottom}"
        raise ClipArtError(f"{path} reaches from {reach} in a frame of {frame_wh[0]}x{frame_wh[1]}: mine again")


def _plate_image(path: Path, frame_wh: tuple[int, int]) -> NDArray[np.uint8]:
    image = _read_image(path)
    if image.shape[1::-1] != tuple(frame_wh):
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise ClipArtError(f"plate {path} is {size}, the frames {frame_wh[0]}x{frame_wh[1]}: mine again")
    return image
