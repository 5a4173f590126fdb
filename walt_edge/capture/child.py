"""The decoder's process as the agent holds it: a socket, shared memory, and a life that can be ended at any time."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time

from walt_edge.capture.wire import LEAVE, Answer, Order, Question, Slot, receive, send

START_S = 10.0  # to come up on a busy device
ASK_S = 1.0  # one question waits so long at most, so that silence means a decoder that hangs
_YOUNG_S = 0.3
_LEAVE_S = 0.5  # to say goodbye to the camera
_DIE_S = 0.5
# The name server is asked again soon: a resolver's own five seconds would outlast a decoder's patience.
_RESOLVER = "timeout:1 attempts:2"
_log = logging.getLogger(__name__)


class DecoderProcess:
    """A running decoder process, its socket and its shared memory.

    Args:
        order: What it shall watch.

    Attributes:
        pid: The process.
        slot: Where the pixels of the last answer are, until the next question.

    Raises:
        OSError: The system gives no process, memory or descriptor.
    """

    def __init__(self, order: Order) -> None:
        self._memory = os.memfd_create("walt-frame", os.MFD_CLOEXEC)
        self.slot = Slot(self._memory)
        self._has_answered = False
        self._asked_at: float | None = None
        # Sequenced packets: messages keep their bounds, and the other side's death is an end of file.
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "walt_edge.capture.decoder", str(theirs.fileno()), str(self._memory)]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), self._memory),
                    env={"RES_OPTIONS": _RESOLVER, **os.environ},
                )
        except OSError:
            self._release()
            raise
        self.pid = self._process.pid
        send(self._connection, order)  # its own end keeps the message, even if the process is gone by now

    def ask(self, question: Question, timeout_s: float) -> Answer | None:
        """Asks, unless the last question has no answer yet, and waits for the answer.

        Returns:
            The answer, or None if it does not come in time; it is waited for the next time then.

        Raises:
            EOFError, OSError: The process is gone.
        """
        try:
            if self._asked_at is not None:
                lying = self._heard(0.0)
                if lying is None:
                    return self._heard(timeout_s)
                if _is_young(lying):
                    return lying
                # Its frame was the newest when it was given, and that is long ago.
            self._connection.settimeout(timeout_s)
            send(self._connection, question)
            self._asked_at = time.monotonic()
            return self._heard(timeout_s)
        except TimeoutError:
            return None

    def hangs(self, patience_s: float) -> bool:
        """Whether a question has had no answer for so long; it is given longer to come up."""
        if self._asked_at is None:
            return False
        patience_s = max(patience_s, 2 * ASK_S) + (0.0 if self._has_answered else START_S)
        return time.monotonic() - self._asked_at > patience_s

    def end(self, *, at_once: bool = False) -> str:
        """Ends and reaps the process within a second, and frees the memory; returns how it ended.

        Args:
            at_once: Without a goodbye, as befits one that hangs.
        """
        status = self._process.poll()
        if status is None and not at_once:
            self._process.send_signal(LEAVE)
            status = self._waited(_LEAVE_S)
        if status is None:
            self._process.kill()
            if self._waited(_DIE_S) is None:
                _log.error("process %d cannot be killed: its driver or its disk hangs", self.pid)
        self._release()
        return "" if status is None else f"signal {-status}" if status < 0 else f"status {status}"

    def _heard(self, timeout_s: float) -> Answer | None:
        """The answer, or None if it does not come in time."""
        self._connection.settimeout(timeout_s)
        try:
            answer = receive(self._connection, Answer)
        except (TimeoutError, BlockingIOError):
            return None
        self._asked_at, self._has_answered = None, True
        return answer

    def _waited(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def _release(self) -> None:
        self._connection.close()
        self.slot.close()
        os.close(self._memory)


def _is_young(answer: Answer) -> bool:
    return answer.fresh and time.monotonic_ns() - answer.history.arrived_ns < 1e9 * _YOUNG_S
