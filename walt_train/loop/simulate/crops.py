"""Crops of a wanted size, every one with bytes of its own: one picture of noise, headers and a comment that differ.

A crop is a pure function of its device, number and time, so nothing of what waits is kept but these.
"""

from __future__ import annotations

import hashlib

import cv2
import msgspec
import numpy as np

from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.contract.masks import encode_rle
from walt_edge.contract.messages import (
    SCHEMA_VERSION,
    Clock,
    CropHeader,
    Envelope,
    Moment,
    Origin,
    encode_envelope,
    envelope_id,
)
from walt_edge.contract.topics import DeviceTopics

FRAME_WH = (1920, 1080)
_SMALLEST_PX, _LARGEST_PX, _STEP_PX = 16, 1024, 4
_COMMENT_BYTES = 32
# A JPEG's comment says its own length in two bytes.
_LONGEST_COMMENT = 65_533
_SOI, _COM = b"\xff\xd8", b"\xff\xfe"


class CropMaker:
    """Makes the crops of a simulated fleet.

    Args:
        kilobytes: Size of each crop's image, thousands of bytes; noise, so that nothing compresses it.
        seed: Of the noise.

    Raises:
        UsageError: No picture can have that size.
    """

    def __init__(self, kilobytes: float, seed: int = 0) -> None:
        self._side_px, jpeg = _noise(round(kilobytes * 1000), seed)
        self._rest = jpeg[len(_SOI) :]
        side = self._side_px
        mask = np.zeros((side, side), dtype=np.uint8)
        cv2.ellipse(mask, (side // 2, side // 2), (side // 4, side // 3), 0, 0, 360, 1, cv2.FILLED)
        self._template = CropHeader(
            origin=_origin(DeviceTopics("site", "device")),
            captured=_moment(0, 0, ""),
            box_xyxy=(0.0, 0.0, float(side), float(side)),
            label=Label.VEHICLE,
            score=0.9,
            unoccluded_confidence=0.9,
            confidence_parts={"neighbour": 1.0, "border": 1.0, "static": 0.9},
            track_id=0,
            stationary_us=None,
            ground_xy=(side / 2, float(side)),
            crop_xy=(0, 0),
            mask=encode_rle(mask.astype(bool)),
            plate="",
            holdout=False,
        )

    def crop(self, topics: DeviceTopics, boot_id: str, number: int, captured_us: int) -> tuple[str, bytes]:
        """A device's crop: its id and its envelope's bytes.

        Args:
            topics: Whose it is.
            boot_id: The device's boot.
            number: Counts the device's crops.
            captured_us: When it was taken, microseconds since 1970 UTC.
        """
        own = hashlib.blake2b(f"{topics.device} {boot_id} {number}".encode(), digest_size=_COMMENT_BYTES).digest()
        header = msgspec.structs.replace(
            self._template,
            origin=_origin(topics),
            captured=_moment(number, captured_us, boot_id),
            track_id=number,
        )
        envelope = Envelope(
            schema=SCHEMA_VERSION,
            header=header,
            media_type="image/jpeg",
            image_wh=(self._side_px, self._side_px),
            image=b"".join((_SOI, _comment(own), self._rest)),
        )
        data = encode_envelope(envelope)
        return envelope_id(data), data


def _noise(size: int, seed: int) -> tuple[int, bytes]:
    """The largest JPEG of noise below `size`, filled up by a comment; with its side in pixels."""
    noise = np.random.default_rng(seed).integers(0, 256, (_LARGEST_PX, _LARGEST_PX, 3), dtype=np.uint8)
    room = size - _COMMENT_BYTES - 8
    found: tuple[int, bytes] | None = None
    low, high = _SMALLEST_PX // _STEP_PX, _LARGEST_PX // _STEP_PX
    while low <= high:
        side = (low + high) // 2 * _STEP_PX
        jpeg = cv2.imencode(".jpg", noise[:side, :side])[1].tobytes()
        if len(jpeg) <= room:
            found, low = (side, jpeg), side // _STEP_PX + 1
        else:
            high = side // _STEP_PX - 1
    if found is None or room - len(found[1]) > _LONGEST_COMMENT:
        raise UsageError(f"no crop of {size} bytes can be made: give 1 to 2000 kilobytes")
    side, jpeg = found
    filling = np.random.default_rng(seed + 1).bytes(max(0, room - len(jpeg)))
    return side, b"".join((_SOI, _comment(filling), jpeg[len(_SOI) :]))


def _comment(data: bytes) -> bytes:
    return _COM + (len(data) + 2).to_bytes(2, "big") + data


def camera_of(topics: DeviceTopics) -> str:
    """The name of a simulated device's only camera: home takes a name from one device alone."""
    return f"{topics.device}-1"


def _origin(topics: DeviceTopics) -> Origin:
    return Origin(
        site=topics.site,
        device=topics.device,
        camera=camera_of(topics),
        model="motion-1",
        anonymiser="1 faces=head-only",
        frame_wh=FRAME_WH,
    )


def _moment(number: int, captured_us: int, boot_id: str) -> Moment:
    return Moment(
        utc_us=captured_us,
        boot_id=boot_id,
        monotonic_ns=number,
        clock=Clock.SYNCHRONISED,
        media_time_s=float(number),
    )
