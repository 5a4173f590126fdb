"""Live frames as they go to a browser: encoded once for all viewers, and at most a few times a second."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import Final

import cv2
import msgspec
import numpy as np

from walt_edge.privacy.anonymiser import AnonymisedImage, PrivacyError
from walt_edge.web.outlines import Overlay, overlay_of
from walt_edge.web.status import AgentView

MEDIA_TYPE: Final = "application/vnd.walt.live"
_JPEG_QUALITY: Final = 80
_WIDTH_MAX: Final = 960


@dataclass(frozen=True, slots=True)
class View:
    """One encoded frame.

    Attributes:
        number: Of the frame.
        overlay: What is drawn over it.
        jpeg: The anonymised picture, at most 960 pixels wide.
        made_s: Monotonic time of the encoding.
    """

    number: int
    overlay: Overlay
    jpeg: bytes
    made_s: float

    def packed(self) -> bytes:
        """Picture and outlines in one body, so that they always belong together.

        Four bytes (little endian) with the length of the JSON, the JSON, the JPEG.
        """
        waited_s = time.monotonic() - self.made_s
        told = msgspec.structs.replace(self.overlay, age_s=round(self.overlay.age_s + waited_s, 3))
        text = msgspec.json.encode(told)
        return struct.pack("<I", len(text)) + text + self.jpeg


class Views:
    """Encodes what the agent shows.

    Args:
        view: The agent.
        fps_max: A camera's picture is encoded at most so often a second, however many look.
    """

    def __init__(self, view: AgentView, fps_max: float = 5.0) -> None:
        self._view = view
        self._pause_s = 1.0 / fps_max
        self._newest: dict[str, View] = {}

    def newest(self, camera: str) -> View | None:
        """The camera's newest picture that is due; None if there is none."""
        frame = self._view.live(camera)
        if frame is None:
            self._newest.pop(camera, None)
            return None
        held = self._newest.get(camera)
        now_s = time.monotonic()
        if held is not None and (held.number == frame.number or now_s - held.made_s < self._pause_s):
            return held
        made = View(frame.number, overlay_of(frame, time.monotonic_ns()), encode(frame.image), now_s)
        self._newest[camera] = made
        return made


def encode(image: AnonymisedImage) -> bytes:
    """The picture as a small JPEG for a screen."""
    bgr = image.bgr
    height, width = bgr.shape[:2]
    if width > _WIDTH_MAX:
        size_wh = (_WIDTH_MAX, max(1, round(height * _WIDTH_MAX / width)))
        bgr = np.asarray(cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise PrivacyError(f"cannot encode an image of shape {bgr.shape}")
    encoded: bytes = data.tobytes()
    return encoded
