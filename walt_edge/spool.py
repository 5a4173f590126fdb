"""The disk spool: what it has accepted reaches home, over power loss, broker loss and ingest loss.

One SQLite file (WAL, synchronous FULL). `accept` is durable when it returns. Everything that happens to an envelope
is one transaction that moves its row and the counters together; the table itself holds the invariant
accepted = acked + dropped + rejected + depth. Bodies of acknowledged envelopes stay until space is needed, so that
home can ask for them again after a restore; ids stay longer still, so that an envelope made twice counts once.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from walt_edge.contract.errors import WaltError
from walt_edge.contract.masks import rle_area
from walt_edge.contract.messages import CropHeader, SpoolCounts, envelope_id
from walt_edge.contract.topics import Kind
from walt_edge.privacy import PrivacyError, SealedEnvelope

LOG = logging.getLogger(__name__)

FILE_NAME = "spool.sqlite3"
DEFAULT_QUOTA_BYTES = 1 << 30
IDS_KEPT = 200_000
"""How many settled ids are remembered at most; about 100 bytes each."""

# What goes first when space is needed: crops by their value, then frames, then plates, which every crop refers to.
_RANK = {Kind.CROP: 0, Kind.FRAME: 1, Kind.PLATE: 2}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS envelopes (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('depth', 'acked', 'dropped', 'rejected')),
  rank INTEGER NOT NULL,
  value REAL NOT NULL,
  size INTEGER NOT NULL,      -- bytes of the body, 0 once it is freed
  reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS by_age ON envelopes (state, seq) WHERE size > 0;
CREATE INDEX IF NOT EXISTS by_value ON envelopes (rank, value, seq) WHERE state = 'depth';
CREATE TABLE IF NOT EXISTS bodies (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
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


class SpoolError(WaltError):
    """The spool cannot do what it was asked."""


class SpoolFullError(SpoolError):
    """The disk took no more; the envelope was not accepted."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """An envelope that waits for home's acknowledgement."""

    id: str
    kind: Kind
    data: bytes


