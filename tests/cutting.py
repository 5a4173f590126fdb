"""A bad link: a proxy in front of a server that cuts every connection after so many bytes."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.broker import HOST


class BadLink:
    """Passes on what comes and goes, as a context manager, until a connection has brought too much.

    Args:
        url: Of the server behind it.
        cut_bytes: So many of the server's bytes come through on one connection; may be changed while it runs.
        is_rude: Resets connections, which may take with it what was already sent, instead of closing them.
    """

    def __init__(self, url: str, cut_bytes: int, is_rude: bool = False) -> None:
        host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
        self._behind = (host, int(port))
        self._listening = socket.create_server((HOST, 0))
        self.cut_bytes, self.is_rude, self.connections = cut_bytes, is_rude, 0
        self.url = f"http://{HOST}:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self.connections += 1
                with suppress(OSError), near, socket.create_connection(self._behind) as far:
                    self._pass(near, far)

    def _pass(self, near: socket.socket, far: socket.socket) -> None:
        """What both say, until one of them ends it or there was too much of it."""
        left = self.cut_bytes
        while left > 0:
            for source in select.select([near, far], [], [])[0]:
                data = source.recv(min(left, 1 << 16))
                if not data:
                    return
                (near if source is far else far).sendall(data)
                left -= len(data) if source is far else 0
        if self.is_rude:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
