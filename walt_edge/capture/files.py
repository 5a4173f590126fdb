"""Videos and folders of stills as cameras: every frame, in order, as fast as it is read.

Times. A frame's `media_time_s` is the video's own timestamp counted from its first frame, or, where `fps` is given
or the video has none, its index over the rate. Stills whose names all hold a date and time take it from there.
The wall clock starts at the date in the file's name (`2013-02-24_10_05_04`, read as UTC) and then counts as
synchronised; without one it starts at the file's modification time, which may be a copy's, and does not.
"""

from __future__ import annotations

import datetime
import logging
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from walt_edge.camera import CameraError, CameraStats, Frame
from walt_edge.capture.clock import boot_id
from walt_edge.capture.stills import find_stills, read_still
from walt_edge.contract.closing import Closing
from walt_edge.contract.messages import Clock, Moment

STILLS_FPS = 10.0
_DATE = re.compile(r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)[T_ -]?(\d\d)[:_.-]?(\d\d)[:_.-]?(\d\d)(?!\d)")
_log = logging.getLogger(__name__)


class _PlayedCamera(Closing):
    """What videos and folders share: counting, closing, and the moment of a frame."""

    def __init__(self, resolution_wh: tuple[int, int], fps: float, began_us: int, clock: Clock) -> None:
        self.resolution_wh = resolution_wh
        self.fps = fps
        self.stats = CameraStats()
        self._began_us = began_us
        self._clock = clock

    def _frame(self, bgr: NDArray[np.uint8], media_time_s: float) -> Frame:
        moment = Moment(
            utc_us=self._began_us + round(media_time_s * 1e6),
            boot_id=boot_id(),
            monotonic_ns=time.monotonic_ns(),
            clock=self._clock,
            media_time_s=media_time_s,
        )
        bgr.flags.writeable = False
        return Frame(bgr, self.stats.frames_received - 1, moment)

    def close(self) -> None:
        """Nothing to end by default."""


class VideoCamera(_PlayedCamera):
    """A video file, decoded by FFmpeg. Frames that FFmpeg finds corrupt are skipped and counted.

    Args:
        path: The video.
        fps: Rate that replaces the video's timestamps, frames a second.

    Raises:
        CameraError: Not a video.
    """

    def __init__(self, path: Path, *, fps: float | None = None) -> None:
        self._path = path
        self._fps = _checked_fps(fps)
        try:
            self._container = av.open(str(path))
        except av.FFmpegError as error:
            raise CameraError(
                f"{path} is not a video that FFmpeg can read ({error.strerror}): convert it to MP4"
            ) from error
        if not self._container.streams.video:
            self._container.close()
            raise CameraError(f"{path} holds no video stream: give a video file")
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = self._fps or float(stream.average_rate or 0)
        super().__init__((stream.width, stream.height), rate, *_file_time(path))
        self._stream = stream
        self._decoded = self._decode()
        self._first_pts: int | None = None
        self._closed = False

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None at the end; a file never times out."""
        for decoded in self._decoded:
            self.stats.frames_received += 1
            if decoded.is_corrupt:
                self.stats.frames_skipped += 1
                _log.warning("%s: frame %d is corrupt, skipped", self._path, self.stats.frames_received - 1)
                continue
            bgr = np.asarray(decoded.to_ndarray(format="bgr24"), dtype=np.uint8)
            self.resolution_wh = (bgr.shape[1], bgr.shape[0])
            return self._frame(bgr, self._media_time_s(decoded))
        if self.stats.frames_received == self.stats.frames_skipped and not self._closed:
            raise CameraError(f"{self._path} holds no frame that can be decoded: it is damaged, convert it again")
        return None

    def close(self) -> None:
        """Closes the file."""
        self._closed = True
        self._decoded = iter(())
        self._container.close()

    def _decode(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                self.stats.frames_received += 1
                self.stats.frames_skipped += 1
                _log.warning("%s: a damaged piece after frame %d, skipped", self._path, self.stats.frames_received)

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                yield next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                _log.warning("%s ends early: %s", self._path, error.strerror)
                return

    def _media_time_s(self, decoded: VideoFrame) -> float:
        index = self.stats.frames_received - 1
        if self._fps or decoded.pts is None or decoded.time_base is None:
            return index / (self.fps or STILLS_FPS)
        if self._first_pts is None:
            self._first_pts = decoded.pts
        return max(0.0, float((decoded.pts - self._first_pts) * Fraction(decoded.time_base)))


class FolderCamera(_PlayedCamera):
    """A folder of stills in natural order (`2.jpg` before `10.jpg`), all of one size.

    Args:
        path: The folder, or one with a folder `images` (what `walt-train rwalt` writes); hidden files and other types
            are left out.
        fps: Rate that replaces the times in the names, frames a second.

    Raises:
        CameraError: No stills in it, or the first cannot be read.
    """

    def __init__(self, path: Path, *, fps: float | None = None) -> None:
        self._paths = find_stills(path)
        fps = _checked_fps(fps)
        dates = [date_us(still.stem) for still in self._paths]
        dated = [date for date in dates if date is not None]
        by_name = fps is None and len(dated) == len(dates) and dated == sorted(dated)
        self._times_s = [(date - dated[0]) / 1e6 for date in dated] if by_name else []
        height, width = read_still(self._paths[0]).shape[:2]
        super().__init__((width, height), 0.0 if by_name else fps or STILLS_FPS, *_file_time(self._paths[0]))

    def read(self, timeout_s: float) -> Frame | None:
        """The next still, or None at the end.

        Raises:
            CameraError: A still cannot be read or has another size; the next read goes on behind it.
        """
        index = self.stats.frames_received
        if index >= len(self._paths):
            return None
        self.stats.frames_received += 1
        try:
            bgr = read_still(self._paths[index])
            self._check_size(self._paths[index], bgr)
        except CameraError:
            self.stats.frames_skipped += 1
            raise
        return self._frame(bgr, self._times_s[index] if self._times_s else index / self.fps)

    def _check_size(self, path: Path, bgr: NDArray[np.uint8]) -> None:
        width, height = self.resolution_wh
        if bgr.shape[:2] != (height, width):
            raise CameraError(
                f"{path} is {bgr.shape[1]}x{bgr.shape[0]} and the frames before it {width}x{height}: "
                "a fixed camera has one size, put others into a folder of their own"
            )

    def close(self) -> None:
        """Ends the sequence."""
        self._paths = []


def _checked_fps(fps: float | None) -> float | None:
    if fps is not None and not 0 < fps <= 1000:
        raise CameraError(f"fps is {fps}: give a rate above 0 and up to 1000 frames a second")
    return fps


def _file_time(path: Path) -> tuple[int, Clock]:
    named = date_us(path.stem)
    if named is not None:
        return named, Clock.SYNCHRONISED
    return max(0, path.stat().st_mtime_ns // 1000), Clock.UNSYNCHRONISED


def date_us(name: str) -> int | None:
    """Microseconds since 1970 of the date and time in a name, read as UTC; None if there is none."""
    found = _DATE.search(name)
    if found is None:
        return None
    try:
        date = datetime.datetime(*(int(group) for group in found.groups()), tzinfo=datetime.UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return max(0, int(date.timestamp()) * 1_000_000)
