"""A live camera, watched by a process of its own: FFmpeg may hang or crash there without harm to the agent.

The decoder reconnects by itself (jittered, exponential, at most 2 s apart, forever). This side replaces the decoder
when it dies or stops answering. Only the newest frame is ever handed out; what was superseded is counted.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from walt_edge.camera import (
    CameraError,
    CameraRefusedError,
    CameraStats,
    CameraTimeout,
    CameraUnreachableError,
    Frame,
    Transport,
    redact,
)
from walt_edge.capture.clock import live_moment
from walt_edge.capture.decoder import BACKOFF_FIRST_S, BACKOFF_MAX_S
from walt_edge.capture.wire import Answer, History, Order, Question, Slot, receive, send

OPEN_S = 5.0
STALL_S = 5.0
START_S = 10.0  # for a decoder's process to come up on a busy device
_ASK_S = 1.0  # one question waits so long at most, so that silence means a decoder that hangs
_GRACE_S = 0.25
_log = logging.getLogger(__name__)


class RtspCamera:
    """One live camera; see `walt_edge.camera.Camera`.

    Args:
        url: `rtsp://` or `rtsps://`.
        transport: `tcp` or `udp`.
        retry_first: Whether a first connection that fails is retried instead of reported.
        open_s: How long connecting may take.
        stall_s: How long the camera, or the decoder's process, may be silent before it is started anew.

    Raises:
        CameraUnreachableError: No connection.
        CameraRefusedError: The camera would not play.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: Transport = "tcp",
        retry_first: bool = False,
        open_s: float = OPEN_S,
        stall_s: float = STALL_S,
    ) -> None:
        self._url, self._transport = url, transport
        self._open_s, self._stall_s = open_s, stall_s
        self.resolution_wh = (0, 0)
        self.fps = 0.0
        self.stats = CameraStats()
        self._history = History()
        self._read = 0
        self._serial = 0
        self._decoder: _Decoder | None = None
        self._backoff_s = BACKOFF_FIRST_S
        self._start_at = 0.0
        self._closed = False
        if not retry_first:
            try:
                self._await_first()
            except BaseException:
                self.close()
                raise

    def read(self, timeout_s: float) -> Frame:
        """The newest frame that was not read yet; waits for one.

        Raises:
            CameraTimeout: None came within `timeout_s`; the camera goes on trying.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._ask(max(0.0, deadline - time.monotonic()), peek=False)
            if answer is not None and answer.fresh:
                return self._frame(answer)
            if time.monotonic() >= deadline:
                why = answer.problem[1] if answer is not None and answer.problem[1] else "it sends nothing"
                raise CameraTimeout(f"no frame from {redact(self._url)} within {timeout_s:g} s: {why}")

    def close(self) -> None:
        """Ends the decoder's process; harmless when repeated."""
        self._closed = True
        if self._decoder is not None:
            self._decoder.end()
            self._decoder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def decoder_pid(self) -> int | None:
        """The decoder's process, or None while there is none."""
        return self._decoder.pid if self._decoder is not None else None

    def _await_first(self) -> None:
        """Waits for the first frame; raises what keeps it from coming."""
        deadline = time.monotonic() + START_S + self._open_s + self._stall_s
        while time.monotonic() < deadline:
            answer = self._ask(_ASK_S, peek=True)
            if answer is None:
                continue
            if answer.fresh:
                return
            kind, text = answer.problem
            if kind:
                error = CameraUnreachableError if kind == "unreachable" else CameraRefusedError
                raise error(f"cannot watch {redact(self._url)}: {text}")
        raise CameraUnreachableError(
            f"cannot watch {redact(self._url)}: it sends no picture; check the path, and that it plays H.264 or H.265"
        )

    def _frame(self, answer: Answer) -> Frame:
        assert self._decoder is not None
        bgr = self._decoder.slot.read(answer.resolution_wh)
        received = answer.history.received
        self.stats.frames_skipped += received - self._read - 1
        self._read = received
        moment = live_moment(answer.history.media_time_s, answer.history.arrived_ns)
        return Frame(bgr, received - 1, moment)

    def _ask(self, timeout_s: float, *, peek: bool) -> Answer | None:
        """One question and its answer; None if there is no decoder, or it does not answer in time."""
        decoder = self._running_decoder(timeout_s)
        if decoder is None:
            return None
        self._serial += 1
        question = Question(self._serial, self._read, min(timeout_s, _ASK_S), peek)
        try:
            answer = decoder.ask(question)
        except (EOFError, OSError) as error:
            self._replace(f"died ({type(error).__name__})")
            return None
        if answer is None:
            if decoder.silent_s() > max(self._stall_s, _ASK_S) + (0.0 if decoder.has_answered else START_S):
                self._replace("hangs")
            return None
        self._note(answer)
        if not answer.working:
            self._replace("does not decode any more")
        return answer

    def _note(self, answer: Answer) -> None:
        self._history = answer.history
        self.stats.frames_received = answer.history.received
        self.stats.reconnects = max(0, answer.history.sessions - 1)
        if answer.fresh:
            self.resolution_wh, self.fps = answer.resolution_wh, answer.fps
            self._backoff_s = BACKOFF_FIRST_S

    def _running_decoder(self, timeout_s: float) -> _Decoder | None:
        """The decoder; starts one if there is none and the pause after the last is over."""
        if self._closed:
            raise CameraError(f"{redact(self._url)} is closed: open it again")
        if self._decoder is None:
            wait_s = self._start_at - time.monotonic()
            if wait_s > 0:
                time.sleep(min(wait_s, timeout_s))
            if time.monotonic() < self._start_at:
                return None
            order = Order(self._url, self._transport, self._open_s, self._stall_s, self._history)
            self._decoder = _Decoder(order)
        return self._decoder

    def _replace(self, why: str) -> None:
        assert self._decoder is not None
        _log.warning("the decoder of %s %s; starting another", redact(self._url), why)
        self._decoder.end()
        self._decoder = None
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_MAX_S)
        self._start_at = time.monotonic() + self._backoff_s * random.uniform(0.5, 1.0)


