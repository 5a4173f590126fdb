"""A live camera's stream, connection after connection: what runs in the decoder's process.

Every end of a connection, whatever its cause, is followed by another try, without end. A connection is given up when
nothing comes over it, and also when packets come and no pictures.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol
from urllib.parse import urlsplit

import av
import msgspec
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from walt_edge.capture.hardware import Hardware
from walt_edge.capture.media_clock import MediaClock, with_times
from walt_edge.capture.wire import PAUSE_FIRST_S, PAUSE_MOST_S, History, Order
from walt_edge.contract.backoff import Backoff

MAX_DECLARED_FPS = 240.0
MAX_DECODING_THREADS = 4
MAX_PIXELS = 8192 * 4320  # noise may promise more than there is memory for
FIRST_PICTURE_S = 20.0  # cameras that compress smartly send a keyframe every ten seconds
# Of these FFmpeg knows that a picture is complete when the next one begins: it arrived one packet earlier.
ENDED_BY_THE_NEXT = frozenset({"h264", "hevc"})
# What PyAV raises on streams that are out of order; FFmpegError is not an OSError for all of its kinds.
STREAM_ERRORS = (av.FFmpegError, OSError, ValueError, RuntimeError)


class Taker(Protocol):
    """Who is told of everything that happens."""

    def moved(self) -> None:
        """The decoding thread is alive."""

    def offer(self, frame: VideoFrame, history: History, fps: float) -> None:
        """A frame, newer than all before."""

    def failed(self, problem: tuple[str, str], stalls: int) -> None:
        """A connection ended, or none came about."""

    def decodes_with(self, device: str, notice: str) -> None:
        """What decodes, and why it is not what was wished for."""


class StalledError(Exception):
    """Packets come and no pictures."""


class NoVideoError(Exception):
    """What is played is no video, or none of a known codec."""


class LiveStream:
    """Decodes one camera, connection after connection.

    Args:
        order: What to watch, and how long to wait.
        taker: Where the frames go.
    """

    def __init__(self, order: Order, taker: Taker) -> None:
        self._order = order
        self._taker = taker
        self._history = order.history
        self._clock = MediaClock(order.history.media_time_s, order.history.arrived_ns)
        self._hardware = Hardware(order.hardware)
        self._connected = False
        self._heard_at = 0.0
        taker.decodes_with(self._hardware.device, self._hardware.notice)

    def play_forever(self, pause: Callable[[float], None] = time.sleep) -> None:
        """Plays the camera until the process ends."""
        backoff = Backoff(PAUSE_FIRST_S, PAUSE_MOST_S)
        while True:
            began_at = time.monotonic()
            self._play_once()
            self._taker.moved()
            lasted_s = time.monotonic() - began_at
            if lasted_s > PAUSE_MOST_S and self._connected:
                backoff.reset()
            # Attempts begin so far apart: one that took long to fail was a pause already.
            pause(max(0.0, backoff.next_s() - (0.0 if self._connected else lasted_s)))

    def _play_once(self) -> None:
        self._connected, self._heard_at = False, time.monotonic()
        try:
            self._play()
            problem = ("ended", "the stream ended")
        except (*STREAM_ERRORS, StalledError, NoVideoError) as error:
            problem = self._explained(error)
            if not self._connected:
                self._hardware.recheck()
        if problem[0] == "stalled":
            self._history = msgspec.structs.replace(self._history, stalls=self._history.stalls + 1)
        self._taker.failed(problem, self._history.stalls)
        self._taker.decodes_with(self._hardware.device, self._hardware.notice)

    def _play(self) -> None:
        self._taker.moved()
        # A camera says all that is needed in its description and first keyframe; probing would only hold frames back.
        options = {"rtsp_transport": self._order.transport, "allowed_media_types": "video", "probesize": "32"}
        limits = (self._order.open_s, self._order.stall_s)
        accel = self._hardware.accel()
        with av.open(
            self._order.url, options=options, timeout=limits, hwaccel=accel, metadata_errors="replace"
        ) as container:
            stream = _prepared(container)
            self._connected, self._heard_at = True, time.monotonic()
            self._clock.begin_session()
            self._take(container, stream)

    def _take(self, container: InputContainer, stream: VideoStream) -> None:
        begun = False
        for frame, media_pts_s, arrived_ns in with_times(self._decoded(container, stream)):
            self._history = History(
                received=self._history.received + 1,
                sessions=self._history.sessions + (not begun),
                stalls=self._history.stalls,
                media_time_s=self._clock.stamp(media_pts_s, arrived_ns),
                arrived_ns=arrived_ns,
            )
            begun = True
            if not frame.is_corrupt:  # counted as skipped with the next good one
                self._taker.offer(frame, self._history, self._fps(stream))

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame, int]]:
        """Frames with their arrival; raises when nothing comes any more, or packets and no frame."""
        ends_late = stream.codec_context.name in ENDED_BY_THE_NEXT
        give_up_at = time.monotonic() + max(self._order.stall_s, FIRST_PICTURE_S)
        before_ns = 0
        for packet in container.demux(stream):
            now_ns = time.monotonic_ns()
            silent_s = now_ns / 1e9 - self._heard_at
            self._heard_at = now_ns / 1e9
            self._taker.moved()
            for frame in self._pictures(packet):
                give_up_at = self._heard_at + self._order.stall_s
                yield frame, (before_ns or now_ns) if ends_late else now_ns
            before_ns = now_ns
            if silent_s > self._order.stall_s:
                raise av.TimeoutError(0, "silent")  # FFmpeg gave what it still had
            if self._heard_at > give_up_at:
                self._hardware.failed("gave no picture")
                raise StalledError

    def _pictures(self, packet: av.Packet[VideoStream]) -> Iterable[VideoFrame]:
        try:
            return packet.decode()
        except av.InvalidDataError:
            return ()  # a lossy transport's damage; the next keyframe mends it
        except STREAM_ERRORS:
            self._hardware.failed("broke down")
            raise

    def _fps(self, stream: VideoStream) -> float:
        declared = float(stream.average_rate or stream.codec_context.framerate or 0)
        return declared if 0 < declared <= MAX_DECLARED_FPS else self._clock.fps

    def _explained(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, StalledError):
            return "stalled", "it sends packets without pictures; look at its encoder's settings, or restart it"
        silent_s = time.monotonic() - self._heard_at
        if not self._connected:
            return explain(error, self._order, silent_s)
        if isinstance(error, av.ExitError | TimeoutError) or silent_s >= self._order.stall_s:
            return "stalled", f"it sent nothing for {self._order.stall_s:g} s; check that it is on, and its network"
        return "ended", "the connection broke"


def _prepared(container: InputContainer) -> VideoStream:
    """The stream, its decoder set up.

    Raises:
        NoVideoError: There is none.
    """
    stream = next(iter(container.streams.video), None)
    if stream is None or stream.codec_context is None:
        raise NoVideoError
    # Threads that share a picture's slices; those that decode several pictures at once hold each one back.
    stream.thread_type = "SLICE"
    stream.codec_context.thread_count = min(MAX_DECODING_THREADS, os.cpu_count() or 1)
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def explain(error: Exception, order: Order, after_s: float) -> tuple[str, str]:
    """The kind of a failure to connect, its cause and remedy; never FFmpeg's text, which may hold the URL.

    Args:
        error: What FFmpeg raised.
        order: What it was asked to do.
        after_s: How long it had tried: an interrupted wait does not always say that it was one.
    """
    if isinstance(error, NoVideoError):
        return "refused", "what answers there plays no video that is known here; check port, path and codec"
    if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):
        return "refused", "wrong user or password; write them as rtsp://USER:PASSWORD@HOST/PATH"
    if isinstance(error, av.HTTPNotFoundError):
        return "refused", "it has no stream at this path; look the path up in the camera's manual"
    if isinstance(error, ConnectionRefusedError):
        return "unreachable", "nothing listens at this address and port; check them, and that the camera is on"
    host = urlsplit(order.url).hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return "unreachable", f"the host '{host}' is unknown; check its name and the network"
    if isinstance(error, av.ExitError | TimeoutError) or after_s >= order.open_s:
        return (
            "unreachable",
            f"no answer within {order.open_s:g} s; check address and port, and that the camera is on",
        )
    if isinstance(error, av.InvalidDataError):
        return "refused", "what answers there plays no video by RTSP; check port and path"
    number = getattr(error, "errno", None)
    cause = f"{type(error).__name__} ({os.strerror(abs(number))})" if number else type(error).__name__
    return "unreachable", f"{cause}; check address, port and path"
