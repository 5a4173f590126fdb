"""Content-addressed files that outlive a loss of power.

`blobs/ab/cd/<sha256><suffix>`: written beside, fsynced, renamed into place, and the folders that changed are fsynced
too, before anybody writes down that the file exists. A crash leaves at most files that nobody names.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from walt_edge.contract.files import flush

# A disk takes several flushes at a time better than one after another; measured best on one SSD: 8.
_WRITERS = 8


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
        self._partial.mkdir(parents=True, exist_ok=True)
        self._durable: set[Path] = set()
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="blobs")

    def path(self, sha256: str) -> Path:
        """Where the blob lies, whether it exists or not."""
        return self.root / sha256[:2] / sha256[2:4] / f"{sha256}{self.suffix}"

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """Writes blobs by sha256; when it returns they are on the disk, together with their names.

        Raises:
            OSError: The disk is full or cannot be written; any part of the blobs may be there.
        """
        folders = {self.path(sha256).parent for sha256 in blobs}
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._in_parallel([partial(self._put, sha256, data) for sha256, data in blobs.items()])
        # A folder that exists may have been made by a process that ended before it flushed the folder's own name.
        new = folders - self._durable
        parents = {folder.parent for folder in new} | ({self.root} if new else set())
        self._in_parallel([partial(flush, folder) for folder in folders | parents])
        self._durable |= new

    def get(self, sha256: str) -> bytes:
        """The blob's bytes; raises FileNotFoundError if there is none."""
        return self.path(sha256).read_bytes()

    def delete(self, sha256: str) -> None:
        """Removes the blob if it is there."""
        self.path(sha256).unlink(missing_ok=True)

    def names(self, older_than_s: float = 0.0) -> Iterator[str]:
        """The sha256 of every blob that was last written at least `older_than_s` seconds ago."""
        limit = time.time() - older_than_s
        for path in self.root.glob(f"??/??/*{self.suffix}"):
            if path.stat().st_mtime <= limit:
                yield path.name.removesuffix(self.suffix)

    def sweep(self, older_than_s: float) -> None:
        """Removes half-written files that a crash left behind."""
        limit = time.time() - older_than_s
        for path in self._partial.iterdir():
            if path.stat().st_mtime <= limit:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the writers."""
        self._pool.shutdown()

    def _in_parallel(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Runs all to their end, even if one fails; then raises the first failure."""
        for task in wait([self._pool.submit(task) for task in tasks]).done:
            task.result()

    def _put(self, sha256: str, data: bytes) -> None:
        # A random name keeps workers that share the folder from writing into one another's partial file.
        half = self._partial / uuid.uuid4().hex
        try:
            with half.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            half.replace(self.path(sha256))
        except OSError:
            half.unlink(missing_ok=True)
            raise
