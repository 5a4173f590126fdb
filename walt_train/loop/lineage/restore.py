"""From a copy to a store, on the same machine or from a laptop to a cluster.

Blobs first, every one checked, then all rows in one transaction: killed before it, the store is empty still, and the
same command begins again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError
from tqdm import tqdm

from walt_edge.contract.files import stays_below, write_whole
from walt_edge.contract.messages import envelope_id
from walt_train.loop.labels.tables import drop
from walt_train.loop.lineage.backup import Backup, read_backup, verify
from walt_train.loop.lineage.copies import SUFFIX, CopyError, read_forgotten
from walt_train.loop.lineage.record import chunks
from walt_train.loop.lineage.rows import Row, put_rows, read_rows, revision_of, tables_of
from walt_train.loop.publish.repository import RESTORED
from walt_train.loop.serve.folder import GENERATIONS
from walt_train.loop.serve.jobs import ENDED
from walt_train.loop.store.blobs import BlobFolder
from walt_train.loop.store.database import cause, transaction
from walt_train.loop.store.migrate import revisions
from walt_train.loop.store.store import Store

_AT_A_TIME = 64
# A device notes when it was answered by the hour of its own clock.
_MARGIN_US: Final = 3600 * 10**6


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back.

    Attributes:
        envelopes: How many.
        damaged: Ids whose blobs in the copy are damaged or missing.
        forgotten: How many were forgotten after the copy was made, and stay so.
        since_us: Since when devices are to be asked.
    """

    envelopes: int
    damaged: tuple[str, ...]
    forgotten: int
    since_us: int


def restore(folder: Path, store: Store, home: Path | None = None, *, quiet: bool = True) -> Restored:
    """Fills an empty store from a copy.

    Args:
        folder: Of the copy.
        store: An empty one.
        home: Gets releases and models; None leaves them out. Must not hold any.
        quiet: Whether to show no progress.

    Raises:
        CopyError: The copy is missing, damaged or newer than this program, or the store or the home is not empty.
        StoreWriteError: The store cannot be written; it is empty still.
    """
    backup = read_backup(folder)
    if backup.revision not in revisions():
        raise CopyError(f"the backup has revision {backup.revision}, this program knows {revisions()[0]}: update it")
    verify(folder, backup)
    _must_be_empty(store, home)
    forgotten = {one.id: one for one in read_forgotten(folder)}
    spared = forgotten.keys() | set(backup.gone)
    ids = [row["id"] for row in read_rows(folder / backup.rows / "envelopes.jsonl") if row["id"] not in spared]
    with closing(BlobFolder(folder / "blobs", SUFFIX)) as blobs:
        damaged = _put_blobs(store, blobs, ids, quiet)
    if home is not None:
        _put_files(folder, backup, home, quiet)
    without = spared | set(damaged)
    with transaction(store.engine) as connection:
        _must_have_no_rows(connection)
        _put_tables(connection, folder, backup, without)
        for chunk in chunks(sorted(spared)):
            drop(connection, chunk)
        tombstones = tables_of(connection)["tombstones"]
        known = set(connection.scalars(select(tombstones.c.id)))
        fresh = [one for one in forgotten.values() if one.id not in known]
        rows = ({"id": one.id, "deleted_us": one.deleted_us, "reason": one.reason} for one in fresh)
        put_rows(connection, tombstones, iter(rows))
    return Restored(len(ids) - len(damaged), damaged, len(forgotten), max(0, backup.made_us - _MARGIN_US))


def _must_be_empty(store: Store, home: Path | None) -> None:
    with store.engine.connect() as connection:
        _must_have_no_rows(connection)
    for part in ("generations", "repository"):
        if home is not None and (home / part).exists() and any((home / part).iterdir()):
            raise CopyError(f"{home / part} is not empty: give another --home, or none")


def _must_have_no_rows(connection: Connection) -> None:
    for name, table in tables_of(connection).items():
        if connection.execute(select(table).limit(1)).first() is not None:
            raise CopyError(f"the store is not empty (its table {name} has rows): restore into a new one")


