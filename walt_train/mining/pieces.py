"""What the sources gave, read back: clips and plates with their pixels, moved into one pose.

What came over the wire is decoded by a process that can do nothing else, and never handed on as it came: whoever
reads what mining has written decodes what mining has encoded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.clipart import Clip, ClipArtError, Cuboid, Plate
from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import Mask, PatchMask, Rle, decode_rle, encode_rle
from walt_edge.contract.messages import CropHeader
from walt_edge.privacy.anonymiser import FILL_BGR, JPEG_QUALITY
from walt_edge.vision.shape import ground_contact
from walt_train.clipart.read import check_inside, read_mask
from walt_train.decoding import ConfinedDecoder, DecodingError
from walt_train.mining.epochs import Image, Pose

_TURN_DEG = 0.15  # over a crop of 200 px half a pixel: less is not worth another round of JPEG
_NEAR_FILL = 6
_AGAIN = "remove its folder, and mine or export it again"
_TRIES = 2


class UnreadableError(ClipArtError):
    """An image that came over the wire cannot be decoded, or harms its decoder."""


@dataclass(frozen=True, slots=True, eq=False)
class PlatePiece:
    """A plate of one source.

    Attributes:
        folder: Of the source.
        plate: Its record.
        bgr: (H, W, 3).
        known: (H, W).
        strange: Whether the image came over the wire: its pixels go on, its bytes do not.
    """

    folder: Path
    plate: Plate
    bgr: Image
    known: Mask
    strange: bool = False

    @classmethod
    def read(
        cls, folder: Path, plate: Plate, frame_wh: tuple[int, int], decoder: ConfinedDecoder | None = None
    ) -> PlatePiece:
        """Decodes a plate.

        Args:
            folder: Of the source.
            plate: Its record.
            frame_wh: Of the camera, pixels.
            decoder: Of what came over the wire; None for what was recorded here.

        Raises:
            UnreadableError: The decoder did not decode it.
            ClipArtError: It is damaged or not of the frame's size.
            NoDecoderError: This machine cannot confine a decoder.
        """
        path = folder / plate.image
        bgr = _read(path, plate.header.known, decoder)
        if bgr.shape[1::-1] != frame_wh:
            size = f"{bgr.shape[1]}x{bgr.shape[0]}"
            raise ClipArtError(f"plate {path} is {size}, the frames {frame_wh[0]}x{frame_wh[1]}: {_AGAIN}")
        return cls(folder, plate, bgr, read_mask(plate.header.known, bgr, path), decoder is not None)

    def moved(self, pose: Pose) -> PlatePiece:
        """The plate in the reference's pose; the rim that opens is unknown."""
        if pose.same:
            return self
        bgr, shown = pose.warp(self.bgr)
        known = pose.warp_mask(self.known) & shown
        header = msgspec.structs.replace(self.plate.header, known=encode_rle(known))
        return PlatePiece(self.folder, msgspec.structs.replace(self.plate, header=header, image=""), bgr, known)

    def write(self, out: Path) -> Plate:
        """Writes or links the image; returns the record."""
        image = _written(self.folder, self.plate.image, self.bgr, self.strange, out, "plates")
        return msgspec.structs.replace(self.plate, image=image)


