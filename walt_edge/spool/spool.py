"""The disk spool: what it has accepted reaches home, over power loss, broker loss and ingest loss.

One SQLite file (WAL, synchronous FULL). `accept` is durable when it returns. Everything that happens to an envelope
is one transaction that moves its row and the counters together; the table itself holds the invariant
accepted = acked + dropped + rejected + depth. Bodies are sealed by a key that lies elsewhere. Those that home has
acknowledged stay until space is needed, so that home can ask for them again after a restore; ids stay longer still,
so that an envelope made twice counts once.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from walt_edge.contract.closing import Closing
from walt_edge.contract.masks import rle_area
from walt_edge.contract.messages import CropHeader, SpoolCounts
from walt_edge.contract.topics import Kind
from walt_edge.privacy.anonymiser import PrivacyError, SealedEnvelope
from walt_edge.spool.file import (
    CORRUPT,
    FILE_NAME,
    FULL,
    HOUR_US,
    RESEND,
    SpoolError,
    acked_hour,
    await_again,
    compact,
    drop,
    fact,
    free,
    free_bytes,
    free_oldest_acked,
    is_one_of,
    is_sealed,
    make_space,
    open_file,
    read_counts,
    seal_plain,
    set_fact,
    settle,
    unreadable,
)
from walt_edge.spool.key import SpoolKey, SpoolKeyError, UnreadableError
from walt_edge.spool.salvage import replace_file

__all__ = ["FILE_NAME", "Spool", "SpoolError", "SpoolFullError", "Spooled"]

LOG = logging.getLogger(__name__)

DEFAULT_QUOTA_BYTES = 1 << 30
IDS_KEPT = 200_000
"""How many settled ids are remembered at most; about 250 bytes each."""

# What goes first when space is needed: crops by their value, then frames, then plates, which every crop refers to.
_RANK = {Kind.CROP: 0, Kind.FRAME: 1, Kind.PLATE: 2}
_FREE_KEPT_BYTES = 64 << 20


class SpoolFullError(SpoolError):
    """The disk took no more; the envelope was not accepted."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """An envelope that waits for home's acknowledgement."""

    id: str
    kind: Kind
    data: bytes


@dataclass(frozen=True, slots=True)
class _New:
    """A row to be."""

    id: str
    kind: str
    rank: int
    value: float
    key: str
    body: bytes


