"""Frames of a fixed camera: live by RTSP, or played from a video file or a folder of stills.

`open_camera` gives all three the same face. How they work is told in `walt_edge.capture`; this module holds only
what their users need, and imports neither OpenCV nor FFmpeg until a source is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import Moment
from walt_edge.contract.redaction import redact

Transport = Literal["tcp", "udp"]
OPEN_S = STALL_S = 5.0


class CameraError(WaltError):
    """The source cannot be opened or read; the text names it, the cause and the remedy."""


class CameraUnreachableError(CameraError):
    """No connection: unknown host, refused, or no answer in time."""


class CameraRefusedError(CameraError):
    """The camera answered and would not play: wrong path, or wrong user or password."""


class CameraTimeout(CameraError):  # noqa: N818 - what callers wait for, not what went wrong
    """No frame came in the time given; the camera goes on trying, and the next read may succeed."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture as it came from the camera: not anonymised, never to leave memory.

    Attributes:
        bgr: (H, W, 3) uint8.
        index: How many frames the source had delivered before this one, skipped ones included.
        captured: When it arrived.
    """

    bgr: NDArray[np.uint8]
    index: int
    captured: Moment


@dataclass(slots=True)
class CameraStats:
    """How a camera does, counted since it was opened.

    Attributes:
        frames_received: Frames that the source delivered, whether or not anybody read them.
        frames_skipped: Of these, the ones that were never read: superseded by a newer one, or corrupt.
        reconnects: How many times a live source was lost and connected again.
        stalls: How many times a connection was given up because no picture came over it.
        decoder_restarts: How many times the decoder's process died or hung, and was replaced.
        problem: Why no frames come, without passwords; empty while they come.
    """

    frames_received: int = 0
    frames_skipped: int = 0
    reconnects: int = 0
    stalls: int = 0
    decoder_restarts: int = 0
    problem: str = ""

    @property
    def is_live(self) -> bool:
        """Whether frames come."""
        return self.frames_received > 0 and not self.problem


class Camera(Protocol):
    """Where frames come from. Use as a context manager, from one thread at a time."""

    @property
    def resolution_wh(self) -> tuple[int, int]:
        """Size of the newest frame, pixels; (0, 0) before the first connection."""

    @property
    def fps(self) -> float:
        """Frames a second as the source declares it, or 0 if it does not."""

    @property
    def stats(self) -> CameraStats:
        """Counts so far."""

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame: of a file in order, of a live source the newest.

        Returns:
            The frame, or None when a file or folder has ended. A live source never ends.

        Raises:
            CameraTimeout: No frame came within `timeout_s`.
            CameraError: The source cannot be read.
        """

    def close(self) -> None:
        """Ends the source and everything it started; harmless when repeated."""

    def __enter__(self) -> Self:
        """The camera itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the camera."""


def open_camera(
    source: str,
    *,
    fps: float | None = None,
    transport: Transport = "tcp",
    retry_first: bool = False,
    open_s: float = OPEN_S,
    stall_s: float = STALL_S,
    hardware: str = "auto",
) -> Camera:
    """Opens a live camera, a video file or a folder of stills.

    Args:
        source: `rtsp://` or `rtsps://` URL, path of a video, or path of a folder of `*.jpg`, `*.jpeg`, `*.png`.
        fps: Plays files and folders at this rate instead of what their timestamps say; ignored for live cameras.
        transport: How a live camera's packets travel.
        retry_first: For live cameras: False reports a first connection that fails as an error within seconds, since
            it mostly is a wrong URL; True retries that one forever too. A camera that had ever connected is always
            retried forever.
        open_s: Connecting to a live camera may take so long.
        stall_s: A live camera that sends no picture for so long is connected anew.
        hardware: What decodes a live camera's pictures: `auto` for the first device that works, `off` for software,
            or a device as FFmpeg names it, `cuda`, `vaapi`, `cuda:1`. Where it fails, software takes over.

    Raises:
        CameraError: The source does not exist, cannot be read, or (see `retry_first`) cannot be reached.
    """
    # Imported here so that the decoder's process, which shares this module's types, starts without OpenCV.
    if source.startswith(("rtsp://", "rtsps://")):
        from walt_edge.capture.rtsp import RtspCamera

        return RtspCamera(
            source, transport=transport, retry_first=retry_first, open_s=open_s, stall_s=stall_s, hardware=hardware
        )
    if "://" in source:
        raise CameraError(f"{redact(source)}: only rtsp:// and rtsps:// URLs, files and folders can be watched")
    from walt_edge.capture.files import FolderCamera, VideoCamera

    path = Path(source)
    if path.is_dir():
        return FolderCamera(path, fps=fps)
    if path.is_file():
        return VideoCamera(path, fps=fps)
    raise CameraError(f"{source} does not exist: give an rtsp:// URL, a video file, or a folder of frames")
