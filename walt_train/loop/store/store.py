"""The store at home: every envelope once, as a content-addressed file and a row that finds it.

The order of writing makes it safe against a crash at any instant: files first (flushed), then the rows (one
transaction, `synchronous=FULL`), and only then does anybody acknowledge. A row therefore never names a missing
file; a file without a row is harmless and `collect_orphans` removes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from walt_edge.contract.clipart import ClipArt
from walt_edge.contract.closing import Closing
from walt_edge.contract.messages import AckState, EnvelopeError, decode_envelope, envelope_id
from walt_edge.contract.topics import Kind
from walt_train.loop.labels.tables import drop, not_rejected
from walt_train.loop.store.blobs import Blobs, open_blobs
from walt_train.loop.store.config import DATABASE_NAME as DATABASE_NAME
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import UNAVAILABLE, cause, open_database, transaction
from walt_train.loop.store.errors import StoreError as StoreError
from walt_train.loop.store.errors import StoreWriteError as StoreWriteError
from walt_train.loop.store.export import export_clipart
from walt_train.loop.store.horizon import too_old
from walt_train.loop.store.quarantine import QuarantineLimits as QuarantineLimits
from walt_train.loop.store.quarantine import record_refused
from walt_train.loop.store.tables import counters, envelope_row, envelopes, quarantine, tombstones
from walt_train.loop.store.values import Accepted as Accepted
from walt_train.loop.store.values import Refused as Refused
from walt_train.loop.store.values import StoreCounts as StoreCounts
from walt_train.loop.store.values import Stored as Stored

_ORPHAN_AGE_S = 3600.0
_IDS_A_QUERY = 500


class Store(Closing):
    """A database, `blobs/` and `quarantine/`: all in one folder, or in PostgreSQL and object storage.

    Several ingest processes may share one.

    Args:
        where: A folder, made if absent, or the two places.
        limits: How much of what was refused is kept.

    Attributes:
        config: Where it is.

    Raises:
        UsageError: A package for such a place is not installed.
        StoreWriteError: It cannot be made or written.
        StoreError: A newer program made it.
    """

    def __init__(self, where: Path | StoreConfig, limits: QuarantineLimits | None = None) -> None:
        self.config = StoreConfig.local(where) if isinstance(where, Path) else where
        self._limits = limits or QuarantineLimits()
        try:
            self._blobs = open_blobs(self.config, "blobs", ".envelope")
            self._quarantine = open_blobs(self.config, "quarantine")
            self._engine = open_database(self.config.database)
        except UNAVAILABLE as error:
            raise StoreWriteError(f"cannot open the store in {self.config.place}: {cause(error)}") from error

    def close(self) -> None:
        """Closes the database and ends the writers."""
        self._engine.dispose()
        self._blobs.close()
        self._quarantine.close()

    @property
    def engine(self) -> Engine:
        """The store's database."""
        return self._engine

    @property
    def blobs(self) -> Blobs:
        """The envelopes' bytes, by id."""
        return self._blobs

    @property
    def refused_blobs(self) -> Blobs:
        """The bytes of what lies in quarantine, by sha256."""
        return self._quarantine

    # Writing

    def add_group(self, accepted: Sequence[Accepted], refused: Sequence[Refused] = ()) -> list[AckState]:
        """Stores a group in one commit; when it returns, it may be acknowledged.

        Returns:
            For each of `accepted`, in order: stored, or duplicate if it was there before (or was deleted).

        Raises:
            StoreWriteError: Nothing was recorded; try the same group again later.
        """
        try:
            # Another ingest process may have been the first to count, or to refuse the same bytes.
            for _ in range(3):
                try:
                    return self._add_group(accepted, refused)
                except IntegrityError:
                    continue
            return self._add_group(accepted, refused)
        except UNAVAILABLE as error:
            raise StoreWriteError(f"cannot write to the store in {self.config.place}: {cause(error)}") from error

    def _add_group(self, accepted: Sequence[Accepted], refused: Sequence[Refused]) -> list[AckState]:
        with self._engine.connect() as connection:
            known = _known(connection, {item.id: item for item in accepted})
        fresh = {item.id: item for item in accepted if item.id not in known}
        self._blobs.put_all({item.id: item.data for item in fresh.values()})
        bad = {envelope_id(item.data): item for item in refused}
        self._quarantine.put_all({sha256: item.data for sha256, item in bad.items()})
        now_us = _now_us()
        with transaction(self._engine) as connection:
            gone = _deleted_meanwhile(connection, fresh)
            # In order, so that two workers who store the same never wait for one another in a circle.
            wanted = [fresh[sha256] for sha256 in sorted(fresh) if sha256 not in gone]
            stored = _insert_new(
                connection, [envelope_row(i.id, i.envelope, len(i.data), now_us, i.held) for i in wanted]
            )
            _count(connection, "duplicates", len(accepted) - len(stored))
            _count(connection, "rejected", len(refused))
            evicted = record_refused(connection, bad, now_us, self._limits)
        for sha256 in gone:
            self._blobs.delete(sha256)
        for sha256 in evicted:
            self._quarantine.delete(sha256)
        return _states(accepted, stored)

    def delete(self, ids: Iterable[str], reason: str) -> int:
        """Deletes envelopes for good: a resend is acknowledged and not stored again. Returns how many were held."""
        wanted = list(dict.fromkeys(ids))
        now_us, held = _now_us(), 0
        with transaction(self._engine) as connection:
            for chunk in _chunks(wanted):
                buried = set(connection.scalars(select(tombstones.c.id).where(tombstones.c.id.in_(chunk))))
                rows = [{"id": i, "deleted_us": now_us, "reason": reason} for i in chunk if i not in buried]
                if rows:
                    connection.execute(insert(tombstones), rows)
                held += connection.execute(delete(envelopes).where(envelopes.c.id.in_(chunk))).rowcount
                drop(connection, chunk)
        for sha256 in wanted:
            self._blobs.delete(sha256)
        return held

    def collect_orphans(self, older_than_s: float = _ORPHAN_AGE_S) -> int:
        """Removes files that no row names and that are too old to be on their way in; returns how many."""
        removed = 0
        for chunk in _chunks(list(self._blobs.names(older_than_s))):
            with self._engine.connect() as connection:
                named = set(connection.scalars(select(envelopes.c.id).where(envelopes.c.id.in_(chunk))))
            # Looked at once more: somebody may be storing it at this moment, and its row comes last.
            removed += sum(self._blobs.delete(sha256, older_than_s) for sha256 in set(chunk) - named)
        self._blobs.sweep(older_than_s)
        self._quarantine.sweep(older_than_s)
        return removed

    # Reading

    def counts(self) -> StoreCounts:
        """What the store holds."""
        with self._engine.connect() as connection:
            kinds = select(envelopes.c.kind, func.count()).group_by(envelopes.c.kind)
            by_kind: dict[str, int] = dict(connection.execute(kinds).all())
            size = connection.scalar(select(func.coalesce(func.sum(envelopes.c.bytes), 0)))
            met: dict[str, int] = dict(connection.execute(select(counters.c.name, counters.c.value)).all())
            quarantined = connection.scalar(select(func.count()).select_from(quarantine))
            buried = connection.scalar(select(func.count()).select_from(tombstones))
            held = connection.scalar(select(func.count()).select_from(envelopes).where(envelopes.c.held.is_not(None)))
        return StoreCounts(
            crops=by_kind.get(Kind.CROP.value, 0),
            plates=by_kind.get(Kind.PLATE.value, 0),
            frames=by_kind.get(Kind.FRAME.value, 0),
            bytes=int(size or 0),
            duplicates=met.get("duplicates", 0),
            rejected=met.get("rejected", 0),
            quarantined=int(quarantined or 0),
            tombstones=int(buried or 0),
            held=int(held or 0),
        )

    def cameras(self) -> list[str]:
        """The names of the cameras that something is stored of, sorted."""
        with self._engine.connect() as connection:
            return sorted(connection.scalars(select(envelopes.c.camera).distinct()))

    def ids(self, kind: Kind | None = None, camera: str | None = None, *, include_held: bool = False) -> list[str]:
        """Ids in order of capture; those that wait, and rejected ones, are among them only with `include_held`."""
        query = select(envelopes.c.id).order_by(envelopes.c.captured_us, envelopes.c.id)
        if kind is not None:
            query = query.where(envelopes.c.kind == kind.value)
        if camera is not None:
            query = query.where(envelopes.c.camera == camera)
        if not include_held:
            query = query.where(envelopes.c.held.is_(None), not_rejected())
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    def get(self, sha256: str) -> Stored:
        """Reads one envelope back.

        Raises:
            StoreError: There is none of this id, or its file is damaged.
        """
        try:
            data = self._blobs.get(sha256)
        except OSError as error:
            raise StoreError(f"the store in {self.config.place} cannot read {sha256}: {cause(error)}") from error
        if envelope_id(data) != sha256:
            raise StoreError(f"{self._blobs.place(sha256)} is damaged: its hash is not its name; delete it, resend")
        try:
            return Stored(sha256, decode_envelope(data))
        except EnvelopeError as error:
            raise StoreError(f"{self._blobs.place(sha256)} cannot be read: {error}") from error

    def envelopes(
        self, kind: Kind | None = None, camera: str | None = None, *, include_held: bool = False
    ) -> Iterator[Stored]:
        """Envelopes in order of capture, read one by one; which, is as with `ids`."""
        for sha256 in self.ids(kind, camera, include_held=include_held):
            yield self.get(sha256)

    def refused_reasons(self) -> list[tuple[str, str]]:
        """(topic, reason) of what lies in quarantine, newest first."""
        query = select(quarantine.c.topic, quarantine.c.reason).order_by(quarantine.c.received_us.desc())
        with self._engine.connect() as connection:
            return [(topic, reason) for topic, reason in connection.execute(query)]

    def export_clipart(self, folder: Path, camera: str, *, holdout: bool = True) -> ClipArt:
        """Writes a camera's clip art as `walt-edge mine` does: `clipart.json` and the images beside it.

        What may not train yet is not among it, nor what people rejected.

        Args:
            folder: Where to; made if absent.
            camera: The camera's name.
            holdout: Whether crops that judge and never train are among it.

        Raises:
            StoreError: Nothing of that camera is stored, or its frames changed size.
        """
        return export_clipart(self, folder, camera, holdout=holdout)