class _Decoder:
    """A running decoder process, its socket and its shared memory."""

    def __init__(self, order: Order) -> None:
        self._memory = os.memfd_create("walt-frame", os.MFD_CLOEXEC)
        self.slot = Slot(self._memory)
        # Sequenced packets: messages keep their bounds, and the other side's death is an end of file.
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "walt_edge.capture.decoder", str(theirs.fileno()), str(self._memory)]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), self._memory)
            )
        self.pid = self._process.pid
        self._unanswered_since: float | None = None
        self.has_answered = False
        self._connection.settimeout(_GRACE_S)
        send(self._connection, order)

    def ask(self, question: Question) -> Answer | None:
        """The answer to `question`, or None if it does not come in time.

        Raises:
            EOFError, OSError: The process is gone.
        """
        asked_at = time.monotonic()
        deadline = asked_at + question.timeout_s + _GRACE_S
        if self._unanswered_since is None:
            self._unanswered_since = asked_at
        try:
            self._connection.settimeout(_GRACE_S)
            send(self._connection, question)
            while (left_s := deadline - time.monotonic()) > 0:
                self._connection.settimeout(left_s)
                answer = receive(self._connection, Answer)
                self._unanswered_since, self.has_answered = None, True
                if answer.serial == question.serial:
                    return answer
        except TimeoutError:
            pass
        return None

    def silent_s(self) -> float:
        """For how long a question has had no answer."""
        return 0.0 if self._unanswered_since is None else time.monotonic() - self._unanswered_since

    def end(self) -> None:
        """Ends and reaps the process, and frees the memory."""
        self._connection.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.slot.close()
        os.close(self._memory)