@dataclass(frozen=True, slots=True, eq=False)
class ClipPiece:
    """A clip of one source.

    Attributes:
        folder: Of the source.
        clip: Its record; `image` is "" where the pixels were moved and have to be stored anew.
        bgr: (h, w, 3) the crop.
        mask: (h, w).
        strange: Whether the image came over the wire: its pixels go on, its bytes do not.
    """

    folder: Path
    clip: Clip
    bgr: Image
    mask: Mask
    strange: bool = False

    @classmethod
    def read(
        cls, folder: Path, clip: Clip, frame_wh: tuple[int, int], decoder: ConfinedDecoder | None = None
    ) -> ClipPiece:
        """Decodes a clip.

        Args:
            folder: Of the source.
            clip: Its record.
            frame_wh: Of the camera, pixels.
            decoder: Of what came over the wire; None for what was recorded here.

        Raises:
            UnreadableError: The decoder did not decode it.
            ClipArtError: It is damaged or reaches out of the frame.
            NoDecoderError: This machine cannot confine a decoder.
        """
        path = folder / clip.image
        bgr = _read(path, clip.header.mask, decoder)
        mask = read_mask(clip.header.mask, bgr, path)
        if clip.header.filled is not None:
            read_mask(clip.header.filled, bgr, path)
        check_inside(clip.header, mask, frame_wh, path)
        return cls(folder, clip, bgr, mask, decoder is not None)

    @property
    def header(self) -> CropHeader:
        """The clip's."""
        return self.clip.header

    @property
    def filled(self) -> Mask:
        """(h, w) what the anonymiser covered: as the device tells, else by its colour, as JPEG left it."""
        if self.header.filled is not None:
            return decode_rle(self.header.filled)
        far = np.abs(self.bgr.astype(np.int16) - np.array(FILL_BGR, np.int16)).max(axis=2)
        core: Mask = cv2.morphologyEx((far <= _NEAR_FILL).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))) > 0
        return core

    def moved(self, pose: Pose) -> ClipPiece | None:
        """The clip in the reference's pose: mask, box and foot alike; None if a part of it leaves the frame.

        A shift moves the crop by whole pixels and leaves its pixels as they are; a turn resamples it.
        """
        if pose.same:
            return self
        if abs(pose.rotation_deg) <= _TURN_DEG:
            bgr, mask, told, origin = self.bgr, self.mask, self._told, self._shifted(pose)
        else:
            bgr, mask, told, origin = self._turned(pose)
        patch = PatchMask.from_full(mask)
        own = PatchMask(origin[0] + patch.x, origin[1] + patch.y, patch.mask)
        width, height = pose.frame_wh
        x0, y0, x1, y1 = own.box_xyxy
        if not patch.area or x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            return None
        left, top = max(0, -origin[0]), max(0, -origin[1])
        right, bottom = min(bgr.shape[1], width - origin[0]), min(bgr.shape[0], height - origin[1])
        inside = mask[top:bottom, left:right]
        header = msgspec.structs.replace(
            self.header,
            box_xyxy=(float(x0), float(y0), float(x1), float(y1)),
            ground_xy=ground_contact(own),
            crop_xy=(origin[0] + left, origin[1] + top),
            mask=encode_rle(inside),
            filled=None if told is None else encode_rle(told[top:bottom, left:right]),
        )
        cut = inside.shape != self.mask.shape or bgr is not self.bgr
        clip = msgspec.structs.replace(
            self.clip,
            header=header,
            image="" if cut else self.clip.image,
            keypoints=_moved_keypoints(self.clip.keypoints, pose),
            cuboid=_moved_cuboid(self.clip.cuboid, pose),
        )
        return ClipPiece(self.folder, clip, np.ascontiguousarray(bgr[top:bottom, left:right]), inside, self.strange)

    @property
    def _told(self) -> Mask | None:
        return None if self.header.filled is None else decode_rle(self.header.filled)

    def _shifted(self, pose: Pose) -> tuple[int, int]:
        foot = np.array([self.header.ground_xy])
        dx, dy = np.round(pose.to_reference(foot) - foot)[0].astype(int).tolist()
        x, y = self.header.crop_xy
        return x + dx, y + dy

    def _turned(self, pose: Pose) -> tuple[Image, Mask, Mask | None, tuple[int, int]]:
        height, width = self.mask.shape
        x, y = self.header.crop_xy
        corners = np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]], np.float64)
        there = pose.to_reference(corners)
        left, top = np.floor(there.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(there.max(axis=0)).astype(int).tolist()
        matrix = pose.matrix.copy()  # from a pixel of the new crop to one of the old
        matrix[:, 2] += matrix[:, :2] @ np.array([left, top]) - np.array([x, y])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (right - left, bottom - top)
        bgr = cv2.warpAffine(self.bgr, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

        def turned(mask: Mask) -> Mask:
            share = cv2.warpAffine(mask.astype(np.float32), matrix, size, flags=flags)
            return np.asarray(share >= 0.5)

        told = self._told
        return np.asarray(bgr, np.uint8), turned(self.mask), None if told is None else turned(told), (left, top)

    def write(self, out: Path, **changes: object) -> Clip:
        """Writes or links the image; returns the record with `changes`."""
        image = _written(self.folder, self.clip.image, self.bgr, self.strange, out, "crops")
        return msgspec.structs.replace(self.clip, image=image, **changes)


Keypoints = list[tuple[float, float, int]]


def _moved_keypoints(keypoints: Keypoints | None, pose: Pose) -> Keypoints | None:
    """Those that leave the frame are unknown."""
    if not keypoints:
        return keypoints
    moved = pose.to_reference(np.array([(x, y) for x, y, _ in keypoints], np.float64))
    inside: NDArray[np.bool_] = np.all((moved >= 0) & (moved <= np.array(pose.frame_wh)), axis=1)
    return [
        (x, y, seen) if stays and seen else (0.0, 0.0, 0)
        for (x, y), stays, (_, _, seen) in zip(moved.tolist(), inside.tolist(), keypoints, strict=True)
    ]


def _moved_cuboid(cuboid: Cuboid | None, pose: Pose) -> Cuboid | None:
    if cuboid is None:
        return None
    moved = pose.to_reference(np.array(cuboid.corners_xy, np.float64))
    return msgspec.structs.replace(cuboid, corners_xy=[(float(x), float(y)) for x, y in moved])


def _written(folder: Path, image: str, bgr: Image, strange: bool, out: Path, kind: str) -> str:
    """The path below `out` of an image that lies in `folder`, or is "" where its pixels were moved."""
    if not image:
        return store(bgr, out, kind)
    return encode_again(bgr, folder / image, out, kind) if strange else link(folder / image, out, kind)


def encode_again(bgr: Image, image: Path, out: Path, kind: str) -> str:
    """Stores the pixels of an image that came over the wire, under its name; returns the path below `out`.

    JPEG stays JPEG: devices have encoded with the same tables, so that another round changes next to nothing.
    """
    name = f"{kind}/{image.name}"
    path = out / name
    data = cv2.imencode(".png", bgr)[1].tobytes() if image.suffix == ".png" else _jpeg(bgr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be the source's own file by a second name
        path.write_bytes(data)
    except OSError as error:
        raise WaltError(f"cannot write {path}: {error.strerror}; free space or choose another --out") from error
    return name


def link(image: Path, out: Path, kind: str) -> str:
    """Gives an image that lies on the disk a second name; returns its path below `out`."""
    name = f"{kind}/{image.name}"
    path = out / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            path.hardlink_to(image)
        except OSError:  # another file system, or one without links
            path.write_bytes(image.read_bytes())
    except OSError as error:
        raise WaltError(f"cannot write {path}: {error.strerror}; free space or choose another --out") from error
    return name


def store(bgr: Image, out: Path, kind: str) -> str:
    """Stores pixels that were read from a sealed image and moved; returns the path below `out`."""
    data = _jpeg(bgr)
    name = f"{kind}/{hashlib.sha256(data).hexdigest()}.jpg"
    try:
        (out / kind).mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    except OSError as error:
        raise WaltError(f"cannot write {out / name}: {error.strerror}; free space or choose another --out") from error
    return name


def _jpeg(bgr: Image) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    data: NDArray[np.uint8] = cv2.imencode(".jpg", bgr, options)[1]
    return data.tobytes()


def _read(path: Path, mask: Rle, decoder: ConfinedDecoder | None) -> Image:
    data = path.read_bytes() if path.is_file() else b""
    if decoder is not None:
        return _confined(decoder, data, (mask.size[1], mask.size[0]), path)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise ClipArtError(f"{path} is missing or no image: {_AGAIN}")
    return np.asarray(image, np.uint8)


def _confined(decoder: ConfinedDecoder, data: bytes, size_wh: tuple[int, int], path: Path) -> Image:
    """Tried twice: a decoder may also end for want of memory, and the same clips have to come out."""
    error = DecodingError("")
    for _ in range(_TRIES):
        try:
            return decoder.decode(data, size_wh)
        except DecodingError as failed:
            error = failed
    raise UnreadableError(f"{path} cannot be decoded: {error}") from error
