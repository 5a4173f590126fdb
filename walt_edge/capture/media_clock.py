"""A stream's own time, over connections and odd cameras.

A frame's media time is its presentation time as FFmpeg maps it by the server's RTP-Info and range: seconds since
the beginning of what the server plays, whether or not that frame was seen. It never runs backwards: after a
reconnection, or when the camera's timestamps jump back, it goes on from the last frame by the time that has passed
on the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

MAX_UNTIMED = 3
MAX_GAP_S = 24 * 3600.0


class Timed(Protocol):
    """What is needed of a decoded frame."""

    @property
    def time(self) -> float | None:
        """Presentation time, seconds."""


_T = TypeVar("_T", bound=Timed)


class MediaClock:
    """Maps presentation times to media times that only grow.

    Args:
        media_time_s: Of the last frame of an earlier clock.
        arrived_ns: Monotonic time of that frame; 0 if there was none.
    """

    def __init__(self, media_time_s: float = 0.0, arrived_ns: int = 0) -> None:
        self._media_time_s = media_time_s
        self._arrived_ns = arrived_ns
        self._offset_s: float | None = None if arrived_ns else 0.0
        self._pts_s: float | None = None
        self.fps = 0.0

    def begin_session(self) -> None:
        """A new connection: its timestamps have nothing to do with those before."""
        self._pts_s = None
        if self._arrived_ns:
            self._offset_s = None

    def stamp(self, pts_s: float | None, arrived_ns: int) -> float:
        """The media time of the next frame, seconds."""
        passed_s = max(0.0, (arrived_ns - self._arrived_ns) / 1e9) if self._arrived_ns else 0.0
        if pts_s is None:
            media_time_s = self._media_time_s + passed_s
        else:
            if self._pts_s is not None and not 0 < pts_s - self._pts_s < MAX_GAP_S:
                self._offset_s = None
            elif self._pts_s is not None:
                self.fps = round(1 / (pts_s - self._pts_s), 3)
            # Frames without a time may have taken the clock past the first one that has one.
            if self._offset_s is None or pts_s + self._offset_s < self._media_time_s:
                self._offset_s = self._media_time_s + passed_s - pts_s
            self._pts_s = pts_s
            media_time_s = max(self._media_time_s, pts_s + self._offset_s)
        self._media_time_s, self._arrived_ns = media_time_s, arrived_ns
        return media_time_s


def with_times(frames: Iterable[tuple[_T, int]]) -> Iterator[tuple[_T, float | None, int]]:
    """Adds presentation times: (frame, seconds or None, arrival).

    FFmpeg gives the first frame of an RTSP session no time. It is held until two timed ones show their distance, and
    gets what is missing at the beginning; a stream that never tells times is passed on without.
    """
    held: list[tuple[_T, int]] = []
    source = iter(frames)
    for frame, arrived_ns in source:
        held.append((frame, arrived_ns))
        times = [f.time for f, _ in held if f.time is not None]
        if len(times) == len(held) or len(times) == 2 or len(held) - len(times) > MAX_UNTIMED:
            break
    yield from _timed(held)
    for frame, arrived_ns in source:
        yield frame, frame.time, arrived_ns


def _timed(held: list[tuple[_T, int]]) -> Iterator[tuple[_T, float | None, int]]:
    untimed = next((i for i, (frame, _) in enumerate(held) if frame.time is not None), len(held))
    times = [frame.time for frame, _ in held[untimed:] if frame.time is not None]
    for index, (frame, arrived_ns) in enumerate(held):
        if index < untimed and len(times) == 2:
            before_s = (times[1] - times[0]) * (untimed - index)
            yield frame, max(0.0, times[0] - before_s), arrived_ns
        else:
            yield frame, frame.time, arrived_ns
