"""The anonymiser, and the only types that sinks accept.

Fail-closed by construction: an `AnonymisedImage` can be made by this module alone, everything that stores, sends
or shows pixels takes an `AnonymisedImage` (or the `SealedEnvelope` made from one), and an anonymiser that fails
raises, so that there is nothing to pass on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import (
    SCHEMA_VERSION,
    Envelope,
    Header,
    encode_envelope,
    envelope_id,
)
from walt_edge.contract.topics import Kind

JPEG_QUALITY = 95

_SEAL = object()


class PrivacyError(WaltError):
    """The anonymiser could not do its work; nothing may be stored, sent or shown."""


@dataclass(frozen=True, slots=True, eq=False)
class AnonymisedImage:
    """Pixels that the anonymiser has passed.

    Attributes:
        bgr: (H, W, 3) uint8, read-only.
        moving: (H, W) bool: pixels that differ from the plate; a crop fills those that are not its object's.
        anonymiser: Version and reach, as written in headers.
    """

    bgr: NDArray[np.uint8]
    moving: NDArray[np.bool_]
    anonymiser: str
    _seal: Any = None

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise PrivacyError("only the anonymiser makes an AnonymisedImage")

    def jpeg(self) -> bytes:
        """The image as JPEG, full colour resolution."""
        return _encode(self.bgr)


@dataclass(frozen=True, slots=True, eq=False)
class SealedEnvelope:
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
    _seal: Any = None

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise PrivacyError("only seal() makes a SealedEnvelope")


def seal(header: Header, image: AnonymisedImage) -> SealedEnvelope:
    """Encodes an anonymised image with its header; the header's anonymiser is taken from the image."""
    origin = msgspec.structs.replace(header.origin, anonymiser=image.anonymiser)
    header = msgspec.structs.replace(header, origin=origin)
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
