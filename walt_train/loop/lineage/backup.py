"""A copy of the store, and of what home has made, in a folder that can be verified and restored anywhere.

```
DIR/backup.json         the last thing written: which of the folders below is the copy, and every hash
DIR/rows-TIME/          a table each, as lines of JSON
DIR/blobs/ab/cd/        envelopes by id; only those that are new are copied
DIR/files/ab/cd/        files of the home folder by sha256: releases, models, verdicts
DIR/forgotten.jsonl     tombstones that were written since
```
The database is read as it was at one moment, blobs after it: whatever a row names was there already. What was deleted
in between is left out, with its tombstone. Private keys, frozen clip art, logs and what lies in quarantine are not
copied: keys belong elsewhere, clip art is made again of the envelopes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import Engine, select
from tqdm import tqdm

from walt_edge.contract.files import flush, write_whole
from walt_edge.contract.messages import Clock, envelope_id
from walt_train.loop.lineage.copies import FORGOTTEN, MANIFEST, SUFFIX, CopyError, remember_copy
from walt_train.loop.lineage.record import chunks
from walt_train.loop.lineage.rows import read_rows, revision_of, sha256_of, snapshot, tables_of, write_rows
from walt_train.loop.publish.files import held
from walt_train.loop.store.blobs import BlobFolder
from walt_train.loop.store.horizon import read_horizons
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes, tombstones

_PARTS = {MANIFEST, FORGOTTEN, ".lock", "blobs", "files"}
_SPARED = ("clipart", ".clipart.partial", "golden", "calibration", "resume", "logs")
_AT_A_TIME = 64


class TableCopy(msgspec.Struct, frozen=True):
    """A table's file: how many rows it has, and the sha256 of its bytes."""

    rows: int
    sha256: str


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """`backup.json`.

    Attributes:
        made_us: The moment that it is of, microseconds since 1970 UTC.
        revision: Of the tables.
        rows: The folder of the tables' files.
        tables: By name.
        files: sha256 by path below the home folder.
        gone: Envelopes that have a row and no blob: deleted while the copy was made.
        bytes: Of all blobs.
    """

    made_us: int
    revision: str
    rows: str
    tables: dict[str, TableCopy]
    files: dict[str, str]
    gone: tuple[str, ...]
    bytes: int
    version: int = 1


@dataclass(frozen=True, slots=True)
class Made:
    """What was copied.

    Attributes:
        backup: What the folder holds now.
        fresh: Blobs that were copied anew.
        damaged: Envelopes whose blobs in the store are damaged or missing: not in the copy.
    """

    backup: Backup
    fresh: int
    damaged: tuple[str, ...]


def make_backup(store: Store, folder: Path, home: Path | None = None, *, quiet: bool = True) -> Made:
    """Copies what is new since the last copy into the folder, while others go on writing.

    Args:
        store: The store.
        folder: Made if absent; holds the newest copy alone.
        home: Of `walt-loop serve`; None leaves it out.
        quiet: Whether to show no progress.

    Raises:
        CopyError: The folder holds something else, cannot be written, or the store has lost what the last copy has.
        BusyError: Another one is at work there.
    """
    try:
        _check(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with held(folder / ".lock", str(folder)):
            made = _make(store, folder, home, quiet)
    except OSError as error:
        raise CopyError(f"cannot write backup {folder}: {error.strerror or error}; free space or mend it") from error
    remember_copy(store.engine, folder, made.backup.made_us)
    return made


def read_backup(folder: Path) -> Backup:
    """What a folder says that it holds.

    Raises:
        CopyError: There is none, it is damaged, or of a newer version.
    """
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Backup)
    except OSError as error:
        raise CopyError(f"no backup in {folder} ({error.strerror}): walt-loop backup makes one") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CopyError(f"{path} is damaged ({error}): take another backup") from error


def _check(folder: Path) -> None:
    if not folder.exists():
        return
    other = [path.name for path in folder.iterdir() if path.name not in _PARTS and not path.name.startswith("rows-")]
    if other:
        raise CopyError(f"{folder} holds {sorted(other)[0]}, which is no part of a backup: give a folder of its own")


def _make(store: Store, folder: Path, home: Path | None, quiet: bool) -> Made:
    before = read_backup(folder) if (folder / MANIFEST).is_file() else None
    made_us = time.time_ns() // 1000
    rows = folder / f"rows-{made_us}"
    rows.mkdir(mode=0o700)
    tables, revision = _copy_rows(store.engine, rows, quiet)
    if before is not None:
        _must_hold(store.engine, folder / before.rows, rows)
    with closing(BlobFolder(folder / "blobs", SUFFIX)) as blobs:
        fresh, size, missing = _copy_blobs(store, rows, blobs, quiet)
        gone, damaged = _why_missing(store.engine, missing)
        # Written last, so that it has what was deleted while the blobs were copied.
        with snapshot(store.engine) as connection:
            buried = write_rows(connection, tombstones, rows / "tombstones.jsonl", lambda count: None)
        tables["tombstones"] = TableCopy(*buried)
        files = _copy_files(folder, home, quiet) if home is not None else {}
        flush(rows)
        backup = Backup(
            made_us=made_us,
            revision=revision,
            rows=rows.name,
            tables=tables,
            files=files,
            gone=(*gone, *damaged),
            bytes=size,
        )
        write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(backup), indent=1))
        _prune(folder, backup, blobs)
    return Made(backup, fresh, damaged)


