"""What may be believed about releases: the TUF client, from a root that a person pinned.

Home's `targets` says who may sign releases: `stable` for every device, `canary` for those that try first. They are
asked in this order, nobody else is, and a device on the channel `stable` never looks at what `canary` says.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import Updater, UpdaterConfig

from walt_edge.contract.bundle import MAX_BUNDLE_BYTES
from walt_edge.contract.errors import UsageError
from walt_edge.contract.files import flush, write_whole
from walt_edge.contract.messages import Desired
from walt_edge.contract.redaction import redact
from walt_edge.update.errors import NotNowError, RefusedError, UnreachableError, UpdateError
from walt_edge.update.fetcher import Fetcher, FetchLimits
from walt_edge.update.settings import Channel
from walt_edge.update.time_floor import TimeFloor

LOG = logging.getLogger(__name__)

_PINNED = "trusted-root.json"
_METADATA = "metadata"
_TIME = "time.json"
_PARTIAL = ".part"
_LIMITS = UpdaterConfig(max_root_rotations=1024)
"""A device follows the chain from the root it was given, however many there were since."""
_SIGNERS: dict[Channel, tuple[str, ...]] = {"canary": ("stable", "canary"), "stable": ("stable",)}
_WHAT_IS_WRONG: tuple[tuple[type[Exception], str], ...] = (
    (
        ExpiredMetadataError,
        "expired: home must sign anew (walt-loop publish --refresh; root and targets: walt-loop keys renew), "
        "or this device's clock is wrong",
    ),
    (BadVersionNumberError, "older than what this device has seen, or mixed up"),
    (UnsignedMetadataError, "not signed with the keys that this device trusts"),
    (LengthOrHashMismatchError, "not what was signed: changed, or damaged on its way"),
    (DownloadError, "not what was signed"),
    (DeserializationError, "malformed"),
)


class Trust:
    """Fetches releases and believes only what the pinned root vouches for.

    Args:
        folder: Kept for good: the pinned root, and the newest metadata seen.
        url: Where the repository is served, `http://` or `https://`.
        root: The root to pin at the first start; later starts need none.
        ca: A certificate authority's file for HTTPS instead of the system's.
        limits: Times of a download.
        floor: What time it is at least; None keeps one in `folder`.
        channel: Whose releases are taken.

    Attributes:
        fetched_bytes: What was received since the start, metadata and what was given up included.

    Raises:
        UsageError: The URL is none, or there is no root to trust.
        UpdateError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        root: Path | None = None,
        ca: Path | None = None,
        limits: FetchLimits | None = None,
        floor: TimeFloor | None = None,
        channel: Channel = "canary",
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"updates '{redact(url)}' is no http:// or https:// URL")
        if ca is not None and not ca.is_file():
            raise UsageError(f"no such file: {ca}; give a PEM file to --updates-ca")
        self._url = url.rstrip("/")
        self._folder = folder
        self._ca = ca
        self._limits = limits
        self._pinned = _pin(folder, root)
        self._floor = floor or TimeFloor(folder / _TIME)
        self._channel = channel
        self.fetched_bytes = 0

    def want(self, wish: Desired | None) -> None:
        """Forgets what is half fetched and not wished for any more; never raises."""
        for path in self._folder.glob(f"*{_PARTIAL}"):
            if wish is None or path.stem != wish.sha256:
                with suppress(OSError):
                    path.unlink()

    def fetch(self, wish: Desired, into: Path, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Brings the bundle that is wished for, if the signed metadata knows it as the wish has it.

        What the network did not let through stays, and the next call goes on from there.

        Args:
            wish: What home wants.
            into: The file to write; it is whole and flushed to the disk on return.
            is_cancelled: Asked now and then.

        Raises:
            RefusedError: The metadata has another sha256 or number for it, or it is too large.
            UnreachableError: No connection, or the server fails.
            NotNowError: The metadata is expired, older, not signed by whom we trust, or does not know it; the bytes
                are not those that were signed; the disk is full.
            CancelledError: Not wanted any more.
        """
        with _explained(redact(self._url)):
            fetcher = Fetcher(self._folder, self._limits, self._ca, is_cancelled, self._count)
            client = _Client(
                str(self._folder / _METADATA),
                f"{self._url}/metadata/",
                fetcher=fetcher,
                config=_LIMITS,
                bootstrap=self._pinned,
            )
            client.set_time(self._floor.now())
            found = client.find(wish.target, _SIGNERS[self._channel])
            self._floor.learn(self._folder / _METADATA / "timestamp.json")
            _compare(found, wish, self._channel)
            assert found is not None
            self._bring(fetcher, found, into)

    def _bring(self, fetcher: Fetcher, found: TargetFile, into: Path) -> None:
        """The bundle itself, under the name that has its sha256."""
        sha256 = found.hashes["sha256"]
        partial = self._folder / f"{sha256}{_PARTIAL}"
        _check_space(found, partial, into.parent)
        fetcher.bring(f"{self._url}/targets/{sha256}.{found.path}", partial, found.length)
        try:
            with partial.open("rb") as file:
                found.verify_length_and_hashes(file)
        except LengthOrHashMismatchError:
            partial.unlink()
            raise
        shutil.move(partial, into)
        flush(into)

    def _count(self, size_bytes: int) -> None:
        self.fetched_bytes += size_bytes

    def keep_time(self) -> None:
        """Notes how late it is; to be called every few minutes."""
        self._floor.keep()


class _Client(Updater):
    """python-tuf's, which takes the wall clock's time and has no argument for another."""

    def set_time(self, now: datetime) -> None:
        """What expires is compared with this."""
        self._trusted_set.reference_time = now

    def find(self, target: str, signers: Sequence[str]) -> TargetFile | None:
        """What `targets` itself has signed for a target, as homes without channels do, or the first who knows it.

        Args:
            target: Its name.
            signers: Delegated roles in the order in which they are asked. No other is, whatever else is delegated.

        Raises:
            RefusedError: It has the number of a release that a role before it signed.
            RepositoryError, DownloadError: The metadata is not to be believed, or does not come.
        """
        self.refresh()
        above = [self._trusted_set.targets]
        delegations = above[0].delegations
        delegated = {name for name, _ in delegations.get_roles_for_target(target)} if delegations else set()
        for signer in (signer for signer in signers if signer in delegated):
            if target in above[-1].targets:
                break
            above.append(self._load_targets(signer, Targets.type))
        found = above[-1].targets.get(target)
        taken = [
            one
            for targets in above[:-1]
            for one in targets.targets.values()
            if found and _number(one) == _number(found)
        ]
        if taken:
            raise RefusedError(
                f"{target} was signed with the number of {taken[0].path}, by a role that may not do so"
            )
        return found


def _pin(folder: Path, given: Path | None) -> bytes:
    """The root pinned at the first start; a later one comes by TUF's own chain, never by a flag."""
    path = folder / _PINNED
    try:
        (folder / _METADATA).mkdir(parents=True, exist_ok=True)
        for left_by_a_crash in (folder / _METADATA).glob("tmp*"):
            left_by_a_crash.unlink()
        if path.exists():
            pinned = path.read_bytes()
            if given is not None and given.is_file() and given.read_bytes() not in (pinned, *_known_roots(folder)):
                LOG.warning(
                    "--trust %s is not the root pinned at the first start, which holds; it is in %s", given, path
                )
            return pinned
        if given is None:
            raise UsageError(
                "--updates needs --trust FILE at the first start: the root.json that walt-loop publish wrote"
            )
        if not given.is_file():
            raise UsageError(f"no such file: {given}; give the root.json that walt-loop publish wrote to --trust")
        data = given.read_bytes()
        _check_root(data, given)
        write_whole(path, data)
        return data
    except OSError as error:
        raise UpdateError(
            f"cannot pin {given or path} in {folder}: {error.strerror}; mend it, or free space"
        ) from error


def _known_roots(folder: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in (folder / _METADATA / "root_history").glob("*.root.json"))


def _check_root(data: bytes, path: Path) -> None:
    try:
        root: Metadata[Root] = Metadata.from_bytes(data)
        root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
    except (RepositoryError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is no root to trust ({error}): take the root.json of walt-loop publish") from error


def _number(found: TargetFile) -> object:
    custom: Any = found.custom
    return custom.get("release") if isinstance(custom, dict) else None


def _compare(found: TargetFile | None, wish: Desired, channel: Channel) -> None:
    if found is None and channel == "stable":
        raise NotNowError(
            f"home has signed no {wish.target} for all devices, and this one takes no other: promote it"
        )
    if found is None:
        raise NotNowError(f"home has signed no {wish.target}: publish it, or wish for another")
    number = _number(found)
    if found.hashes.get("sha256") != wish.sha256:
        raise RefusedError(f"{wish.target} was signed with another sha256 than {wish.sha256[:12]}... wished for")
    if number != wish.release:
        raise RefusedError(f"{wish.target} was signed as release {number}, not {wish.release}")
    if found.length > MAX_BUNDLE_BYTES:
        raise RefusedError(f"{wish.target} has {found.length} bytes, a bundle at most {MAX_BUNDLE_BYTES}")


def _check_space(found: TargetFile, partial: Path, folder: Path) -> None:
    """A model that does not fit must not take the spool's space first; as much again is left to others."""
    had = partial.stat().st_size if partial.exists() else 0
    needed, free = 2 * found.length - had, shutil.disk_usage(folder).free
    if needed > free:
        raise NotNowError(
            f"No space left for {found.path} in {folder}: it takes {needed} bytes, {free} are free; free space"
        )


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Errors of the TUF client in this agent's words, by what may mend them."""
    try:
        yield
    except DownloadHTTPError as error:
        raise UnreachableError(str(error)) from error
    except (RepositoryError, DownloadError) as error:
        what = next((words for kind, words in _WHAT_IS_WRONG if isinstance(error, kind)), "not in order")
        raise NotNowError(f"what {url} serves is {what} ({redact(str(error))})") from error
    except OSError as error:
        raise NotNowError(f"cannot keep what {url} serves: {error.strerror or error}; free space") from error
