"""The process that watches one live camera: connects, decodes, keeps the newest frame, connects again, forever.

Started by `walt_edge.capture.rtsp` with a socket and a memory descriptor. One thread decodes; one answers questions
and ends the process the moment the agent is gone. A decoded frame is converted only when it is asked for.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from walt_edge.capture.media_clock import MediaClock, with_times
from walt_edge.capture.wire import Answer, History, Order, Question, Slot, receive, send

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0
HUNG_AFTER_S = 3.0  # beyond the longest time limit that FFmpeg was given
MAX_DECLARED_FPS = 240.0


class Newest:
    """The newest decoded frame, and how the camera is; shared by the two threads."""

    def __init__(self, order: Order) -> None:
        self._limit_s = max(order.open_s, order.stall_s) + HUNG_AFTER_S
        self._changed = threading.Condition()
        self._frame: VideoFrame | None = None
        self._history = order.history
        self._fps = 0.0
        self._problem = ("", "")
        self._moved_at = time.monotonic()

    def moved(self) -> None:
        """Says that the decoding thread is alive."""
        self._moved_at = time.monotonic()

    def offer(self, frame: VideoFrame, history: History, fps: float) -> None:
        """Replaces the newest frame."""
        with self._changed:
            self._frame, self._history, self._fps, self._problem = frame, history, fps, ("", "")
            self._changed.notify_all()

    def failed(self, kind: str, text: str) -> None:
        """Says why connecting failed."""
        with self._changed:
            self._problem = (kind, text)
            self._changed.notify_all()

    def answer(self, question: Question, slot: Slot) -> Answer:
        """Waits for what was asked, and puts the pixels into the slot."""
        with self._changed:
            self._changed.wait_for(lambda: self._answers(question), question.timeout_s)
            frame, history, fps, problem = self._frame, self._history, self._fps, self._problem
        fresh = frame is not None and history.received > question.after
        if frame is not None and fresh and not question.peek:
            slot.write(np.asarray(frame.to_ndarray(format="bgr24"), dtype=np.uint8))
        return Answer(
            serial=question.serial,
            fresh=fresh,
            resolution_wh=(frame.width, frame.height) if frame is not None else (0, 0),
            fps=fps,
            history=history,
            working=time.monotonic() - self._moved_at < self._limit_s,
            problem=problem,
        )

    def _answers(self, question: Question) -> bool:
        fresh = self._frame is not None and self._history.received > question.after
        return fresh or (question.peek and self._problem[0] != "")


class Watcher:
    """Decodes one camera, connection after connection."""

    def __init__(self, order: Order, newest: Newest) -> None:
        self._order = order
        self._newest = newest
        self._history = order.history
        self._clock = MediaClock(order.history.media_time_s, order.history.arrived_ns)

    def watch_forever(self) -> None:
        """Plays the camera; every end of a connection, whatever its cause, is followed by another try."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            sessions, began_at = self._history.sessions, time.monotonic()
            try:
                self._play()
                self._newest.failed("ended", "the stream ended")
            except (av.FFmpegError, OSError) as error:
                self._newest.failed(*explain(error, self._order, time.monotonic() - began_at))
            backoff_s = BACKOFF_FIRST_S if self._history.sessions > sessions else min(2 * backoff_s, BACKOFF_MAX_S)
            self._newest.moved()
            time.sleep(backoff_s * random.uniform(0.5, 1.0))

    def _play(self) -> None:
        self._newest.moved()
        # A camera says all that is needed in its description and first keyframe; probing would only hold frames back.
        options = {"rtsp_transport": self._order.transport, "allowed_media_types": "video", "probesize": "32"}
        limits = (self._order.open_s, self._order.stall_s)
        with av.open(self._order.url, options=options, timeout=limits) as container:
            if not container.streams.video:
                raise av.InvalidDataError(0, "no video stream")
            stream = container.streams.video[0]
            self._clock.begin_session()
            begun = False
            for frame, media_pts_s, arrived_ns in with_times(self._decoded(container, stream)):
                self._history = History(
                    received=self._history.received + 1,
                    sessions=self._history.sessions + (not begun),
                    media_time_s=self._clock.stamp(media_pts_s, arrived_ns),
                    arrived_ns=arrived_ns,
                )
                begun = True
                if not frame.is_corrupt:  # counted as skipped with the next good one
                    self._newest.offer(frame, self._history, self._fps(stream))

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame, int]]:
        """Frames with their arrival; raises when packets come but no frame does."""
        last_frame_ns = time.monotonic_ns()
        for packet in container.demux(stream):
            arrived_ns = time.monotonic_ns()
            self._newest.moved()
            for frame in _decode(packet):
                last_frame_ns = arrived_ns
                yield frame, arrived_ns
            if arrived_ns - last_frame_ns > 2e9 * self._order.stall_s:
                raise av.InvalidDataError(0, "packets without pictures")

    def _fps(self, stream: VideoStream) -> float:
        declared = float(stream.average_rate or stream.codec_context.framerate or 0)
        return declared if 0 < declared <= MAX_DECLARED_FPS else self._clock.fps


def _decode(packet: av.Packet[VideoStream]) -> Iterable[VideoFrame]:
    try:
        return packet.decode()
    except av.InvalidDataError:
        return ()  # a lossy transport's damage; the next keyframe mends it


def explain(error: av.FFmpegError | OSError, order: Order, after_s: float) -> tuple[str, str]:
    """The kind of a failure and its cause and remedy; never quotes FFmpeg's text, which may hold the URL.

    Args:
        error: What FFmpeg raised.
        order: What it was asked to do.
        after_s: How long it had tried: an interrupted wait does not always say that it was one.
    """
    host = urlsplit(order.url).hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return "unreachable", f"the host '{host}' is unknown; check its name and the network"
    if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):
        return "refused", "wrong user or password; write them as rtsp://USER:PASSWORD@HOST/PATH"
    if isinstance(error, av.HTTPNotFoundError):
        return "refused", "it has no stream at this path; look the path up in the camera's manual"
    if isinstance(error, ConnectionRefusedError):
        return "unreachable", "nothing listens at this address and port; check them, and that the camera is on"
    if isinstance(error, av.ExitError | TimeoutError) or after_s >= order.open_s:
        return (
            "unreachable",
            f"no answer within {order.open_s:g} s; check address and port, and that the camera is on",
        )
    if isinstance(error, av.InvalidDataError):
        return "refused", "what answers there plays no video by RTSP; check port and path"
    return (
        "unreachable",
        f"{type(error).__name__} ({os.strerror(abs(error.errno or 0))}); check address, port and path",
    )


def answer_questions(connection: socket.socket, newest: Newest, slot: Slot) -> None:
    """Answers until the agent is gone, then ends the process: FFmpeg may hang, and must not keep it alive."""
    try:
        while True:
            send(connection, newest.answer(receive(connection, Question), slot))
    except (EOFError, OSError):
        os._exit(0)
    finally:
        os._exit(1)


def main() -> None:
    """Entry point of the process: `python -m walt_edge.capture.decoder SOCKET MEMORY` (descriptors)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the agent ends us
    av.logging.set_level(av.logging.PANIC)  # its lines may hold the URL, password included
    connection = socket.socket(fileno=int(sys.argv[1]))
    order = receive(connection, Order)
    newest = Newest(order)
    threading.Thread(
        target=answer_questions, args=(connection, newest, Slot(int(sys.argv[2]))), name="answers", daemon=True
    ).start()
    Watcher(order, newest).watch_forever()


if __name__ == "__main__":
    main()