def _copy_rows(engine: Engine, rows: Path, quiet: bool) -> tuple[dict[str, TableCopy], str]:
    with snapshot(engine) as connection, tqdm(desc="rows", unit=" rows", disable=quiet or None) as bar:

        def note(count: int) -> None:
            bar.update(count)

        tables = {
            name: TableCopy(*write_rows(connection, table, rows / f"{name}.jsonl", note))
            for name, table in tables_of(connection).items()
        }
        return tables, revision_of(connection)


def _must_hold(engine: Engine, before: Path, now: Path) -> None:
    """A store that has lost something is to be restored, and its last good copy not to be overwritten."""
    left = {row["id"]: row for row in read_rows(before / "envelopes.jsonl")}
    for row in read_rows(now / "envelopes.jsonl"):
        left.pop(row["id"], None)
    with engine.connect() as connection:
        limits = read_horizons(connection)
        for chunk in chunks(list(left)):
            for one in connection.scalars(select(tombstones.c.id).where(tombstones.c.id.in_(chunk))):
                left.pop(one)
    is_set = Clock.SYNCHRONISED.value
    lost = [
        one
        for one, row in left.items()
        if not (row["clock"] == is_set and row["captured_us"] < limits.get(row["kind"], 0))
    ]
    if lost:
        shutil.rmtree(now)
        raise CopyError(
            f"{len(lost)} envelopes of the last backup in {before.parent} are not in the store and were never "
            f"deleted ({lost[0][:12]} ...): walt-loop restore brings them back; to copy the store as it is, give "
            "another folder"
        )


def _copy_blobs(store: Store, rows: Path, blobs: BlobFolder, quiet: bool) -> tuple[int, int, list[str]]:
    """Copies what is not there yet, checked; returns how many, the bytes of all, and ids without a whole blob."""
    ids = [(row["id"], row["bytes"]) for row in read_rows(rows / "envelopes.jsonl")]
    fresh, missing = 0, []
    with tqdm(total=len(ids), desc="envelopes", unit="", disable=quiet or None) as bar:
        for chunk in chunks([one for one, _ in ids], _AT_A_TIME):
            bar.update(len(chunk))
            found: dict[str, bytes] = {}
            for one in chunk:
                if blobs.path(one).is_file():
                    continue
                data = _whole(store, one)
                if data is None:
                    missing.append(one)
                else:
                    found[one] = data
            blobs.put_all(found)
            fresh += len(found)
    return fresh, sum(size for _, size in ids), missing


def _whole(store: Store, sha256: str) -> bytes | None:
    try:
        data = store.blobs.get(sha256)
    except FileNotFoundError:
        return None
    return data if envelope_id(data) == sha256 else None


def _why_missing(engine: Engine, missing: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was deleted meanwhile, and what is damaged."""
    still: set[str] = set()
    with engine.connect() as connection:
        for chunk in chunks(missing):
            still |= set(connection.scalars(select(envelopes.c.id).where(envelopes.c.id.in_(chunk))))
    return tuple(one for one in missing if one not in still), tuple(one for one in missing if one in still)


def _copy_files(folder: Path, home: Path, quiet: bool) -> dict[str, str]:
    """Copies files of the home folder by their hash; returns hashes by path."""
    found: dict[str, str] = {}
    with closing(BlobFolder(folder / "files")) as files:
        for path in tqdm(list(_worth(home)), desc="files", unit="", disable=quiet or None):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # a release was taken back, or a step began anew
            sha256 = envelope_id(data)
            if not files.path(sha256).is_file():
                files.put_all({sha256: data})
            found[str(path.relative_to(home))] = sha256
    return found


def _worth(home: Path) -> Iterator[Path]:
    """Files that cannot be made again and show no crop of their own; metadata of releases first its newest part."""
    # The timestamp is read first: whatever it names was written before it.
    repository = sorted((home / "repository").rglob("*"), key=lambda path: path.name != "timestamp.json")
    generations = sorted((home / "generations").rglob("*"))
    for path in (*repository, *generations):
        parts = path.relative_to(home).parts
        is_half = any(part.startswith(".") for part in parts)
        if path.is_file() and not is_half and not set(parts) & set(_SPARED):
            yield path


def _prune(folder: Path, backup: Backup, blobs: BlobFolder) -> None:
    """Removes what the copy does not name any more."""
    for path in folder.glob("rows-*"):
        if path.name != backup.rows:
            shutil.rmtree(path)
    named = {row["id"] for row in read_rows(folder / backup.rows / "envelopes.jsonl")} - set(backup.gone)
    _remove_others(blobs, named.__contains__)
    with closing(BlobFolder(folder / "files")) as files:
        _remove_others(files, set(backup.files.values()).__contains__)


def _remove_others(blobs: BlobFolder, is_named: Callable[[str], bool]) -> None:
    for sha256 in list(blobs.names()):
        if not is_named(sha256):
            blobs.delete(sha256)
    blobs.sweep(0.0)


def verify(folder: Path, backup: Backup) -> None:
    """Checks the tables' files.

    Raises:
        CopyError: One is missing or is not what was written.
    """
    for name, table in backup.tables.items():
        path = folder / backup.rows / f"{name}.jsonl"
        if sha256_of(path) != table.sha256:
            raise CopyError(f"{path} is damaged: take another backup")
