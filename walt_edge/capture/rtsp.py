"""A live camera, watched by a process of its own: FFmpeg may hang or crash there without harm to the agent.

The decoder reconnects by itself (jittered, at most 2 s apart, forever). This side replaces the decoder when it dies
or stops answering, and never waits longer than it was asked to. Only the newest frame is ever handed out; what was
superseded is counted.
"""

from __future__ import annotations

import logging
import time

from walt_edge.camera import (
    OPEN_S,
    STALL_S,
    CameraError,
    CameraRefusedError,
    CameraStats,
    CameraTimeout,
    CameraUnreachableError,
    Frame,
    Transport,
)
from walt_edge.capture.child import ASK_S, START_S, DecoderProcess
from walt_edge.capture.clock import live_moment
from walt_edge.capture.wire import PAUSE_FIRST_S, PAUSE_MOST_S, SOFTWARE, Answer, History, Order, Question
from walt_edge.contract.backoff import Backoff
from walt_edge.contract.closing import Closing
from walt_edge.contract.redaction import redact

_LEAST_S = 0.1
_log = logging.getLogger(__name__)


class RtspCamera(Closing):
    """One live camera; see `walt_edge.camera.Camera`.

    Args:
        url: `rtsp://` or `rtsps://`.
        transport: `tcp` or `udp`.
        retry_first: Whether a first connection that fails is retried instead of reported; nothing is waited for then.
        open_s: How long connecting may take.
        stall_s: How long the camera, or the decoder's process, may be silent before it is started anew.
        hardware: What decodes: `auto`, `off`, or a device; see `walt_edge.capture.hardware`.

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
        hardware: str = "auto",
    ) -> None:
        self._url, self._transport, self._hardware = url, transport, hardware
        self._open_s, self._stall_s = open_s, stall_s
        self.resolution_wh = (0, 0)
        self.fps = 0.0
        self.stats = CameraStats()
        self._history = History()
        self._read = 0
        self._decoder: DecoderProcess | None = None
        self._device, self._notice = "", ""
        self._backoff = Backoff(PAUSE_FIRST_S, PAUSE_MOST_S)
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

        Args:
            timeout_s: How long to wait, never longer; less than 0.1 s counts as that, for an answer takes its time.

        Raises:
            CameraTimeout: None came within `timeout_s`; the camera goes on trying.
        """
        deadline = time.monotonic() + max(timeout_s, _LEAST_S)
        while True:
            answer = self._ask(max(0.0, deadline - time.monotonic()), peek=False)
            if answer is not None and answer.fresh:
                return self._frame(answer)
            if time.monotonic() >= deadline:
                why = self._silence()
                raise CameraTimeout(f"no frame from {redact(self._url)} within {timeout_s:g} s: {why}")

    def close(self) -> None:
        """Ends the decoder's process, within a second whatever its state; harmless when repeated."""
        self._closed = True
        if self._decoder is not None:
            self._decoder.end()
            self._decoder = None

    @property
    def decoder_pid(self) -> int | None:
        """The decoder's process, or None while there is none."""
        return self._decoder.pid if self._decoder is not None else None

    @property
    def device(self) -> str:
        """What decodes: a device or `software`; empty before the first connection."""
        return self._device

    def _await_first(self) -> None:
        """Waits for the first frame; raises what keeps it from coming."""
        deadline = time.monotonic() + START_S + self._open_s + self._stall_s
        while time.monotonic() < deadline:
            answer = self._ask(ASK_S, peek=True)
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

    def _silence(self) -> str:
        """Why no frame comes; after a while that is a problem, whatever the camera says or does not say."""
        arrived_ns = self._history.arrived_ns
        if not self.stats.problem and arrived_ns and time.monotonic_ns() - arrived_ns > 1e9 * self._stall_s:
            self.stats.problem = "it sends nothing"
        return self.stats.problem or "it sends nothing"

    def _ask(self, timeout_s: float, *, peek: bool) -> Answer | None:
        """One question and its answer; None if there is no decoder, or it does not answer in time."""
        decoder = self._running_decoder(timeout_s)
        if decoder is None:
            return None
        question = Question(self._read, ASK_S, peek)
        try:
            answer = decoder.ask(question, min(timeout_s, ASK_S))
        except (EOFError, OSError):
            self._replace("died")
            return None
        if answer is None:
            if decoder.hangs(self._stall_s):
                self._replace("hangs")
            return None
        self._note(answer)
        if not answer.working and not answer.fresh:
            self._replace("does not decode any more")
        return answer

    def _note(self, answer: Answer) -> None:
        self._history = answer.history
        self.stats.frames_received = answer.history.received
        self.stats.reconnects = max(0, answer.history.sessions - 1)
        self.stats.stalls = answer.history.stalls
        self._device = answer.device
        if answer.fresh:
            self.resolution_wh, self.fps = answer.resolution_wh, answer.fps
            self._backoff.reset()
            self.stats.problem = ""
        elif answer.problem[1]:
            self.stats.problem = answer.problem[1]
        if answer.notice and answer.notice != self._notice:
            self._notice = answer.notice
            level = logging.INFO if self._hardware == "auto" else logging.WARNING
            _log.log(level, "%s: %s", redact(self._url), answer.notice)

    def _running_decoder(self, timeout_s: float) -> DecoderProcess | None:
        """The decoder; starts one if there is none and the pause after the last is over."""
        if self._closed:
            raise CameraError(f"{redact(self._url)} is closed: open it again")
        if self._decoder is None:
            wait_s = self._start_at - time.monotonic()
            if wait_s > 0:
                time.sleep(min(wait_s, timeout_s))
            if time.monotonic() < self._start_at:
                return None
            self._decoder = self._started()
        return self._decoder

    def _started(self) -> DecoderProcess | None:
        order = Order(self._url, self._transport, self._open_s, self._stall_s, self._hardware, self._history)
        try:
            return DecoderProcess(order)
        except OSError as error:
            self._pause(f"the decoder cannot be started ({error.strerror}); look for what fills memory or processes")
            return None

    def _replace(self, why: str) -> None:
        assert self._decoder is not None
        how = self._decoder.end(at_once=why != "died")
        self._decoder = None
        self.stats.decoder_restarts += 1
        if why == "died":
            why = f"died ({how})"
        if self._hardware != "off" and self._device != SOFTWARE:
            # A driver can take its process with it, even while it is looked for; software cannot be worse.
            self._hardware, why = "off", f"{why} with {self._device or 'a device looked for'}, software decodes now"
        self._pause(f"the decoder {why}")

    def _pause(self, problem: str) -> None:
        _log.warning("%s: %s; starting another", redact(self._url), problem)
        self.stats.problem = problem
        self._start_at = time.monotonic() + self._backoff.next_s()
