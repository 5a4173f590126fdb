"""The anonymiser, and the only types that sinks accept.

Fail-closed by construction: an `AnonymisedImage` can be made by this module alone, everything that stores, sends
or shows pixels takes an `AnonymisedImage` (or the `SealedEnvelope` made from one), and an anonymiser that fails
raises, so that there is nothing to pass on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import InitVar, dataclass
from typing import Any, Final, NoReturn, Protocol, Self

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import Mask, PatchMask, encode_rle
from walt_edge.contract.messages import SCHEMA_VERSION, CropHeader, Envelope, Header, encode_envelope, envelope_id
from walt_edge.contract.topics import Kind
from walt_edge.privacy.fills import FILL_BGR, SOLID, Fill, Style, cover, paint
from walt_edge.privacy.heads import GROW_PX, covers, grown
from walt_edge.privacy.number_plates import number_plates
from walt_edge.vision.sightings import Sighting

__all__ = [
    "FILL_BGR",
    "JPEG_QUALITY",
    "VERSION",
    "AnonymisedImage",
    "Anonymiser",
    "FaceDetector",
    "Fill",
    "PrivacyError",
    "SealedEnvelope",
    "fail_closed",
    "seal",
]

VERSION: Final = 2
JPEG_QUALITY = 95
FACE_MARGIN = 0.3  # of the box's side, on every side: ears, chin and hair
RIM_PX = 2  # around an object's own mask, where silhouettes are not exact

_SEAL = object()


class PrivacyError(WaltError):
    """The anonymiser could not do its work; nothing may be stored, sent or shown."""


@contextmanager
def fail_closed() -> Iterator[None]:
    """Turns whatever goes wrong into a PrivacyError: no pixel may pass then."""
    try:
        yield
    except PrivacyError:
        raise
    except Exception as error:
        raise PrivacyError(f"the anonymiser failed, the frame is dropped: {type(error).__name__}: {error}") from error


class FaceDetector(Protocol):
    """Finds faces that geometry does not: behind windscreens, in groups, in front of a body."""

    @property
    def name(self) -> str:
        """How it is written into headers, at most 40 characters."""

    def __call__(self, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Boxes of all faces in an (H, W, 3) uint8 picture: (N, 4), half-open xyxy pixels."""


class _Sealed:
    """Refuses every usual way to make an instance without the seal.

    The guard is against mistakes, not against hostile code in the same process: nothing in Python can be.
    """

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise PrivacyError(f"a {type(self).__name__} does not leave its process: send a SealedEnvelope's data")


@dataclass(frozen=True, slots=True, eq=False)
class AnonymisedImage(_Sealed):
    """Pixels that the anonymiser has passed. Its arrays are views of immutable bytes.

    Attributes:
        bgr: (H, W, 3) uint8, read-only.
        moving: (H, W) bool: pixels that differ from the plate or belong to an object; a crop fills those that are
            not its object's.
        filled: (H, W) bool: pixels that were covered, in whatever way.
        anonymiser: Version and reach, as written in headers.
        number_plates: What of `filled` was covered as a number plate alone.
    """

    bgr: NDArray[np.uint8]
    moving: Mask
    filled: Mask
    anonymiser: str
    number_plates: tuple[PatchMask, ...] = ()
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise PrivacyError("only the anonymiser makes an AnonymisedImage")

    def jpeg(self) -> bytes:
        """The image as JPEG, full colour resolution."""
        return _encode(self.bgr)

    def filled_fraction(self, own: PatchMask) -> float:
        """How much of an object's mask is filled, 0..1: a clip that is mostly filled teaches nothing.

        Number plates do not count: every vehicle has one, and is as good a clip without.
        """
        height, width = self.bgr.shape[:2]
        x0, y0, x1, y1 = own.box_xyxy
        inside = (max(0, x0), max(0, y0), min(width, x1), min(height, y1))
        own_inside = own.window(inside)
        if not own_inside.any():
            return 0.0 if own.area else 1.0
        # Only the object's box is looked at: this is asked for every object of every frame.
        filled = self.filled[inside[1] : inside[3], inside[0] : inside[2]] & own_inside
        for patch in self.number_plates:
            filled &= ~patch.window(inside)
        return int(np.count_nonzero(filled)) / own.area

    def crop(self, box_xyxy: tuple[int, int, int, int], own: PatchMask) -> AnonymisedImage:
        """One object with a margin of context; whatever else moves in the margin is filled.

        Args:
            box_xyxy: Half-open pixels, inside the frame.
            own: The object's mask in the frame; it and a rim of `RIM_PX` around it stay as they are.

        Raises:
            PrivacyError: The box is empty or leaves the frame.
        """
        height, width = self.bgr.shape[:2]
        x0, y0, x1, y1 = box_xyxy
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise PrivacyError(f"crop box {box_xyxy} is empty or leaves the frame of {width}x{height}")
        rows, columns = slice(y0, y1), slice(x0, x1)
        moving = self.moving[rows, columns]
        kept = grown(own, RIM_PX).window(box_xyxy)
        foreign = _dilated(moving & ~kept, GROW_PX) & ~kept
        bgr = self.bgr[rows, columns].copy()
        bgr[foreign] = FILL_BGR
        filled = self.filled[rows, columns] | foreign
        plates = [PatchMask(patch.x - x0, patch.y - y0, patch.mask) for patch in self.number_plates]
        return _passed(bgr, moving, filled, self.anonymiser, plates)


