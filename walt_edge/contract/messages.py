"""What travels: envelopes (binary), acknowledgements, status and telemetry (JSON).

An envelope is MessagePack: one map with the header and the image's bytes. Its id is the sha256 of its bytes,
so it is not in it. Readers validate types and ranges while decoding; nothing here touches pixels.
"""

from __future__ import annotations

import enum
import hashlib
import math
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from walt_edge.contract.errors import WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import MaskError, Rle, rle_area
from walt_edge.contract.telemetry import SpoolCounts as SpoolCounts
from walt_edge.contract.telemetry import Telemetry as Telemetry
from walt_edge.contract.topics import Kind, TopicError, check_name

SCHEMA_VERSION: Final = 1
CONTENT_TYPE_ENVELOPE = "application/vnd.walt.envelope+msgpack"
CONTENT_TYPE_JSON = "application/json"
MAX_ENVELOPE_BYTES = 8 * 1024 * 1024
MAX_SIDE_PX = 16_384
_NOTHING: Final = "nothing"

Unit = Annotated[float, Meta(ge=0.0, le=1.0)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]
Pixels = Annotated[int, Meta(ge=0, le=MAX_SIDE_PX)]
# Databases hold signed 64-bit numbers.
Count = Annotated[int, Meta(ge=0, le=2**62)]
Micros = Count
_Small = TypeVar("_Small", bound=msgspec.Struct)


class EnvelopeError(WaltError):
    """An envelope is malformed or says something that cannot be."""


class Clock(enum.StrEnum):
    """Whether the device's wall clock was set by a time source when the picture was taken."""

    SYNCHRONISED = "synchronised"
    UNSYNCHRONISED = "unsynchronised"


class Moment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When something was captured.

    Attributes:
        utc_us: Wall clock, microseconds since 1970-01-01 UTC.
        boot_id: Identifies the boot; monotonic times compare only within it.
        monotonic_ns: The device's monotonic clock.
        clock: The wall clock's state.
        media_time_s: The stream's own time since its first frame, seconds.
    """

    utc_us: Micros
    boot_id: Name
    monotonic_ns: Count
    clock: Clock
    media_time_s: Annotated[float, Meta(ge=0.0)]


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an envelope comes from and what made it.

    Attributes:
        site: The site's name.
        device: The globally unique device id.
        camera: The camera's name on that device.
        model: Version of what found the object (`motion-1`, or a model's release number).
        anonymiser: Version and reach of the anonymiser (`1 faces=head-only`).
        frame_wh: Size of the full frame, pixels.
    """

    site: Name
    device: Name
    camera: Name
    model: Name
    anonymiser: Name
    frame_wh: tuple[Pixels, Pixels]


class CropHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="crop"):
    """An object that was seen whole: enough to paste it back where it was, weigh it, and delete it later.

    Attributes:
        origin: Where it comes from.
        captured: When.
        box_xyxy: Amodal box in the frame, half-open pixels.
        label: The class.
        score: How sure the class is, 0..1.
        unoccluded_confidence: How sure it is that nothing hides a part of it, 0..1.
        confidence_parts: What that confidence was made of, each 0..1 (neighbour, border, static occluder ...).
        track_id: The track on this device and boot.
        stationary_us: UTC interval in which the object stood still, or None if it moved.
        ground_xy: Where it touches the ground, pixels in the frame.
        crop_xy: Top left corner of the image in the frame, pixels; the image holds a margin of context.
        mask: The object's mask, in the coordinates and size of the image.
        plate: Id (sha256) of the plate it was seen before, or "" before the first plate was sent.
        holdout: Marked at the edge: judges, never trains.
        filled: What of the image the anonymiser covered, in whatever way; None where nothing is, or the device does
            not tell. A soft fill cannot be told by its colour.
    """

    origin: Origin
    captured: Moment
    box_xyxy: tuple[float, float, float, float]
    label: Label
    score: Unit
    unoccluded_confidence: Unit
    confidence_parts: dict[Name, Unit]
    track_id: Count
    stationary_us: tuple[Micros, Micros] | None
    ground_xy: tuple[float, float]
    crop_xy: tuple[Pixels, Pixels]
    mask: Rle
    plate: Annotated[str, Meta(max_length=64, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
    holdout: bool
    filled: Rle | None = None


class PlateHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="plate"):
    """The camera's background with no movable object in it.

    Attributes:
        origin: Where it comes from.
        captured: When it was finished.
        hour: Hour of the day (UTC) that it stands for, 0..23.
        known: Pixels whose background was seen; the rest is unknown.
        samples: How many frames the median was taken over.
    """

    origin: Origin
    captured: Moment
    hour: Annotated[int, Meta(ge=0, le=23)]
    known: Rle
    samples: Annotated[int, Meta(ge=1)]


class FrameHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="frame"):
    """A sampled anonymised full frame, for holdouts, stationary objects and calibration."""

    origin: Origin
    captured: Moment
    holdout: bool