def _put_blobs(store: Store, blobs: BlobFolder, ids: list[str], quiet: bool) -> tuple[str, ...]:
    damaged: list[str] = []
    with tqdm(total=len(ids), desc="envelopes", unit="", disable=quiet or None) as bar:
        for chunk in chunks(ids, _AT_A_TIME):
            found: dict[str, bytes] = {}
            for one in chunk:
                data = _read(blobs, one)
                if envelope_id(data) == one:
                    found[one] = data
                else:
                    damaged.append(one)
            store.blobs.put_all(found)
            bar.update(len(chunk))
    return tuple(damaged)


def _read(blobs: BlobFolder, sha256: str) -> bytes:
    """The blob's bytes, or none that could be right."""
    try:
        return blobs.get(sha256)
    except OSError:
        return b""


def _put_tables(connection: Connection, folder: Path, backup: Backup, without: set[str]) -> None:
    tables = tables_of(connection)
    if revision_of(connection) != revisions()[0]:
        raise CopyError("the store is not of this program's revision: open it with walt-loop store first")
    begun = _begun(folder, backup)
    for name in backup.tables:
        if name not in tables:
            raise CopyError(f"the backup has a table {name} that this program does not know: update walt-amodal")
        rows = read_rows(folder / backup.rows / f"{name}.jsonl")
        try:
            put_rows(connection, tables[name], _as_restored(name, rows, without, begun))
        except DBAPIError as error:
            raise CopyError(f"table {name} of the backup does not fit this program's ({cause(error)})") from error


def _begun(folder: Path, backup: Backup) -> set[tuple[str, int]]:
    """Generations that were at work; their clip art was not copied, so they begin again."""
    rows = read_rows(folder / backup.rows / "generations.jsonl")
    return {(row["camera"], row["number"]) for row in rows if row["state"] not in ENDED}


def _as_restored(name: str, rows: Iterator[Row], without: set[str], begun: set[tuple[str, int]]) -> Iterator[Row]:
    """Rows as they are to be: without what is gone, leased to nobody, and what was at work at its beginning."""
    for row in rows:
        if name == "envelopes" and row["id"] in without:
            continue
        if name == "envelopes" and "area" not in row:
            # A copy of before there was this column.
            row["area"] = None if row["x0"] is None else (row["x1"] - row["x0"]) * (row["y1"] - row["y0"])
        if name == "generations":
            row |= {"owner": "", "until_us": 0, "due_us": 0}
            if (row["camera"], row["number"]) in begun:
                row |= {"state": "pending", "clipart_sha256": ""}
        if name == "steps" and (row["camera"], row["number"]) in begun:
            row |= {"state": "pending", "result": "{}", "reason": "", "failures": 0, "ended_us": None}
        yield row


def _put_files(folder: Path, backup: Backup, home: Path, quiet: bool) -> None:
    # What was at work begins anew, in a folder of its own.
    begun = tuple(f"{GENERATIONS}/{camera}/{number}/" for camera, number in _begun(folder, backup))
    wanted = sorted((name, sha256) for name, sha256 in backup.files.items() if not name.startswith(begun))
    with closing(BlobFolder(folder / "files")) as files:
        for name, sha256 in tqdm(wanted, desc="files", unit="", disable=quiet or None):
            if not stays_below(name):
                raise CopyError(f"the backup names {name}, which lies outside of the home folder: it is damaged")
            data = _read(files, sha256)
            if envelope_id(data) != sha256:
                raise CopyError(f"{files.path(sha256)} is damaged ({name}): take another backup, or give no --home")
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
    if (home / "repository").is_dir():
        write_whole(home / "repository" / RESTORED, b"")


def resend_line(restored: Restored, broker: str = "HOST:PORT") -> str:
    """The command that asks devices for what came after the copy was made."""
    moment = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(restored.since_us / 1e6))
    return f"walt-loop resend --broker {broker} --since {moment}"