class Spool:
    """The spool of one device; safe to use from several threads of one process.

    Attributes:
        path: The database file.
        quota_bytes: Bodies on disk never exceed this; the least valuable go first and are counted as dropped.
        set_aside: How many times this object found the file corrupt and began a fresh one.
    """

    def __init__(self, home: Path, quota_bytes: int = DEFAULT_QUOTA_BYTES) -> None:
        """Opens or makes the spool in the folder `home`.

        Raises:
            SpoolFullError: The disk is full.
            SpoolError: The folder or the file cannot be written.
        """
        self.path = home / FILE_NAME
        self.quota_bytes = quota_bytes
        self.set_aside = 0
        self._lock = threading.Lock()
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if not _is(error, _CORRUPT):
                raise self._translated(error) from error
            self._db = self._start_afresh(error)

    def accept(self, sealed: SealedEnvelope) -> bool:
        """Takes an envelope; durable on return. False if it was taken before, whatever became of it since.

        Raises:
            PrivacyError: Not made by `privacy.seal`.
            SpoolFullError: The disk is full; nothing was accepted.
            SpoolError: The spool's file is damaged or cannot be written.
        """
        if not isinstance(sealed, SealedEnvelope):
            raise PrivacyError(f"the spool takes a SealedEnvelope, not a {type(sealed).__name__}")
        row = (sealed.id, sealed.kind.value, _RANK[sealed.kind], _value(sealed), len(sealed.data))
        try:
            with self._transaction() as db:
                return self._insert(db, row, sealed.data)
        except SpoolFullError:
            # The disk is fuller than the quota allows for: what home has already gives way.
            if not self._release(len(sealed.data)):
                raise
        with self._transaction() as db:
            return self._insert(db, row, sealed.data)

    def pending(self, limit: int, skip: Collection[str] = ()) -> list[Spooled]:
        """The oldest envelopes that wait, at most `limit`, without those whose ids are in `skip`."""
        if limit <= 0:
            return []
        with self._transaction() as db:
            oldest = db.execute(
                "SELECT seq, id, kind FROM envelopes WHERE state = 'depth' AND size > 0 ORDER BY seq LIMIT ?",
                (limit + len(skip),),
            ).fetchall()
            chosen = [row for row in oldest if row[1] not in skip][:limit]
            return [Spooled(id_, Kind(kind), _body(db, seq)) for seq, id_, kind in chosen]

    def acked(self, ids: Iterable[str]) -> int:
        """Home has stored these. Returns how many were not yet known to be; unknown ids do nothing."""
        with self._transaction() as db:
            return sum(_settle(db, id_, "acked", ("depth", "dropped", "rejected")) for id_ in ids)

    def rejected(self, id_: str, reason: str) -> bool:
        """Home refuses this one for good: frees its body. False if it was not waiting."""
        with self._transaction() as db:
            if not _settle(db, id_, "rejected", ("depth", "dropped")):
                return False
            db.execute("UPDATE envelopes SET reason = ? WHERE id = ?", (reason, id_))
            seq = db.execute("SELECT seq FROM envelopes WHERE id = ?", (id_,)).fetchone()[0]
            _free(db, seq)
            return True

    def counts(self) -> SpoolCounts:
        """The persisted counters; `bytes` are the bodies on disk, acknowledged ones included."""
        with self._transaction() as db:
            row = db.execute("SELECT accepted, acked, dropped, rejected, depth, bytes FROM counts").fetchone()
        return SpoolCounts(**dict(zip(SpoolCounts.__struct_fields__, row, strict=True)))

    def close(self) -> None:
        """Closes the file; what was accepted is on disk already."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _insert(self, db: sqlite3.Connection, row: tuple[str, str, int, float, int], data: bytes) -> bool:
        cursor = db.execute(
            "INSERT OR IGNORE INTO envelopes (id, kind, state, rank, value, size) VALUES (?, ?, 'depth', ?, ?, ?)",
            row,
        )
        if cursor.rowcount == 0:
            return False
        seq = cursor.lastrowid or 0
        db.execute("INSERT INTO bodies (seq, data) VALUES (?, ?)", (seq, data))
        db.execute("UPDATE counts SET accepted = accepted + 1, depth = depth + 1, bytes = bytes + ?", (len(data),))
        self._make_space(db)
        if seq % 1000 == 0:
            db.execute("DELETE FROM envelopes WHERE state <> 'depth' AND size = 0 AND seq < ?", (seq - IDS_KEPT,))
        return True

    def _release(self, size: int) -> bool:
        """Frees at least `size` bytes of acknowledged bodies inside the file; False if there are not so many."""
        with self._transaction() as db:
            start = db.execute("SELECT bytes FROM counts").fetchone()[0]
            while start - db.execute("SELECT bytes FROM counts").fetchone()[0] < size:
                if not _free_oldest_acked(db):
                    return False
        return True

    def _make_space(self, db: sqlite3.Connection) -> None:
        """Frees bodies until the quota holds: acknowledged ones first, then the least valuable that wait."""
        while db.execute("SELECT bytes FROM counts").fetchone()[0] > self.quota_bytes:
            if not _free_oldest_acked(db):
                seq, id_ = db.execute(
                    "SELECT seq, id FROM envelopes WHERE state = 'depth' ORDER BY rank, value, seq LIMIT 1"
                ).fetchone()
                _settle(db, id_, "dropped", ("depth",))
                _free(db, seq)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction; SQLite's errors leave it as SpoolError, and a damaged file is replaced by a fresh one."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                self._roll_back()
                if _is(error, _CORRUPT):
                    self._db.close()
                    self._db = self._start_afresh(error)
                raise self._translated(error) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.DatabaseError:
            LOG.debug("rollback failed: the transaction ends with the connection", exc_info=True)

    def _open(self) -> sqlite3.Connection:
        is_new = not self.path.exists()
        db = sqlite3.connect(self.path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        except BaseException:
            db.close()
            raise
        if is_new:
            _sync_folder(self.path.parent)
        return db

    def _start_afresh(self, cause: sqlite3.DatabaseError) -> sqlite3.Connection:
        """Moves the damaged file aside, takes over from it what can still be read, and counts it."""
        aside = self.path.with_name(f"{FILE_NAME}.corrupt-{time.time_ns()}")
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{self.path}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")
        self.set_aside += 1
        db = self._open()
        db.execute("BEGIN IMMEDIATE")
        saved = sum(self._insert(db, row, data) for row, data in _readable(aside))
        db.execute("COMMIT")
        LOG.error(
            "%s is damaged (%s): moved aside to %s, %d waiting envelopes taken over into a fresh one; check the disk",
            self.path,
            cause,
            aside.name,
            saved,
        )
        return db

    def _translated(self, error: sqlite3.DatabaseError) -> SpoolError:
        if _is(error, _FULL):
            return SpoolFullError(f"no space to spool in {self.path.parent} ({error}): free disk or lower --quota-mb")
        return SpoolError(f"cannot use the spool {self.path}: {error}; check that the folder is writable")


def _value(sealed: SealedEnvelope) -> float:
    """What an envelope is worth among its kind: a crop by how surely and how largely it shows its object."""
    header = sealed.envelope.header
    return header.unoccluded_confidence * rle_area(header.mask) if isinstance(header, CropHeader) else 0.0


def _settle(db: sqlite3.Connection, id_: str, state: str, come_from: tuple[str, ...]) -> bool:
    """Moves an envelope to `state` if it is in one of `come_from`, and the counters with it."""
    row = db.execute("SELECT state FROM envelopes WHERE id = ?", (id_,)).fetchone()
    if row is None or row[0] not in come_from:
        return False
    db.execute("UPDATE envelopes SET state = ? WHERE id = ?", (state, id_))
    db.execute(f"UPDATE counts SET {row[0]} = {row[0]} - 1, {state} = {state} + 1")  # noqa: S608 (names of ours)
    return True


def _free(db: sqlite3.Connection, seq: int) -> None:
    """Frees an envelope's body; its id stays."""
    db.execute("UPDATE counts SET bytes = bytes - (SELECT size FROM envelopes WHERE seq = ?)", (seq,))
    db.execute("UPDATE envelopes SET size = 0 WHERE seq = ?", (seq,))
    db.execute("DELETE FROM bodies WHERE seq = ?", (seq,))