Header = CropHeader | PlateHeader | FrameHeader
_KIND_OF: dict[type, Kind] = {CropHeader: Kind.CROP, PlateHeader: Kind.PLATE, FrameHeader: Kind.FRAME}


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A header and the anonymised image that it describes.

    Attributes:
        schema: `SCHEMA_VERSION` of the writer.
        header: One of the three headers; its tag is the kind.
        media_type: `image/jpeg` or `image/png`.
        image_wh: The image's size, pixels.
        image: The encoded image.
    """

    schema: Literal[1]
    header: Header
    media_type: Literal["image/jpeg", "image/png"]
    image_wh: tuple[Pixels, Pixels]
    image: bytes

    @property
    def kind(self) -> Kind:
        """The kind, as written in the topic."""
        return _KIND_OF[type(self.header)]


def envelope_id(data: bytes) -> str:
    """The id of an envelope: the sha256 of its bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def encode_envelope(envelope: Envelope) -> bytes:
    """The bytes that are hashed, spooled and published."""
    return msgspec.msgpack.encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """Decodes and validates an envelope; the image stays encoded.

    Raises:
        EnvelopeError: Too large, not MessagePack, a wrong type, a value out of range, a mask or image that does
            not fit.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise EnvelopeError(f"envelope of {len(data)} bytes is above the limit of {MAX_ENVELOPE_BYTES}")
    try:
        envelope = msgspec.msgpack.decode(data, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EnvelopeError(f"not a valid envelope: {error}") from error
    _check_envelope(envelope)
    return envelope


def _check_envelope(envelope: Envelope) -> None:
    header = envelope.header
    try:
        check_name(header.origin.site, "site")
        check_name(header.origin.device, "device")
        check_name(header.origin.camera, "camera")
    except TopicError as error:
        raise EnvelopeError(str(error)) from error
    if not math.isfinite(header.captured.media_time_s):
        raise EnvelopeError("media_time_s is not finite")
    magic = b"\xff\xd8\xff" if envelope.media_type == "image/jpeg" else b"\x89PNG\r\n\x1a\n"
    if not envelope.image.startswith(magic):
        raise EnvelopeError(f"the image is not {envelope.media_type}")
    width, height = envelope.image_wh
    if width < 1 or height < 1:
        raise EnvelopeError(f"the image is {width}x{height}")
    if isinstance(header, CropHeader):
        _check_crop(header, width, height)
    elif header.origin.frame_wh != (width, height):
        raise EnvelopeError(f"a {envelope.kind} of {width}x{height} for a frame of {header.origin.frame_wh}")
    elif isinstance(header, PlateHeader):
        _check_mask(header.known, width, height)


def _check_crop(header: CropHeader, width: int, height: int) -> None:
    frame_width, frame_height = header.origin.frame_wh
    x0, y0, x1, y1 = header.box_xyxy
    if not all(map(math.isfinite, (*header.box_xyxy, *header.ground_xy))):
        raise EnvelopeError("a coordinate is not finite")
    if not (0 <= x0 < x1 <= frame_width and 0 <= y0 < y1 <= frame_height):
        raise EnvelopeError(f"box {header.box_xyxy} is not inside the frame {header.origin.frame_wh}")
    left, top = header.crop_xy
    if left + width > frame_width or top + height > frame_height:
        raise EnvelopeError(f"crop at {header.crop_xy} of {width}x{height} leaves the frame {header.origin.frame_wh}")
    if header.stationary_us is not None and header.stationary_us[0] > header.stationary_us[1]:
        raise EnvelopeError("the stationary interval ends before it begins")
    if _check_mask(header.mask, width, height) == 0:
        raise EnvelopeError("the mask is empty")
    if header.filled is not None:
        _check_mask(header.filled, width, height)


def _check_mask(mask: Rle, width: int, height: int) -> int:
    if mask.size != (height, width):
        raise EnvelopeError(f"mask of size {mask.size} for an image of {width}x{height}")
    try:
        return rle_area(mask)
    except MaskError as error:
        raise EnvelopeError(str(error)) from error


class AckState(enum.StrEnum):
    """What became of an envelope at home."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ingest's own acknowledgement, written after its commit."""

    state: AckState
    reason: Annotated[str, Meta(max_length=500)] = ""


