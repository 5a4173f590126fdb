"""Tells systemd how the agent is (sd_notify): ready, alive, stopping, and one line of status.

The protocol is a datagram of `KEY=VALUE` lines to the socket named by NOTIFY_SOCKET. The watchdog is fed only while
the agent says that every one of its loops moves: a hung agent is restarted, a busy one is not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping

from walt_edge.contract.closing import Closing

LOG = logging.getLogger(__name__)

_STATUS_CHARS_MAX = 200


class Notifier(Closing):
    """A connection to the service manager; does nothing where there is none.

    Args:
        environ: Where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID stand.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ)
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self, status: str = "") -> None:
        """Start-up is over."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`; never a credential in it."""
        self._send(*_status(text))

    def alive(self) -> None:
        """Feeds the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str = "") -> None:
        """The orderly end has begun."""
        self._send("STOPPING=1", *_status(status))

    def close(self) -> None:
        """Gives the socket back; harmless when repeated."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is None or not lines:
            return
        # A manager that is away or busy loses a line, and never the agent.
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(lines).encode(), self._address)


class Watchdog:
    """Feeds systemd's watchdog from a thread of its own, as long as `is_alive` says so.

    Args:
        notifier: Whom to tell.
        is_alive: Whether every loop of the agent has moved lately; asked from the watchdog's thread.
        tell: The line for `systemctl status`, or None.
    """

    def __init__(
        self, notifier: Notifier, is_alive: Callable[[], bool], tell: Callable[[], str] | None = None
    ) -> None:
        self._notifier = notifier
        self._is_alive = is_alive
        self._tell = tell
        self._stop = threading.Event()
        self._was_alive = True
        self._thread = threading.Thread(target=self._main, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begins to feed; without a watchdog in the unit it does nothing."""
        if self._notifier.watchdog_s is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ends the feeding: the orderly end has its own time limit."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _main(self) -> None:
        assert self._notifier.watchdog_s is not None
        while not self._stop.wait(self._notifier.watchdog_s / 3):
            self._feed()

    def _feed(self) -> None:
        try:
            is_alive = self._is_alive()
            text = self._tell() if self._tell else ""
        except Exception:
            # The thread's boundary: an agent that cannot say how it is, is not fed.
            LOG.exception("the watchdog cannot ask the agent")
            return
        if is_alive:
            self._notifier.alive()
        elif self._was_alive:
            LOG.error("a loop of the agent has stopped moving; systemd will restart it if it does not recover")
        self._was_alive = is_alive
        if text:
            self._notifier.status(text)


def _address(name: str) -> str:
    """A path, or with `@` a name in Linux's abstract space."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else ""


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """The unit's WatchdogSec, if it is meant for this process."""
    try:
        pid, limit_us = int(environ.get("WATCHDOG_PID", os.getpid())), int(environ["WATCHDOG_USEC"])
    except (KeyError, ValueError):
        return None
    return limit_us / 1e6 if pid == os.getpid() and limit_us > 0 else None


def _status(text: str) -> tuple[str, ...]:
    line = " ".join(text.split())[:_STATUS_CHARS_MAX]
    return (f"STATUS={line}",) if line else ()
