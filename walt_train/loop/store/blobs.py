"""Content-addressed files that outlive a loss of power.

`blobs/ab/<sha256><suffix>`: when `put_all` returns, the bytes and the names are on the disk; only then does anybody
write down that the file exists. A crash leaves at most files that no row names: torn ones too, so that a name alone
proves nothing, and whoever puts a blob whose name is taken replaces it.

256 folders: 32 files in as many folders of 65,536 take twice as long, since every folder is one more to be made and
flushed (docs/decisions/0020). What older programs wrote into `ab/cd/` is found there.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Protocol

from walt_edge.contract.files import flush
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.flushing import FileSystem

# A disk takes several flushes at a time better than one after another; measured best on one SSD: 8.
_WRITERS = 8


class Blobs(Protocol):
    """Bytes named by their sha256; a folder or object storage. Whatever cannot be reached or done is an OSError."""

    def place(self, sha256: str) -> str:
        """Where the blob lies, for people."""

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """Writes blobs by sha256; when it returns they are there for good, under their names."""

    def get(self, sha256: str) -> bytes:
        """The blob's bytes; raises FileNotFoundError if there is none."""

    def delete(self, sha256: str, older_than_s: float | None = None) -> bool:
        """Removes the blob if it is there, and not younger than `older_than_s`; returns whether it did."""

    def names(self, older_than_s: float = 0.0) -> Iterator[str]:
        """The sha256 of every blob that was last written at least `older_than_s` seconds ago."""

    def sweep(self, older_than_s: float) -> None:
        """Removes what a crash left half written."""

    def close(self) -> None:
        """Lets go of threads and connections."""


class BlobFolder:
    """Files named by the sha256 of their bytes.

    Attributes:
        root: The folder; made if absent.
        suffix: Ends every file's name.
    """

    def __init__(self, root: Path, suffix: str = "") -> None:
        self.root = root
        self.suffix = suffix
        self._partial = root / "partial"
        missing = [folder for folder in (root, *root.parents) if not folder.exists()]
        self._partial.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            flush(folder.parent)
        self._durable: set[str] = set()
        self._system = FileSystem.of(root)
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="blobs")

    def path(self, sha256: str) -> Path:
        """Where the blob lies, whether it exists or not."""
        path, old = self._path(sha256), self._old_path(sha256)
        return old if not path.exists() and old.exists() else path

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """Writes blobs by sha256; when it returns they are on the disk, together with their names.

        Raises:
            OSError: The disk is full or cannot be written; any part of the blobs may be there.
        """
        new = {sha256[:2] for sha256 in blobs} - self._durable
        for name in new:
            (self.root / name).mkdir(exist_ok=True)
        taken = blobs
        if self._system is not None:
            # Under names that nobody has: a crash before the flush tears no file that a row names.
            taken = {sha256: data for sha256, data in blobs.items() if not self._create(sha256, data)}
            if new or len(taken) < len(blobs):
                self._system.flush()
        elif new:
            # A folder that exists may have been made by a process that ended before it flushed the folder's own name.
            flush(self.root)
        self._durable |= new
        self._replace(taken)

    def place(self, sha256: str) -> str:
        """Where the blob lies, for people."""
        return str(self.path(sha256))

    def get(self, sha256: str) -> bytes:
        """The blob's bytes; raises FileNotFoundError if there is none."""
        try:
            return self._path(sha256).read_bytes()
        except FileNotFoundError:
            return self._old_path(sha256).read_bytes()

    def delete(self, sha256: str, older_than_s: float | None = None) -> bool:
        """Removes the blob if it is there, and not younger than `older_than_s`; returns whether it did."""
        removed = False
        for path in (self._path(sha256), self._old_path(sha256)):
            with contextlib.suppress(FileNotFoundError):
                if older_than_s is None or path.stat().st_mtime <= time.time() - older_than_s:
                    path.unlink()
                    removed = True
        return removed

    def names(self, older_than_s: float = 0.0) -> Iterator[str]:
        """The sha256 of every blob that was last written at least `older_than_s` seconds ago."""
        limit = time.time() - older_than_s
        for pattern in ("??/", "??/??/"):
            for path in self.root.glob(f"{pattern}{'[0-9a-f]' * 64}{self.suffix}"):
                if path.stat().st_mtime <= limit:
                    yield path.name.removesuffix(self.suffix)

    def sweep(self, older_than_s: float) -> None:
        """Removes half-written files that a crash left behind."""
        limit = time.time() - older_than_s
        for path in self._partial.iterdir():
            if path.stat().st_mtime <= limit:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the writers and lets go of the disk."""
        self._pool.shutdown()
        if self._system is not None:
            self._system.close()
            self._system = None

    def _path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / f"{sha256}{self.suffix}"

    def _old_path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256[2:4] / f"{sha256}{self.suffix}"

    def _in_parallel(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Runs all to their end, even if one fails; then raises the first failure."""
        for task in wait([self._pool.submit(task) for task in tasks]).done:
            task.result()

    def _create(self, sha256: str, data: bytes) -> bool:
        """Writes a file and does not flush it; False if there is one of this name."""
        try:
            with self._path(sha256).open("xb", buffering=0) as file:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
        except FileExistsError:
            return False
        return True

    def _replace(self, blobs: Mapping[str, bytes]) -> None:
        """Writes each beside, flushes it, gives it its name, and flushes the names."""
        self._in_parallel([partial(self._put, sha256, data) for sha256, data in blobs.items()])
        self._in_parallel([partial(flush, self.root / name) for name in {sha256[:2] for sha256 in blobs}])

    def _put(self, sha256: str, data: bytes) -> None:
        # A random name keeps workers that share the folder from writing into one another's partial file.
        half = self._partial / uuid.uuid4().hex
        try:
            with half.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            half.replace(self._path(sha256))
        except OSError:
            half.unlink(missing_ok=True)
            raise


def open_blobs(config: StoreConfig, part: str, suffix: str = "") -> Blobs:
    """One of a store's heaps of blobs.

    Args:
        config: Where the store is.
        part: The heap's name.
        suffix: Ends every blob's name.

    Raises:
        UsageError: A package for such a place is not installed.
        OSError: It cannot be reached or made.
    """
    folder = config.blob_folder
    if folder is not None:
        return BlobFolder(folder / part, suffix)
    # Imported here: a store in a folder needs no client for S3.
    from walt_train.loop.store.objects import ObjectBlobs

    return ObjectBlobs(config, part, suffix)