class Status(msgspec.Struct, frozen=True):
    """Retained; `offline` is also the last will."""

    state: Literal["online", "offline"]
    boot_id: str


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """Retained: what this device is.

    `camera` is its first camera, `cameras` all of them where there are several. `channel` tells whose releases it
    takes, `canary` or `stable`; "" of one that takes none, or does not tell.
    """

    version: str
    camera: str
    machine: str
    python: str
    anonymiser: str
    cameras: tuple[str, ...] = ()
    channel: str = ""


class Desired(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Retained: the model that home wants this device to run. It grants nothing: the signed metadata decides.

    `Desired.nothing(N)` says that home wants nothing of its own up to release N to run: a device that runs such a
    release returns to its packaged model, or to the eyes without weights. An empty message would not do: a device
    that is offline would never hear of it.

    Attributes:
        release: Monotonic release number.
        target: The bundle's name in the update repository.
        sha256: Of the bundle.
    """

    release: Annotated[int, Meta(ge=1, le=2**62)]
    target: Annotated[str, Meta(max_length=200, pattern=r"\A[A-Za-z0-9_.-]+\Z")]
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]

    @classmethod
    def nothing(cls, release: int) -> Desired:
        """No release of home's up to this one shall run."""
        return cls(release=release, target=_NOTHING, sha256="0" * 64)

    @property
    def is_nothing(self) -> bool:
        """Whether no release of home's is to run."""
        return self == Desired.nothing(self.release)


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """Retained: the model that this device runs, and what became of the last one it was asked to take.

    Attributes:
        release: What runs; 0 = no model, the eyes without weights.
        sha256: Of its bundle, or "".
        state: `active`: what was desired runs for good; `updating`: it is on its way, or runs on probation (`release`
            is `desired` then); `refused`: it stays with `release`, and `reason` says why.
        desired: The release that `state` speaks of; 0 if none was ever asked for.
        reason: Why it was refused or taken back, that it is on probation, or why it runs without an engine: one line.
        postponed: Whether what was refused is tried again by itself: a network or a disk that fails now says nothing
            of the release.
    """

    release: Count
    sha256: str
    state: Literal["active", "updating", "refused"]
    desired: Count = 0
    reason: Annotated[str, Meta(max_length=500)] = ""
    postponed: bool = False


class Resend(msgspec.Struct, frozen=True, kw_only=True):
    """Retained: home lost what it stored since then, and wants again what the device still holds of it.

    Attributes:
        since_utc_us: Microseconds since 1970, UTC.
        nonce: Names this request; a device follows each once.
    """

    since_utc_us: Micros
    nonce: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]


def encode_json(message: Ack | Status | Info | Telemetry | Desired | Reported | Resend) -> bytes:
    """The JSON bytes of a small message."""
    return msgspec.json.encode(message)


def decode_ack(data: bytes) -> Ack:
    """Decodes an acknowledgement; raises EnvelopeError if it is none."""
    return _decoded(data, Ack, "an acknowledgement")


def decode_desired(data: bytes) -> Desired:
    """Decodes a desired model; raises EnvelopeError if it is none."""
    return _decoded(data, Desired, "a desired model")


def decode_resend(data: bytes) -> Resend:
    """Decodes a request to send again; raises EnvelopeError if it is none."""
    return _decoded(data, Resend, "a request to send again")


def decode_reported(data: bytes) -> Reported:
    """Decodes a report of what runs; raises EnvelopeError if it is none."""
    return _decoded(data, Reported, "a report")


def _decoded(data: bytes, kind: type[_Small], what: str) -> _Small:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvelopeError(f"not {what}: {error}") from error
