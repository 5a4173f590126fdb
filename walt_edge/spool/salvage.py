"""A fresh spool in place of one that is damaged, or that its key does not open: all that can be read goes on."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from walt_edge.contract.files import flush
from walt_edge.contract.messages import SpoolCounts, envelope_id
from walt_edge.spool.file import (
    BATCH,
    FILE_NAME,
    FULL,
    RESEND,
    SEALED,
    SUFFIXES,
    connect,
    fact,
    fresh_path,
    is_one_of,
    is_sealed,
    read_counts,
    remove,
    set_fact,
)
from walt_edge.spool.key import SpoolKey, UnreadableError

LOG = logging.getLogger(__name__)

_COLUMNS = "seq, id, kind, state, rank, value, size, reason, key, acked_hour"


@dataclass(slots=True)
class Row:
    """An envelope's row, and its body if there is one that can be read."""

    seq: int
    id: str
    kind: str
    state: str
    rank: int
    value: float
    size: int
    reason: str
    key: str
    acked_hour: int | None
    body: bytes | None = None


def replace_file(path: Path, key: SpoolKey | None, why: str, *, whole: bool) -> SpoolCounts:
    """Moves the file aside and puts one in its place with all that can be read of it; counters go on.

    What waited and cannot be read is counted as dropped. Whole or not at all over a kill.

    Args:
        path: The spool's file, closed.
        key: Opens bodies; those that it does not open are lost. None takes every body as it is.
        why: Part of the name of what is moved aside.
        whole: Whether a disk without room for all of it is an error; otherwise as much as it takes is taken over.

    Returns:
        What the new file holds.

    Raises:
        sqlite3.DatabaseError: The disk is full; the old file is where it was.
    """
    fresh = fresh_path(path)
    remove(fresh)
    try:
        with closing(connect(fresh)) as db:
            _copy(path, db, key, whole)
            counts = read_counts(db)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except BaseException:
        remove(fresh)
        raise
    _swap(path, path.with_name(f"{FILE_NAME}.{why}-{time.time_ns()}"))
    return counts


def _copy(path: Path, db: sqlite3.Connection, key: SpoolKey | None, whole: bool) -> None:
    before: SpoolCounts | None = None
    try:
        with closing(connect(path)) as old:
            rows = _rows(old)
            with contextlib.suppress(sqlite3.DatabaseError, TypeError):
                before = read_counts(old)
            _copy_rows(old, rows, db, key, whole)
            if is_sealed(old):
                set_fact(db, SEALED, "begun")
            resend = fact(old, RESEND)
            if resend is not None:
                set_fact(db, RESEND, resend)
    except sqlite3.DatabaseError as error:
        if whole:
            raise
        LOG.warning("the rest of %s cannot be read: %s", path, error)
    _carry_on_counting(db, before)


def _rows(old: sqlite3.Connection) -> list[Row]:
    """The rows up to the first that cannot be read."""
    rows: list[Row] = []
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in old.execute(f"SELECT {_COLUMNS} FROM envelopes ORDER BY seq"):  # noqa: S608 (names of ours)
            rows.append(Row(*row))  # noqa: PERF401 (what came before an error is kept)
    return rows


def _copy_rows(
    old: sqlite3.Connection, rows: list[Row], db: sqlite3.Connection, key: SpoolKey | None, whole: bool
) -> None:
    """Copies in commits of a few; unless `whole`, a disk that is full ends it, and what is missing is dropped."""
    for start in range(0, len(rows), BATCH):
        db.execute("BEGIN IMMEDIATE")
        try:
            for row in rows[start : start + BATCH]:
                row.body = _readable_body(old, row, key)
                _insert(db, row)
            db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            with contextlib.suppress(sqlite3.DatabaseError):
                db.execute("ROLLBACK")
            if whole or not is_one_of(error, FULL):
                raise
            LOG.error("no space to take over more than %d of %d envelopes: free disk", start, len(rows))
            return


def _readable_body(old: sqlite3.Connection, row: Row, key: SpoolKey | None) -> bytes | None:
    """A row's body as stored, or None if it is not what its id says."""
    if row.size == 0:
        return None
    with contextlib.suppress(sqlite3.DatabaseError, TypeError, UnreadableError):
        body = bytes(old.execute("SELECT data FROM bodies WHERE seq = ?", (row.seq,)).fetchone()[0])
        if row.key and key is None:
            return body
        plain = key.open(row.id, row.key, body) if row.key and key else body
        return body if envelope_id(plain) == row.id else None
    return None


def _insert(db: sqlite3.Connection, row: Row) -> None:
    row.size = len(row.body) if row.body else 0
    if row.state == "depth" and row.body is None:
        row.state = "dropped"
    values = [getattr(row, name) for name in _COLUMNS.split(", ")]
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT OR IGNORE INTO envelopes ({_COLUMNS}) VALUES ({marks})", values)  # noqa: S608 (names of ours)
    if row.body:
        db.execute("INSERT INTO bodies (seq, data) VALUES (?, ?)", (row.seq, row.body))


def _carry_on_counting(db: sqlite3.Connection, before: SpoolCounts | None) -> None:
    """Counters as they were, with what no longer waits as dropped; by the rows where they cannot be had."""
    found = dict(db.execute("SELECT state, count(*) FROM envelopes GROUP BY state").fetchall())
    size: int = db.execute("SELECT coalesce(sum(size), 0) FROM envelopes").fetchone()[0]
    depth = found.get("depth", 0)
    if before is not None and before.depth >= depth:
        acked, rejected, accepted = before.acked, before.rejected, before.accepted
    else:
        acked, rejected, accepted = found.get("acked", 0), found.get("rejected", 0), sum(found.values())
    values = (accepted, acked, accepted - acked - rejected - depth, rejected, depth, size)
    db.execute("UPDATE counts SET accepted = ?, acked = ?, dropped = ?, rejected = ?, depth = ?, bytes = ?", values)


def _swap(path: Path, aside: Path) -> None:
    """The old file aside, the fresh one in its place; `_finish_swap` ends what a kill interrupts."""
    for older in [*path.parent.glob(f"{FILE_NAME}.corrupt-*"), *path.parent.glob(f"{FILE_NAME}.sealed-*")]:
        older.unlink(missing_ok=True)  # One is enough to look into, and the disk has other uses.
    for suffix in SUFFIXES:
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
            flush(path.parent)
    fresh_path(path).rename(path)
    flush(path.parent)