class Anonymiser:
    """Makes frames safe to store, send and show, or raises.

    Covered are: the part of every person, unclassified object and unsure vehicle that may show a head
    (`walt_edge.privacy.heads`); faces that a detector finds, with a margin; where vehicles may show a number plate;
    and everything that moves and belongs to no object, to which the watcher adds the heads that sway in the plate
    (`walt_edge.vision.restless`). What geometry cannot see without a detector: people in the plate who do not sway by
    a visible amount, and faces inside a vehicle's or another person's outline.

    Args:
        faces: A face detector; without one, headers say `faces=head-only`.
        fill: How heads and faces are covered. Number plates and what moves and is nobody's are always filled solid:
            a plate's few signs could be guessed from blocks, and nobody knows how large a head there would be.
        number_plates: Whether vehicles' number plates are filled.
        timed: What each frame is anonymised within, a timer for example.
    """

    def __init__(
        self,
        faces: FaceDetector | None = None,
        *,
        fill: Fill = SOLID,
        number_plates: bool = True,
        timed: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._faces = faces
        self._timed = timed
        self._fill = fill
        self._number_plates = number_plates
        reach = f"faces={faces.name}+head" if faces else "faces=head-only"
        style = "" if fill.style is Style.SOLID else f" fill={fill.style.value}"
        self.version = f"{VERSION} {reach}{style}"

    def __call__(
        self,
        bgr: NDArray[np.uint8],
        sightings: Sequence[Sighting],
        moving: Mask,
        also: Sequence[PatchMask] | None = None,
    ) -> AnonymisedImage:
        """Anonymises one full frame; the frame itself is left as it is.

        Args:
            bgr: (H, W, 3) uint8.
            sightings: All objects in it.
            moving: (H, W) bool: pixels that differ from the plate.
            also: What else shows heads, from looks at this and at other moments; None: the detector is asked here.

        Raises:
            PrivacyError: Anything went wrong; there is no image then.
        """
        with fail_closed(), self._timed():
            _check(bgr, moving)
            return self._anonymise(bgr, sightings, moving, self.faces_in(bgr) if also is None else also, self._fill)

    def plate(self, bgr: NDArray[np.uint8], unknown: Mask) -> AnonymisedImage:
        """Anonymises a plate, whose every cover is solid: it is pasted behind others as ground.

        Args:
            bgr: (H, W, 3) uint8, made of anonymised frames.
            unknown: (H, W) bool: pixels that nobody knows, or that may show somebody who stands there.

        Raises:
            PrivacyError: As ever.
        """
        with fail_closed():
            _check(bgr, unknown)
            return self._anonymise(bgr, (), unknown, self.faces_in(bgr), SOLID)

    def faces_in(self, bgr: NDArray[np.uint8]) -> list[PatchMask]:
        """The faces that the detector finds, with their margin; none where there is no detector.

        Raises:
            PrivacyError: The detector failed.
        """
        if self._faces is None:
            return []
        with fail_closed():
            shown = bgr.copy()  # a detector that draws on its input harms nobody
            return _with_margin(np.asarray(self._faces(shown), dtype=np.float64), bgr.shape)

    def _anonymise(
        self,
        bgr: NDArray[np.uint8],
        sightings: Sequence[Sighting],
        moving: Mask,
        also: Sequence[PatchMask],
        fill: Fill,
    ) -> AnonymisedImage:
        height, width = bgr.shape[:2]
        objects = np.zeros((height, width), dtype=bool)
        for sighting in sightings:
            paint(objects, sighting.silhouette)
        # Grown, but not into objects: those have been judged by themselves.
        foreign = _dilated(moving & ~objects, GROW_PX) & ~objects
        plates = [patch for one in sightings for patch in number_plates(bgr, one)] if self._number_plates else []
        out = bgr.copy()
        out[foreign] = FILL_BGR
        cover(out, plates, SOLID)
        filled = foreign | cover(out, [*covers(sightings, (width, height)), *also], fill)
        plates = [
            PatchMask(p.x, p.y, ~filled[p.y : p.y + p.mask.shape[0], p.x : p.x + p.mask.shape[1]]) for p in plates
        ]
        for patch in plates:
            paint(filled, patch)
        return _passed(out, moving | objects, filled, self.version, plates)


def _with_margin(boxes: NDArray[np.float64], shape: tuple[int, ...]) -> list[PatchMask]:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise PrivacyError(f"the face detector returned {boxes.shape} or values that are not finite; expected (N, 4)")
    height, width = shape[:2]
    sides = boxes[:, 2:] - boxes[:, :2]
    low = np.floor(np.clip(boxes[:, :2] - FACE_MARGIN * sides - GROW_PX, 0, (width, height))).astype(int)
    high = np.ceil(np.clip(boxes[:, 2:] + FACE_MARGIN * sides + GROW_PX, 0, (width, height))).astype(int)
    extents = np.maximum(high - low, 0)
    return [
        PatchMask(x, y, np.ones((h, w), bool)) for (x, y), (w, h) in zip(low.tolist(), extents.tolist(), strict=True)
    ]


def _check(bgr: NDArray[np.uint8], moving: Mask) -> None:
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.size == 0:
        raise PrivacyError(f"a frame is (H, W, 3) uint8, not {bgr.shape} {bgr.dtype}")
    if moving.dtype != np.bool_ or moving.shape != bgr.shape[:2]:
        raise PrivacyError(
            f"the moving mask of a {bgr.shape} frame is bool of its size, not {moving.shape} {moving.dtype}"
        )


def _dilated(mask: Mask, radius_px: int) -> Mask:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), dtype=bool)


