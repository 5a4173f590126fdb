"""Films whose frames carry their own number, as a bar code that survives any encoding."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

BITS = 10
FPS = 25


def numbered(index: int, size_wh: tuple[int, int] = (320, 192)) -> NDArray[np.uint8]:
    """A picture with `index` in its upper half, as white and black bars; a moving disc below."""
    width, height = size_wh
    bgr = np.full((height, width, 3), 60, dtype=np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        bgr[: height // 2, left:right] = 235 if index >> bit & 1 else 20
    cv2.circle(bgr, (index * 3 % width, 3 * height // 4), height // 8, (40, 90, 200), -1)
    return bgr


def number_of(bgr: NDArray[np.uint8]) -> int:
    """What `numbered` wrote."""
    height, width = bgr.shape[:2]
    centres = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(1 << bit for bit, x in enumerate(centres) if bgr[height // 4, x].mean() > 128)


def write_film(
    path: Path,
    frames: int = 100,
    *,
    fps: int = FPS,
    size_wh: tuple[int, int] = (320, 192),
    codec: str = "libx264",
    b_frames: int = 0,
) -> Path:
    """Encodes numbered frames; returns `path`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size_wh, "yuv420p"
        stream.codec_context.gop_size = fps
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "bf": str(b_frames), "crf": "20"}
        for index in range(frames):
            picture = VideoFrame.from_ndarray(numbered(index, size_wh), format="bgr24")
            picture.pts, picture.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path
