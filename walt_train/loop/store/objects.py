"""Blobs in object storage: whoever gets an answer to a put has the object, whole and under its name."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import Awaitable, Coroutine, Iterator, Mapping
from typing import Any, Final, TypeVar

from fsspec.asyn import sync

from walt_edge.contract.errors import UsageError
from walt_train.loop.store.config import StoreConfig

_PARALLEL: Final = 16
# What is not answered in this time has failed; the ingest tries its group again for as long as it has patience.
_TIMEOUTS: Final = {"connect_timeout": 5, "read_timeout": 20}
_ATTEMPTS: Final = 2
_DEADLINE_S: Final = 45
_T = TypeVar("_T")


class ObjectBlobs:
    """Objects `PREFIX/PART/ab/<sha256><suffix>`, named by the sha256 of their bytes.

    Args:
        config: Names the bucket and the prefix.
        part: The heap's name below the prefix.
        suffix: Ends every object's name.

    Raises:
        UsageError: The client for S3 is not installed.
        OSError: There is no such bucket, or nobody answers.
    """

    def __init__(self, config: StoreConfig, part: str, suffix: str = "") -> None:
        self._root = f"{config.bucket}/{part}"
        self._suffix = suffix
        self._files = _client(config)
        bucket = config.bucket.partition("/")[0]
        try:
            with _as_os_error():
                self._run(self._files._call_s3("head_bucket", Bucket=bucket))
        except OSError as error:
            self.close()
            if isinstance(error, FileNotFoundError):
                raise FileNotFoundError(errno.ENOENT, f"there is no bucket {bucket}: make it first") from error
            raise

    def place(self, sha256: str) -> str:
        """Where the blob lies, for people."""
        return f"s3://{self._key(sha256)}"

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """Writes blobs by sha256; when it returns, the storage has confirmed every one.

        Raises:
            OSError: It cannot be reached or refuses; any part of the blobs may be there.
        """
        room = asyncio.Semaphore(_PARALLEL)

        async def put(name: str, data: bytes) -> None:
            async with room:
                await _in_time(self._files._pipe_file(self._key(name), data))

        async def put_together() -> None:
            async with asyncio.TaskGroup() as group:
                for name, data in blobs.items():
                    group.create_task(put(name, data))

        with _as_os_error():
            sync(self._files.loop, put_together)

    def get(self, sha256: str) -> bytes:
        """The blob's bytes; raises FileNotFoundError if there is none."""
        try:
            with _as_os_error():
                data: bytes = self._run(self._files._cat_file(self._key(sha256)))
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.place(sha256)) from error
        return data

    def delete(self, sha256: str, older_than_s: float | None = None) -> bool:
        """Removes the blob if it is there, and not younger than `older_than_s`; returns whether it did."""
        key = self._key(sha256)
        with _as_os_error(), contextlib.suppress(FileNotFoundError):
            written = self._run(self._files._info(key))["LastModified"].timestamp()
            if older_than_s is None or written <= time.time() - older_than_s:
                self._run(self._files._rm_file(key))
                return True
        return False

    def names(self, older_than_s: float = 0.0) -> Iterator[str]:
        """The sha256 of every blob that was last written at least `older_than_s` seconds ago."""
        limit = time.time() - older_than_s
        for folder in self._folders():
            # One of 256 at a time, so that the names of millions need not be held at once.
            with _as_os_error():
                found = self._files.find(folder, detail=True)
            for key, about in found.items():
                if about["LastModified"].timestamp() <= limit:
                    yield key.rpartition("/")[2].removesuffix(self._suffix)

    def sweep(self, older_than_s: float) -> None:
        """Does nothing: an object is there whole or not at all."""

    def close(self) -> None:
        """Ends the connections."""
        self._files.close_session(self._files.loop, self._files.s3)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return sync(self._files.loop, _in_time, work)

    def _folders(self) -> list[str]:
        with _as_os_error():
            try:
                return sorted(self._files.ls(self._root, detail=False))
            except FileNotFoundError:
                return []

    def _key(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}{self._suffix}"


def _client(config: StoreConfig) -> Any:
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        raise UsageError("a store in S3 needs s3fs: pip install 'walt-amodal[s3]'") from error
    options = config.s3_options
    files = S3FileSystem(
        endpoint_url=options.get("endpoint"),
        client_kwargs={"region_name": options["region"]} if "region" in options else {},
        config_kwargs={
            **_TIMEOUTS,
            "retries": {"mode": "standard", "max_attempts": _ATTEMPTS},
            "max_pool_connections": _PARALLEL,
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    # It would try again what botocore has tried again already.
    files.retries = 1
    return files


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """What the client cannot name as an error of files (nobody answers, no keys) becomes one."""
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except BotoCoreError as error:
        raise OSError(errno.EIO, str(error)) from error
    except BaseExceptionGroup as group:
        # The first failure of a group ended the rest of it.
        first = group.exceptions[0]
        raise (OSError(errno.EIO, str(first)) if isinstance(first, BotoCoreError) else first) from group


async def _in_time(work: Awaitable[_T]) -> _T:
    # The client's own timeouts leave out the wait for the go-ahead before a body is sent.
    try:
        async with asyncio.timeout(_DEADLINE_S):
            return await work
    except TimeoutError as error:
        raise OSError(errno.ETIMEDOUT, f"the object storage does not answer within {_DEADLINE_S} s") from error