def _free_oldest_acked(db: sqlite3.Connection) -> bool:
    row = db.execute("SELECT seq FROM envelopes WHERE state = 'acked' AND size > 0 ORDER BY seq LIMIT 1").fetchone()
    if row is not None:
        _free(db, row[0])
    return row is not None


def _body(db: sqlite3.Connection, seq: int) -> bytes:
    data: bytes = db.execute("SELECT data FROM bodies WHERE seq = ?", (seq,)).fetchone()[0]
    return data


def _readable(path: Path) -> Iterator[tuple[tuple[str, str, int, float, int], bytes]]:
    """The waiting envelopes of a damaged spool whose bytes still have their hash."""
    try:
        with closing(sqlite3.connect(path)) as db:
            query = "SELECT e.seq, e.id, e.kind, e.rank, e.value, e.size FROM envelopes e WHERE state = 'depth'"
            for seq, *row in db.execute(query):
                data = _body(db, seq)
                if envelope_id(data) == row[0]:
                    yield (row[0], row[1], row[2], row[3], row[4]), data
    except (sqlite3.DatabaseError, TypeError):
        LOG.warning("the rest of %s cannot be read", path, exc_info=True)


def _is(error: sqlite3.Error, codes: set[int]) -> bool:
    # The low byte is the primary code; the rest says where it happened.
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in codes


def _sync_folder(folder: Path) -> None:
    """Makes a new file's name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