class Spool(Closing):
    """The spool of one device; safe to use from several threads of one process.

    Attributes:
        path: The database file.
        quota_bytes: Bodies on disk never exceed this; the least valuable go first, counted as dropped. The file is
            larger by what pages round up (4 KiB a body), 400 bytes an id, and a log of a few MB.
        set_aside: How many times this object moved a file aside that was damaged, or that its key does not open.
    """

    def __init__(self, home: str | Path, quota_bytes: int | None = None, key: SpoolKey | None = None) -> None:
        """Opens or makes the spool in the folder `home`.

        Args:
            home: The folder; it must exist.
            quota_bytes: For bodies, as stored. A lower one than before holds from now on, and what it frees goes back
                to the disk. None: 1 GiB for what is accepted, and nothing is dropped by opening.
            key: Seals bodies; what an older version or a spool without a key left plain is sealed now. What waits
                sealed and is not opened by it is lost: counted as dropped, the file moved aside. Without a key new
                bodies are plain; a spool that ever had one can then be counted and settled, not filled or read.

        Raises:
            SpoolFullError: The disk is full.
            SpoolError: The folder or the file cannot be written, or a newer version made it.
        """
        self.path, self._key = Path(home) / FILE_NAME, key
        self.quota_bytes = DEFAULT_QUOTA_BYTES if quota_bytes is None else quota_bytes
        self._shall_fit = quota_bytes is not None
        self.set_aside = 0
        self._lock = threading.Lock()
        self._db = self._opened()
        self._is_lost = False

    def accept(self, sealed: SealedEnvelope) -> bool:
        """Takes an envelope; durable on return. False if it was taken before, whatever became of it since.

        Raises:
            PrivacyError: Not made by `privacy.seal`.
            SpoolFullError: The disk is full; nothing was accepted.
            SpoolKeyError: The spool is sealed, and was opened without a key.
            SpoolError: The spool's file is damaged or cannot be written.
        """
        if not isinstance(sealed, SealedEnvelope):
            raise PrivacyError(f"the spool takes a SealedEnvelope, not a {type(sealed).__name__}")
        if self._key is None and self._needs_key:
            raise self._sealed_error()
        new = self._made(sealed)
        try:
            with self._transaction() as db:
                return self._insert(db, new)
        except SpoolFullError:
            # The disk is fuller than the quota allows for: what home has already gives way.
            if not self._release(len(new.body)):
                raise
        with self._transaction() as db:
            return self._insert(db, new)

    def pending(self, limit: int, skip: Collection[str] = ()) -> list[Spooled]:
        """The oldest envelopes that wait, at most `limit`, without those whose ids are in `skip`.

        One whose body is damaged is counted as dropped, and passed over.

        Raises:
            SpoolKeyError: They are sealed, and the spool was opened without a key.
            SpoolError: The spool's file is damaged.
        """
        if limit <= 0:
            return []
        with self._transaction() as db:
            oldest = db.execute(
                "SELECT seq, id, kind, key FROM envelopes WHERE state = 'depth' AND size > 0 ORDER BY seq LIMIT ?",
                (limit + len(skip),),
            ).fetchall()
            chosen = [row for row in oldest if row[1] not in skip][:limit]
            read = [(id_, kind, self._read(db, seq, id_, key)) for seq, id_, kind, key in chosen]
        return [Spooled(id_, Kind(kind), data) for id_, kind, data in read if data is not None]

    def acked(self, ids: Iterable[str]) -> int:
        """Home has stored these. Returns how many were not yet known to be; unknown ids do nothing."""
        hour = acked_hour()
        with self._transaction() as db:
            settled = [id_ for id_ in ids if settle(db, id_, "acked", ("depth", "dropped", "rejected"))]
            db.executemany("UPDATE envelopes SET acked_hour = ? WHERE id = ?", [(hour, id_) for id_ in settled])
        return len(settled)

    def rejected(self, id_: str, reason: str) -> bool:
        """Home refuses this one for good: frees its body. False if it was not waiting."""
        with self._transaction() as db:
            if not settle(db, id_, "rejected", ("depth", "dropped")):
                return False
            db.execute("UPDATE envelopes SET reason = ? WHERE id = ?", (reason, id_))
            seq = db.execute("SELECT seq FROM envelopes WHERE id = ?", (id_,)).fetchone()[0]
            free(db, seq)
            return True

    def resend(self, since_utc_us: int, nonce: str) -> int:
        """Home has lost what it acknowledged since then: what is still held of it waits again.

        Args:
            since_utc_us: In microseconds since 1970, UTC; rounded down to the hour. What was acknowledged under a
                clock that nobody had set is taken along: home answers what it has as a duplicate.
            nonce: Names this request; the same one again does nothing, after a restart too.

        Returns:
            How many wait again.
        """
        with self._transaction() as db:
            if fact(db, RESEND) == nonce:
                return 0
            set_fact(db, RESEND, nonce)
            return await_again(db, since_utc_us // HOUR_US, ["", *(self._key.ids if self._key else ())])

    def counts(self) -> SpoolCounts:
        """The persisted counters; `bytes` are the bodies on disk, acknowledged ones included."""
        with self._transaction() as db:
            return read_counts(db)

    def close(self) -> None:
        """Closes the file; what was accepted is on disk already."""
        with self._lock:
            self._db.close()

    def _sealed_error(self) -> SpoolKeyError:
        return SpoolKeyError(f"the spool {self.path} is sealed: open it with its key")

    def _made(self, sealed: SealedEnvelope) -> _New:
        key = self._key
        body = sealed.data if key is None else key.seal(sealed.id, sealed.data)
        kind = sealed.kind
        return _New(sealed.id, kind.value, _RANK[kind], _value(sealed), key.id if key else "", body)

    def _read(self, db: sqlite3.Connection, seq: int, id_: str, key_id: str) -> bytes | None:
        """A body as it was accepted; None, and dropped, if it is damaged."""
        row = db.execute("SELECT data FROM bodies WHERE seq = ?", (seq,)).fetchone()
        if key_id and self._key is None:
            raise self._sealed_error()
        try:
            if row is None:
                raise UnreadableError(f"the body of {id_[:12]} is missing")
            body: bytes = row[0]
            return self._key.open(id_, key_id, body) if key_id and self._key else body
        except UnreadableError as error:
            LOG.error("%s: dropped; check the disk", error)
            settle(db, id_, "dropped", ("depth",))
            free(db, seq)
            return None

    def _insert(self, db: sqlite3.Connection, new: _New) -> bool:
        cursor = db.execute(
            "INSERT OR IGNORE INTO envelopes (id, kind, state, rank, value, size, key) "
            "VALUES (?, ?, 'depth', ?, ?, ?, ?)",
            (new.id, new.kind, new.rank, new.value, len(new.body), new.key),
        )
        if cursor.rowcount == 0:
            return False
        seq = cursor.lastrowid or 0
        db.execute("INSERT INTO bodies (seq, data) VALUES (?, ?)", (seq, new.body))
        db.execute(
            "UPDATE counts SET accepted = accepted + 1, depth = depth + 1, bytes = bytes + ?", (len(new.body),)
        )
        make_space(db, self.quota_bytes)
        if seq % 1000 == 0:
            db.execute("DELETE FROM envelopes WHERE state <> 'depth' AND size = 0 AND seq < ?", (seq - IDS_KEPT,))
        return True

    def _release(self, size: int) -> bool:
        """Frees at least `size` bytes of acknowledged bodies inside the file; False if there are not so many."""
        with self._transaction() as db:
            start = db.execute("SELECT bytes FROM counts").fetchone()[0]
            while start - db.execute("SELECT bytes FROM counts").fetchone()[0] < size:
                if not free_oldest_acked(db):
                    return False
        return True

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction; SQLite's errors leave it as SpoolError, and a damaged file is replaced by a fresh one."""
        with self._lock:
            if self._is_lost:
                self._db, self._is_lost = self._opened(), False
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                self._roll_back()
                if is_one_of(error, CORRUPT):
                    self._db.close()
                    self._is_lost = True  # Until there is a fresh one, which a full disk may put off.
                    self._db, self._is_lost = self._start_afresh(error), False
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

    def _opened(self) -> sqlite3.Connection:
        """The file, or a fresh one in place of a damaged one; raises SpoolError."""
        try:
            return self._open()
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, OSError) or not is_one_of(error, CORRUPT):
                raise self._translated(error) from error
            return self._start_afresh(error)

    def _open(self) -> sqlite3.Connection:
        db = open_file(self.path)
        try:
            if self._key is not None:
                lost = unreadable(db, self._key)
                if lost:
                    db = self._without(db, lost, self._key)
                self._seal_plain(db, self._key)
            self._needs_key = is_sealed(db)
            if self._shall_fit:
                self._fit(db)
        except BaseException:
            db.close()
            raise
        return db

    def _seal_plain(self, db: sqlite3.Connection, key: SpoolKey) -> None:
        try:
            if seal_plain(db, key):
                self._remove_plain()
        except sqlite3.DatabaseError as error:
            if not is_one_of(error, FULL):
                raise
            LOG.warning(
                "no space to seal all that an older version left in plain (%s): the next start tries again", error
            )

    def _remove_plain(self) -> None:
        """What an older version had moved aside is plain, and of no use any more."""
        for path in self.path.parent.glob(f"{FILE_NAME}.corrupt-*"):
            path.unlink(missing_ok=True)
            LOG.warning("removed %s, which an older version had left in plain", path.name)

    def _fit(self, db: sqlite3.Connection) -> None:
        """A quota that was lowered holds from now on, and gives its space back to the disk."""
        db.execute("BEGIN IMMEDIATE")
        make_space(db, self.quota_bytes)
        db.execute("COMMIT")
        if free_bytes(db) > max(self.quota_bytes, _FREE_KEPT_BYTES):
            try:
                compact(db)
            except sqlite3.DatabaseError as error:
                if not is_one_of(error, FULL):
                    raise
                LOG.warning("no space to make the spool's file smaller (%s): the next start tries again", error)

    def _without(self, db: sqlite3.Connection, lost: list[tuple[int, str]], key: SpoolKey) -> sqlite3.Connection:
        """A file without what no key of ours opens; the old one lies beside it, if the disk has room for both."""
        LOG.error(
            "%d envelopes that wait in %s were sealed by another key than %s: counted as dropped; who finds the key "
            "can put the file back that is moved aside",
            len(lost),
            self.path,
            key.id,
        )
        db.close()
        try:
            replace_file(self.path, key, "sealed", whole=True)
        except sqlite3.DatabaseError as error:
            if not is_one_of(error, FULL):
                raise
            LOG.error("no space for a file beside the old one (%s): dropped from it, and none is moved aside", error)
            db = open_file(self.path)
            drop(db, lost)
            return db
        self.set_aside += 1
        return open_file(self.path)

    def _start_afresh(self, cause: sqlite3.DatabaseError) -> sqlite3.Connection:
        """Moves the damaged file aside, takes over from it what can still be read, and counts it."""
        try:
            counts = replace_file(self.path, self._key, "corrupt", whole=False)
            self.set_aside += 1
            LOG.error(
                "%s is damaged (%s): moved aside, %d waiting envelopes taken over into a fresh one; check the disk",
                self.path,
                cause,
                counts.depth,
            )
            return self._open()
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.DatabaseError | OSError) -> SpoolError:
        is_full = error.errno == errno.ENOSPC if isinstance(error, OSError) else is_one_of(error, FULL)
        if is_full:
            return SpoolFullError(f"no space to spool in {self.path.parent} ({error}): free disk or lower --quota-mb")
        return SpoolError(f"cannot use the spool {self.path}: {error}; check that the folder is writable")


def _value(sealed: SealedEnvelope) -> float:
    """What an envelope is worth among its kind: a crop by how surely and how largely it shows its object."""
    header = sealed.envelope.header
    return header.unoccluded_confidence * rle_area(header.mask) if isinstance(header, CropHeader) else 0.0
