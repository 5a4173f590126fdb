"""Downloads for the TUF client: with an end to everything - bytes, silence, time - and through the site's proxy."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

from walt_edge.contract.redaction import redact
from walt_edge.update.errors import CancelledError, UnreachableError

_CHUNK_BYTES = 1 << 16
_MAX_REDIRECTS = 3


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Times of one download.

    Attributes:
        connect_s: To connect.
        silence_s: Longest pause in a download.
        total_s: For one file, however it drips.
    """

    connect_s: float = 10.0
    silence_s: float = 20.0
    total_s: float = 3600.0


class Fetcher(FetcherInterface):
    """HTTP(S) by urllib3; proxies and certificate authorities come from the usual environment variables.

    Args:
        folder: Where a download lies until it is checked; on the same disk as what it becomes.
        limits: Times.
        ca: A certificate authority's file instead of the system's.
        is_cancelled: Asked between any two pieces of a download.
        note: Told of every piece how many bytes it has.
    """

    def __init__(
        self,
        folder: Path,
        limits: FetchLimits | None = None,
        ca: Path | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
        note: Callable[[int], None] = lambda size_bytes: None,
    ) -> None:
        self._folder = folder
        self._note = note
        self._limits = limits or FetchLimits()
        self._is_cancelled = is_cancelled
        limited = urllib3.Timeout(connect=self._limits.connect_s, read=self._limits.silence_s)
        self._options: dict[str, Any] = {
            "timeout": limited,
            # Whether and when to try again is decided above, where a person is told.
            "retries": urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=_MAX_REDIRECTS),
            "ca_certs": str(ca) if ca else None,
            "headers": {"User-Agent": "walt-edge"},
        }

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """A file of at most `max_length` bytes, as the base class gives it, but in our own folder.

        Raises:
            DownloadHTTPError: The server says no.
            DownloadLengthMismatchError: It sends more.
            UnreachableError: No connection, silence, or out of time.
            CancelledError: Not wanted any more.
            OSError: The disk is full.
        """
        received = 0
        with tempfile.TemporaryFile(dir=self._folder) as file:
            for chunk in self._fetch(url):
                received += len(chunk)
                if received > max_length:
                    raise DownloadLengthMismatchError(f"{redact(url)} sends more than the {max_length} bytes it may")
                file.write(chunk)
            file.seek(0)
            yield file

    def _fetch(self, url: str) -> Iterator[bytes]:
        deadline_s = time.monotonic() + self._limits.total_s
        try:
            with self._pool(url) as pool, closing(pool.request("GET", url, preload_content=False)) as response:
                if response.status >= 400:
                    raise DownloadHTTPError(f"{redact(url)} answers {response.status}", response.status)
                # One read at a time: a server that drips must not hold us beyond the deadline.
                while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
                    self._note(len(chunk))
                    if self._is_cancelled():
                        raise CancelledError("not wanted any more")
                    if time.monotonic() > deadline_s:
                        raise UnreachableError(f"{redact(url)} takes longer than {self._limits.total_s:g} s")
                    yield chunk
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(f"{redact(url)} cannot be fetched: {redact(_words(error))}") from error

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        host = parts.hostname or ""
        options = dict(self._options)
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            options["headers"] = options["headers"] | urllib3.make_headers(basic_auth=login)
        proxies = {} if proxy_bypass(host) else getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy:
            return urllib3.ProxyManager(proxy, **options)
        return urllib3.PoolManager(**options)


def _words(error: urllib3.exceptions.HTTPError) -> str:
    """The cause, without the objects that urllib3 writes around it."""
    reason = getattr(error, "reason", None) or error
    cause = reason.__cause__ or reason.__context__ or reason
    return getattr(cause, "strerror", None) or str(cause).rpartition(">: ")[2] or type(error).__name__
