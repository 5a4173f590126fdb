"""Downloads for the TUF client: with an end to everything - bytes, silence, time - and through the site's proxy.

A bundle is large and a link may be bad, so what has come of it is kept and continued: after a broken connection at
once, and after a restart of the agent. Its name holds its sha256, which is checked at the end, so that no word of the
server about what it has is believed on the way.
"""

from __future__ import annotations

import logging
import re
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

LOG = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
_MAX_REDIRECTS = 3
_MOST_METADATA_BYTES = 5_000_000
_WORTH_IT_BYTES = 4096
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


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
        """Metadata of at most `max_length` bytes, as the base class gives it, but in our own folder.

        Raises:
            DownloadHTTPError: The server says no.
            DownloadLengthMismatchError: It sends more, or more than any metadata may have, whoever signed its length.
            UnreachableError: No connection, silence, or out of time.
            CancelledError: Not wanted any more.
            OSError: The disk is full.
        """
        with tempfile.TemporaryFile(dir=self._folder) as file:
            for chunk in self._fetch(url):
                file.write(chunk)
                _check_size(file.tell(), min(max_length, _MOST_METADATA_BYTES), url)
            file.seek(0)
            yield file

    def _fetch(self, url: str) -> Iterator[bytes]:
        deadline_s = time.monotonic() + self._limits.total_s
        with self._asked(url, {}) as response:
            yield from self._pieces(response, url, deadline_s)

    def bring(self, url: str, partial: Path, size_bytes: int) -> None:
        """Brings a file, from where `partial` ends; whether it is the right one is for the caller to check.

        A connection that breaks is followed by another for as long as each brings something and there is time.

        Args:
            url: Where it is.
            partial: What has come of it; it has `size_bytes` on return, and stays for the next time if this fails.
            size_bytes: Its length.

        Raises:
            DownloadLengthMismatchError: The server sends more; nothing is kept of it.
            DownloadHTTPError, UnreachableError, CancelledError, OSError: As `download_file` does.
        """
        deadline_s = time.monotonic() + self._limits.total_s
        if _size(partial) > size_bytes:
            partial.unlink()
        most = _size(partial)
        try:
            while _size(partial) < size_bytes:
                most = self._go_on(url, partial, size_bytes, deadline_s, most)
        except OSError:
            # Nobody else shall want for the space.
            partial.unlink(missing_ok=True)
            raise

    def _go_on(self, url: str, partial: Path, size_bytes: int, deadline_s: float, most: int) -> int:
        """One connection, and whether it was worth another; returns the most that was ever there."""
        try:
            self._continue(url, partial, size_bytes, deadline_s)
        except UnreachableError as error:
            size = _size(partial)
            if size < min(most + _WORTH_IT_BYTES, size_bytes) or time.monotonic() > deadline_s:
                raise
            LOG.info("continuing at %d of %d bytes: %s", size, size_bytes, error)
        return max(most, _size(partial))

    def _continue(self, url: str, partial: Path, size_bytes: int, deadline_s: float) -> None:
        """One connection; what it cannot continue begins anew. Raises UnreachableError if it ends before the file."""
        had = _size(partial)
        with self._asked(url, {"Range": f"bytes={had}-"} if had else {}) as response:
            begins = _begins_at(response, had, size_bytes)
            if begins is None and had:
                partial.unlink()
                return
            if begins is None:
                raise UnreachableError(f"{redact(url)} answers {response.status} to what was not asked")
            with partial.open("r+b" if begins else "wb") as file:
                file.truncate(begins)
                file.seek(begins)
                for chunk in self._pieces(response, url, deadline_s):
                    if file.tell() + len(chunk) > size_bytes:
                        partial.unlink()
                    _check_size(file.tell() + len(chunk), size_bytes, url)
                    file.write(chunk)
        if _size(partial) < size_bytes:
            raise UnreachableError(f"{redact(url)} cannot be fetched: it ends too early")

    @contextmanager
    def _asked(self, url: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        """An answer that is no error, to be read; the library's errors on the way in our words."""
        try:
            with (
                self._pool(url, headers) as pool,
                closing(pool.request("GET", url, preload_content=False)) as response,
            ):
                if response.status >= 400 and not (headers and response.status == 416):
                    raise DownloadHTTPError(f"{redact(url)} answers {response.status}", response.status)
                yield response
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(f"{redact(url)} cannot be fetched: {redact(_words(error))}") from error

    def _pieces(self, response: urllib3.BaseHTTPResponse, url: str, deadline_s: float) -> Iterator[bytes]:
        # One read at a time: a server that drips must not hold us beyond the deadline.
        while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
            self._note(len(chunk))
            if self._is_cancelled():
                raise CancelledError("not wanted any more")
            if time.monotonic() > deadline_s:
                raise UnreachableError(f"{redact(url)} takes longer than {self._limits.total_s:g} s")
            yield chunk

    def _pool(self, url: str, headers: dict[str, str]) -> urllib3.PoolManager:
        parts = urlsplit(url)
        host = parts.hostname or ""
        options = self._options | {"headers": self._options["headers"] | headers}
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            options["headers"] = options["headers"] | urllib3.make_headers(basic_auth=login)
        proxies = {} if proxy_bypass(host) else getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy:
            return urllib3.ProxyManager(proxy, **options)
        return urllib3.PoolManager(**options)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _begins_at(response: urllib3.BaseHTTPResponse, had: int, size_bytes: int) -> int | None:
    """Where in the file an answer begins; None if it has another file, or no such part of it."""
    if response.status == 200:
        return 0
    told = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    fits = told is not None and int(told[1]) == had and told[2] in ("*", str(size_bytes))
    return had if response.status == 206 and fits else None


def _check_size(size_bytes: int, most_bytes: int, url: str) -> None:
    if size_bytes > most_bytes:
        raise DownloadLengthMismatchError(f"{redact(url)} sends more than the {most_bytes} bytes it may")


def _words(error: urllib3.exceptions.HTTPError) -> str:
    """The cause, without the objects that urllib3 writes around it."""
    reason = getattr(error, "reason", None) or error
    cause = reason.__cause__ or reason.__context__ or reason
    return getattr(cause, "strerror", None) or str(cause).rpartition(">: ")[2] or type(error).__name__