def _passed(
    bgr: NDArray[np.uint8], moving: Mask, filled: Mask, version: str, plates: Sequence[PatchMask] = ()
) -> AnonymisedImage:
    plates = tuple(PatchMask(patch.x, patch.y, _frozen(patch.mask)) for patch in plates)
    return AnonymisedImage(_frozen(bgr), _frozen(moving), _frozen(filled), version, plates, _SEAL)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The same values over immutable bytes, which nothing can make writeable again."""
    return np.frombuffer(array.tobytes(), dtype=array.dtype).reshape(array.shape)


@dataclass(frozen=True, slots=True, eq=False)
class SealedEnvelope(_Sealed):
    """An envelope's bytes, made from an anonymised image and nothing else.

    Attributes:
        id: sha256 of `data`.
        kind: Its kind.
        envelope: What was encoded.
        data: What is spooled and published.
    """

    id: str
    kind: Kind
    envelope: Envelope
    data: bytes
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise PrivacyError("only seal() makes a SealedEnvelope")


def seal(header: Header, image: AnonymisedImage) -> SealedEnvelope:
    """Encodes an anonymised image with its header; what the header says of the anonymiser is taken from the image."""
    origin = msgspec.structs.replace(header.origin, anonymiser=image.anonymiser)
    header = msgspec.structs.replace(header, origin=origin)
    if isinstance(header, CropHeader) and image.filled.any():
        header = msgspec.structs.replace(header, filled=encode_rle(image.filled))
    height, width = image.bgr.shape[:2]
    envelope = Envelope(
        schema=SCHEMA_VERSION,
        header=header,
        media_type="image/jpeg",
        image_wh=(width, height),
        image=image.jpeg(),
    )
    data = encode_envelope(envelope)
    return SealedEnvelope(envelope_id(data), envelope.kind, envelope, data, _SEAL)


def _encode(bgr: NDArray[np.uint8]) -> bytes:
    parameters = [
        cv2.IMWRITE_JPEG_QUALITY,
        JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", bgr, parameters)
    if not done:
        raise PrivacyError(f"cannot encode an image of shape {bgr.shape}")
    encoded: bytes = data.tobytes()
    return encoded
