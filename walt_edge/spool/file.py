"""The spool's file: its tables, its upgrade from older versions, and a fresh one in place of one that is spent.

`envelopes` has a row for every id; `bodies` what is still held of them, sealed if the spool has a key. Nothing but
bodies tells of people: a row holds a hash, a kind, a size, a value, and the hour of home's acknowledgement.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from walt_edge.capture.clock import clock_state
from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import flush
from walt_edge.contract.messages import Clock, SpoolCounts
from walt_edge.spool.key import SpoolKey

LOG = logging.getLogger(__name__)

FILE_NAME = "spool.sqlite3"
VERSION = 2
BATCH = 32
HOUR_US = 3600 * 10**6
SUFFIXES = ("", "-wal", "-shm")
_WAL_KEPT_BYTES = 8 << 20
_CACHE_KIB = 512

CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}

_TABLES = """
CREATE TABLE IF NOT EXISTS envelopes (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('depth', 'acked', 'dropped', 'rejected')),
  rank INTEGER NOT NULL,
  value REAL NOT NULL,
  size INTEGER NOT NULL,      -- bytes of the body as stored, 0 once it is freed
  reason TEXT NOT NULL DEFAULT '',
  key TEXT NOT NULL DEFAULT '',  -- what sealed the body; '' = nothing
  acked_hour INTEGER             -- hours since 1970, UTC; NULL = not acked, or by a clock that nobody had set
);
CREATE INDEX IF NOT EXISTS by_age ON envelopes (state, seq) WHERE size > 0;
CREATE INDEX IF NOT EXISTS by_value ON envelopes (rank, value, seq) WHERE state = 'depth';
CREATE TABLE IF NOT EXISTS bodies (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
  only INTEGER PRIMARY KEY CHECK (only = 0),
  accepted INTEGER NOT NULL DEFAULT 0,
  acked INTEGER NOT NULL DEFAULT 0,
  dropped INTEGER NOT NULL DEFAULT 0,
  rejected INTEGER NOT NULL DEFAULT 0,
  depth INTEGER NOT NULL DEFAULT 0 CHECK (depth >= 0),
  bytes INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
  CHECK (accepted = acked + dropped + rejected + depth)
);
INSERT OR IGNORE INTO counts (only) VALUES (0);
"""
_FROM_VERSION_1 = (
    "ALTER TABLE envelopes ADD COLUMN key TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE envelopes ADD COLUMN acked_hour INTEGER",
)
_AWAIT_AGAIN = (
    "UPDATE envelopes SET state = 'depth', acked_hour = NULL "
    "WHERE state = 'acked' AND size > 0 AND (acked_hour IS NULL OR acked_hour >= ?)"
)
_COUNTERS = SpoolCounts.__struct_fields__
# Whether bodies are sealed: no row = never, `begun` = from here on, `done` = and no plain byte is left in the file.
SEALED = "sealed"
RESEND = "resend"
"""The fact that names the last resend that home asked for and got."""


class SpoolError(WaltError):
    """The spool cannot do what it was asked."""


def open_file(path: Path) -> sqlite3.Connection:
    """Opens or makes the file; every commit is durable.

    Raises:
        SpoolError: A newer version made it.
        sqlite3.DatabaseError: It is damaged, or cannot be written.
    """
    _finish_swap(path)
    is_new = not path.exists()
    db = connect(path)
    if is_new:
        flush(path.parent)
    return db


def connect(path: Path) -> sqlite3.Connection:
    """Opens a database with our settings and tables."""
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        db.execute("PRAGMA temp_store = MEMORY")
        # Of bodies that are written once and read once the default 2 MB keep nothing that is wanted again.
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        # What is freed is ciphertext; overwriting it where it costs nothing is enough.
        db.execute("PRAGMA secure_delete = FAST")
        _upgrade(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _upgrade(db: sqlite3.Connection, path: Path) -> None:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    if version > VERSION:
        raise SpoolError(f"{path} was made by a newer version ({version}, we know {VERSION}): update this agent")
    db.execute("BEGIN IMMEDIATE")
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'envelopes'").fetchone():
        for statement in _FROM_VERSION_1:
            db.execute(statement)
    for statement in _TABLES.split(";\n"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")


# Facts


def fact(db: sqlite3.Connection, name: str) -> str | None:
    """A fact that the spool remembers."""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def set_fact(db: sqlite3.Connection, name: str, value: str) -> None:
    """Remembers a fact, in the transaction of the caller."""
    db.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))


def is_sealed(db: sqlite3.Connection) -> bool:
    """Whether this spool was ever opened with a key."""
    return fact(db, SEALED) is not None


# From plain to sealed


def seal_plain(db: sqlite3.Connection, key: SpoolKey) -> int:
    """Seals what an older version left plain, a few bodies a commit, then wipes what was freed before.

    A kill at any moment leaves plain and sealed bodies side by side; the next start goes on. Returns how many were
    plain.
    """
    if fact(db, SEALED) == "done":
        return 0
    db.execute("PRAGMA secure_delete = ON")
    sealed = 0
    while (done := _seal_some(db, key)) > 0:
        sealed += done
    if db.execute("PRAGMA freelist_count").fetchone()[0] or sealed:
        compact(db)
    set_fact(db, SEALED, "done")
    db.execute("PRAGMA secure_delete = FAST")
    if sealed:
        LOG.info("sealed %d envelopes that an older version kept in plain", sealed)
    return sealed


def _seal_some(db: sqlite3.Connection, key: SpoolKey) -> int:
    db.execute("BEGIN IMMEDIATE")
    try:
        set_fact(db, SEALED, "begun")
        rows = db.execute(
            "SELECT seq, id, data FROM envelopes JOIN bodies USING (seq) WHERE size > 0 AND key = '' LIMIT ?",
            (BATCH,),
        ).fetchall()
        for seq, id_, data in rows:
            body = key.seal(id_, data)
            db.execute("UPDATE bodies SET data = ? WHERE seq = ?", (body, seq))
            db.execute("UPDATE envelopes SET key = ?, size = ? WHERE seq = ?", (key.id, len(body), seq))
            db.execute("UPDATE counts SET bytes = bytes + ?", (len(body) - len(data),))
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.DatabaseError):
            db.execute("ROLLBACK")
        raise
    return len(rows)


def compact(db: sqlite3.Connection) -> None:
    """Rewrites the file without what was freed; needs as much disk again for a moment."""
    # Not in memory: the copy is as large as the spool.
    db.execute("PRAGMA temp_store = FILE")
    try:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.execute("PRAGMA temp_store = MEMORY")


def free_bytes(db: sqlite3.Connection) -> int:
    """How much of the file holds nothing."""
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
    return int(pages * size)


def unreadable(db: sqlite3.Connection, key: SpoolKey) -> list[tuple[int, str]]:
    """(seq, id) of what waits and none of the keys opens."""
    marks = ", ".join("?" * len(key.ids))
    query = f"SELECT seq, id FROM envelopes WHERE state = 'depth' AND size > 0 AND key NOT IN ('', {marks})"  # noqa: S608
    return db.execute(query, sorted(key.ids)).fetchall()


def fresh_path(path: Path) -> Path:
    """Where a file is made that is to replace `path`."""
    return path.with_name(f"{path.name}.new")


def _finish_swap(path: Path) -> None:
    """Ends, or forgets, a replacement that a kill interrupted."""
    fresh = fresh_path(path)
    if not fresh.exists():
        return
    if path.exists():
        remove(fresh)
        return
    for suffix in SUFFIXES[1:]:
        # The log of the file that was moved aside must not be replayed into this one.
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    flush(path.parent)
    fresh.rename(path)
    flush(path.parent)


def remove(path: Path) -> None:
    """Removes a database and its log."""
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


# Rows and counters, in the transaction of the caller


def read_counts(db: sqlite3.Connection) -> SpoolCounts:
    """The persisted counters."""
    row = db.execute(f"SELECT {', '.join(_COUNTERS)} FROM counts").fetchone()  # noqa: S608 (names of ours)
    return SpoolCounts(**dict(zip(_COUNTERS, row, strict=True)))


def settle(db: sqlite3.Connection, id_: str, state: str, come_from: tuple[str, ...]) -> bool:
    """Moves an envelope to `state` if it is in one of `come_from`, and the counters with it."""
    row = db.execute("SELECT state FROM envelopes WHERE id = ?", (id_,)).fetchone()
    if row is None or row[0] not in come_from:
        return False
    db.execute("UPDATE envelopes SET state = ? WHERE id = ?", (state, id_))
    db.execute(f"UPDATE counts SET {row[0]} = {row[0]} - 1, {state} = {state} + 1")  # noqa: S608 (names of ours)
    return True


def await_again(db: sqlite3.Connection, since_hour: int, keys: list[str]) -> int:
    """What was acknowledged in that hour or later, or nobody knows when, waits again if these keys open it."""
    marks = ", ".join("?" * len(keys))
    again = db.execute(f"{_AWAIT_AGAIN} AND key IN ({marks})", (since_hour, *keys)).rowcount
    db.execute("UPDATE counts SET acked = acked - ?, depth = depth + ?", (again, again))
    return again


def acked_hour() -> int | None:
    """This hour since 1970, UTC; None while nobody has set this device's clock."""
    return time.time_ns() // (1000 * HOUR_US) if clock_state() is Clock.SYNCHRONISED else None