def _states(accepted: Iterable[Accepted], stored: set[str]) -> list[AckState]:
    """Stored is the first of each id that was; everything else was there."""
    states, left = [], set(stored)
    for item in accepted:
        states.append(AckState.STORED if item.id in left else AckState.DUPLICATE)
        left.discard(item.id)
    return states


def _insert_new(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Inserts what nobody has stored since we looked, waiting for who is about to; returns the ids that were new."""
    if not rows:
        return set()
    of_dialect = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = of_dialect(envelopes).on_conflict_do_nothing(index_elements=[envelopes.c.id])
    return set(connection.scalars(statement.returning(envelopes.c.id), rows))


def _known(connection: Connection, items: Mapping[str, Accepted]) -> set[str]:
    """Ids of those that are there, were deleted, or have expired."""
    known = set()
    for chunk in _chunks(list(items)):
        known |= set(connection.scalars(select(envelopes.c.id).where(envelopes.c.id.in_(chunk))))
    return known | _deleted(connection, items)


def _deleted(connection: Connection, items: Mapping[str, Accepted]) -> set[str]:
    deleted = too_old(connection, [(item.id, item.envelope) for item in items.values()])
    for chunk in _chunks(list(items)):
        deleted |= set(connection.scalars(select(tombstones.c.id).where(tombstones.c.id.in_(chunk))))
    return deleted


def _deleted_meanwhile(connection: Connection, items: Mapping[str, Accepted]) -> set[str]:
    """Ids of those that somebody deleted while their files were written; nobody can, until the transaction ends."""
    if not items:
        return set()
    if connection.dialect.name == "postgresql":
        # Other readers may have this lock too; who writes a tombstone cannot. SQLite's writer is alone anyway.
        connection.execute(text("LOCK TABLE tombstones IN SHARE MODE"))
    return _deleted(connection, items)


def _count(connection: Connection, name: str, by: int) -> None:
    if by == 0:
        return
    changed = connection.execute(update(counters).where(counters.c.name == name).values(value=counters.c.value + by))
    if changed.rowcount == 0:
        connection.execute(insert(counters), {"name": name, "value": by})


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_A_QUERY):
        yield ids[start : start + _IDS_A_QUERY]


def _now_us() -> int:
    return time.time_ns() // 1000
