"""The process that watches one live camera, and keeps its newest frame for whoever asks.

Started by `walt_edge.capture.child` with a socket and a memory descriptor. One thread decodes; one answers questions
and ends the process the moment the agent is gone. A decoded frame is converted only when it is asked for, and by
FFmpeg straight: the process does without NumPy and OpenCV.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

import av
import msgspec
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from walt_edge.capture.stream import LiveStream
from walt_edge.capture.wire import LEAVE, Answer, History, Order, Question, Slot, receive, send
from walt_edge.privacy.hardening import harden

HUNG_AFTER_S = 3.0  # beyond the longest time limit that FFmpeg was given


class Newest:
    """The newest decoded frame, and how the camera is; shared by the two threads."""

    def __init__(self, order: Order) -> None:
        # FFmpeg's limit for opening holds for connecting, and again for the first packet.
        self._limit_s = max(2 * order.open_s, order.stall_s) + HUNG_AFTER_S
        self._changed = threading.Condition()
        self._frame: VideoFrame | None = None
        self._history = order.history
        self._fps = 0.0
        self._problem = ("", "")
        self._device = ("", "")
        self._moved_at = time.monotonic()
        self._reformatter = VideoReformatter()  # keeps what it has found out about a conversion

    def moved(self) -> None:
        """Says that the decoding thread is alive."""
        self._moved_at = time.monotonic()

    def offer(self, frame: VideoFrame, history: History, fps: float) -> None:
        """Replaces the newest frame."""
        with self._changed:
            self._frame, self._history, self._fps, self._problem = frame, history, fps, ("", "")
            self._changed.notify_all()

    def failed(self, problem: tuple[str, str], stalls: int) -> None:
        """Says why there is no connection."""
        with self._changed:
            self._problem = problem
            # Its other counts are the newest frame's.
            self._history = msgspec.structs.replace(self._history, stalls=stalls)
            self._changed.notify_all()

    def decodes_with(self, device: str, notice: str) -> None:
        """Says what decodes."""
        with self._changed:
            self._device = (device, notice)

    def answer(self, question: Question, slot: Slot) -> Answer:
        """Waits for what was asked, and puts the pixels into the slot."""
        with self._changed:
            self._changed.wait_for(lambda: self._answers(question), question.timeout_s)
            frame, history, fps, problem, device = (
                self._frame,
                self._history,
                self._fps,
                self._problem,
                self._device,
            )
        fresh = frame is not None and history.received > question.after
        if frame is not None and fresh and not question.peek:
            self._write(frame, slot)
        return Answer(
            fresh=fresh,
            resolution_wh=(frame.width, frame.height) if frame is not None else (0, 0),
            fps=fps,
            history=history,
            working=time.monotonic() - self._moved_at < self._limit_s,
            problem=problem,
            device=device[0],
            notice=device[1],
        )

    def _write(self, frame: VideoFrame, slot: Slot) -> None:
        bgr = self._reformatter.reformat(frame, format="bgr24", threads=1)
        plane = bgr.planes[0]
        slot.write(memoryview(plane), plane.line_size, (bgr.width, bgr.height))

    def _answers(self, question: Question) -> bool:
        fresh = self._frame is not None and self._history.received > question.after
        return fresh or (question.peek and self._problem[0] != "")


def answer_questions(connection: socket.socket, newest: Newest, slot: Slot) -> None:
    """Answers until the agent is gone, then ends the process: FFmpeg may hang, and must not keep it alive."""
    try:
        while True:
            send(connection, newest.answer(receive(connection, Question), slot))
    except (EOFError, OSError):
        os._exit(0)
    finally:
        os._exit(1)


def take_leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """Ends the decoding thread where it is, so that the camera is told: its places are few."""
    raise SystemExit


def main() -> None:
    """Entry point of the process: `python -m walt_edge.capture.decoder SOCKET MEMORY` (descriptors)."""
    # Ctrl-C reaches the whole group, and so does a service manager's stop: the agent ends us, by its own signal.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(LEAVE, take_leave)
    harden()  # raw pixels are here
    av.logging.set_level(av.logging.PANIC)  # its lines may hold the URL, password included
    connection = socket.socket(fileno=int(sys.argv[1]))
    order = receive(connection, Order)
    newest = Newest(order)
    threading.Thread(
        target=answer_questions, args=(connection, newest, Slot(int(sys.argv[2]))), name="answers", daemon=True
    ).start()
    try:
        LiveStream(order, newest).play_forever()
    except SystemExit:
        os._exit(0)  # the other thread may wait for a frame


if __name__ == "__main__":
    main()