def make_space(db: sqlite3.Connection, quota_bytes: int) -> None:
    """Frees bodies until the quota holds: acknowledged ones first, then the least valuable that wait."""
    while db.execute("SELECT bytes FROM counts").fetchone()[0] > quota_bytes:
        if not free_oldest_acked(db):
            seq, id_ = db.execute(
                "SELECT seq, id FROM envelopes WHERE state = 'depth' ORDER BY rank, value, seq LIMIT 1"
            ).fetchone()
            settle(db, id_, "dropped", ("depth",))
            free(db, seq)


def drop(db: sqlite3.Connection, rows: list[tuple[int, str]]) -> None:
    """Counts (seq, id) that wait as dropped and frees their bodies, a few a commit: the disk may be nearly full."""
    for start in range(0, len(rows), BATCH):
        db.execute("BEGIN IMMEDIATE")
        for seq, id_ in rows[start : start + BATCH]:
            settle(db, id_, "dropped", ("depth",))
            free(db, seq)
        db.execute("COMMIT")


def free(db: sqlite3.Connection, seq: int) -> None:
    """Frees an envelope's body; its id stays."""
    db.execute("UPDATE counts SET bytes = bytes - (SELECT size FROM envelopes WHERE seq = ?)", (seq,))
    db.execute("UPDATE envelopes SET size = 0 WHERE seq = ?", (seq,))
    db.execute("DELETE FROM bodies WHERE seq = ?", (seq,))


def free_oldest_acked(db: sqlite3.Connection) -> bool:
    """Frees the body that home acknowledged and that came first; False if there is none."""
    row = db.execute("SELECT seq FROM envelopes WHERE state = 'acked' AND size > 0 ORDER BY seq LIMIT 1").fetchone()
    if row is not None:
        free(db, row[0])
    return row is not None


def is_one_of(error: sqlite3.Error, codes: set[int]) -> bool:
    """Whether an error's primary code, its low byte, is one of these; the rest says where it happened."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in codes
