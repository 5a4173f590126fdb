"""The copies of a store that are known, and forgetting in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from sqlalchemy import Engine, delete, insert, select

from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import write_whole
from walt_train.loop.lineage.tables import backups
from walt_train.loop.store.blobs import BlobFolder
from walt_train.loop.store.database import transaction

MANIFEST = "backup.json"
FORGOTTEN = "forgotten.jsonl"
SUFFIX = ".envelope"


class Buried(msgspec.Struct, frozen=True):
    """A line of `forgotten.jsonl`: a tombstone that was written after the copy was made."""

    id: str
    deleted_us: int
    reason: str


class CopyError(WaltError):
    """A copy is missing, damaged, or not one."""


def known_copies(engine: Engine) -> list[str]:
    """Folders that the store was copied into."""
    with engine.connect() as connection:
        return sorted(connection.scalars(select(backups.c.place)))


def remember_copy(engine: Engine, folder: Path, made_us: int) -> None:
    """Writes down where a copy lies."""
    place = str(folder.resolve())
    with transaction(engine) as connection:
        connection.execute(delete(backups).where(backups.c.place == place))
        connection.execute(insert(backups), {"place": place, "made_us": made_us})


def forget_in(folder: Path, ids: Sequence[str], deleted_us: int, reason: str) -> bool:
    """Removes envelopes from a copy, with tombstones that a restore brings back; False if it is not there.

    Raises:
        CopyError: It cannot be read or written.
    """
    if not (folder / MANIFEST).is_file():
        return False
    try:
        known = {one.id: one for one in read_forgotten(folder)}
        fresh = [Buried(one, deleted_us, reason) for one in ids if one not in known]
        if fresh:
            lines = (msgspec.json.encode(one) for one in (*known.values(), *fresh))
            write_whole(folder / FORGOTTEN, b"\n".join(lines) + b"\n")
        _delete(folder, ids)
    except OSError as error:
        raise CopyError(
            f"cannot write in backup {folder}: {error.strerror}; mend it and repeat the command"
        ) from error
    return True


def read_forgotten(folder: Path) -> list[Buried]:
    """What was forgotten after the copy was made.

    Raises:
        CopyError: The file is damaged.
    """
    path = folder / FORGOTTEN
    try:
        return [msgspec.json.decode(line, type=Buried) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return []
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CopyError(f"{path} is damaged ({error}): what was forgotten would come back") from error


def _delete(folder: Path, ids: Iterable[str]) -> None:
    blobs = BlobFolder(folder / "blobs", SUFFIX)
    try:
        for sha256 in ids:
            blobs.delete(sha256)
    finally:
        blobs.close()
