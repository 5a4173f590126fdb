"""An H.264 video of a street, for those who want to watch or stream it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import UsageError, WaltError

CRF = "18"


class VideoError(WaltError):
    """The video cannot be written."""


class VideoWriter:
    """Writes frames at a constant rate: a key frame every second, no B frames, frame i at i / fps.

    The file appears whole when finished, or not at all.

    Args:
        path: An `.mp4` file.
        size_wh: Even numbers of pixels.
        fps: Frames a second.
    """

    def __init__(self, path: Path, size_wh: tuple[int, int], fps: float) -> None:
        if size_wh[0] % 2 or size_wh[1] % 2:
            raise UsageError(f"H.264 needs an even size, not {size_wh[0]}x{size_wh[1]}")
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._size = size_wh
        self._rate = Fraction(fps).limit_denominator(1001)
        self._next = 0

    def __enter__(self) -> VideoWriter:
        # Imported here and below: who wants pictures alone needs no encoder.
        import av

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._partial), "w", format="mp4")
        except OSError as error:
            raise VideoError(f"cannot write {self._path}: {error}; choose another file") from error
        options = {"crf": CRF, "preset": "veryfast", "bf": "0", "g": str(max(1, round(self._rate)))}
        self._stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = 1 / self._rate
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()
        self._partial.unlink(missing_ok=True)

    def add(self, bgr: NDArray[np.uint8]) -> None:
        """Appends a frame."""
        import av

        frame = av.VideoFrame.from_ndarray(bgr, format="bgr24")
        frame.pts = self._next
        frame.time_base = 1 / self._rate
        self._next += 1
        self._mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Completes the file and gives it its name."""
        self._mux(self._stream.encode(None))
        self._container.close()
        self._partial.replace(self._path)

    def _mux(self, packets: list[Any]) -> None:
        try:
            self._container.mux(packets)
        except OSError as error:
            raise VideoError(f"cannot write {self._path}: {error}; free space or choose another file") from error
