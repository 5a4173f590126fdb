"""The store at home: every envelope once, as a content-addressed file and a row that finds it.

The order of writing makes it safe against a crash at any instant: files first (flushed), then the rows (one
transaction, `synchronous=FULL`), and only then does anybody acknowledge. A row therefore never names a missing
file; a file without a row is harmless and `collect_orphans` removes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec
from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError

from walt_edge.contract.clipart import Clip, ClipArt, Plate, write_clipart
from walt_edge.contract.messages import (
    AckState,
    CropHeader,
    Envelope,
    EnvelopeError,
    PlateHeader,
    decode_envelope,
    envelope_id,
)
from walt_edge.contract.topics import Kind
from walt_train.loop.blobs import BlobFolder
from walt_train.loop.database import StoreError as StoreError
from walt_train.loop.database import StoreWriteError as StoreWriteError
from walt_train.loop.database import cause, open_database
from walt_train.loop.tables import counters, envelope_row, envelopes, quarantine, tombstones

DATABASE_NAME = "store.sqlite3"
_ORPHAN_AGE_S = 3600.0
_IDS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class Accepted:
    """A checked envelope on its way into the store."""

    id: str
    envelope: Envelope
    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes that are no valid envelope: where they arrived, and why they were refused."""

    topic: str
    data: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An envelope read back, its hash checked."""

    id: str
    envelope: Envelope


class StoreCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What the store holds, and what it has met since it was made."""

    crops: int
    plates: int
    frames: int
    bytes: int
    duplicates: int
    rejected: int
    quarantined: int
    tombstones: int


@dataclass(frozen=True, slots=True)
class QuarantineLimits:
    """How much of what was refused is kept; the oldest goes first."""

    entries: int = 1_000
    total_bytes: int = 256 * 1024 * 1024


class Store:
    """A folder with `store.sqlite3`, `blobs/` and `quarantine/`.

    Several ingest processes may share one.

    Args:
        folder: The store's folder; made if absent.
        limits: How much of what was refused is kept.

    Raises:
        StoreWriteError: The folder cannot be made or written.
        StoreError: It was made by another version.
    """

    def __init__(self, folder: Path, limits: QuarantineLimits | None = None) -> None:
        self.folder = folder
        self._limits = limits or QuarantineLimits()
        try:
            self._blobs = BlobFolder(folder / "blobs", ".envelope")
            self._quarantine = BlobFolder(folder / "quarantine")
            self._engine = open_database(folder / DATABASE_NAME)
        except (OSError, DatabaseError) as error:
            raise StoreWriteError(f"cannot open the store in {folder}: {cause(error)}") from error

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database and ends the writers."""
        self._engine.dispose()
        self._blobs.close()
        self._quarantine.close()

    @property
    def engine(self) -> Engine:
        """The store's database."""
        return self._engine

    # Writing

    def add_group(self, accepted: Sequence[Accepted], refused: Sequence[Refused] = ()) -> list[AckState]:
        """Stores a group in one commit; when it returns, it may be acknowledged.

        Returns:
            For each of `accepted`, in order: stored, or duplicate if it was there before (or was deleted).

        Raises:
            StoreWriteError: Nothing was recorded; try the same group again later.
        """
        try:
            # Another ingest process may have stored one of the group between our look and our insert.
            for _ in range(3):
                try:
                    return self._add_group(accepted, refused)
                except IntegrityError:
                    continue
            return self._add_group(accepted, refused)
        except (OSError, DatabaseError) as error:
            raise StoreWriteError(f"cannot write to the store in {self.folder}: {cause(error)}") from error

    def _add_group(self, accepted: Sequence[Accepted], refused: Sequence[Refused]) -> list[AckState]:
        with self._engine.connect() as connection:
            seen = _known(connection, [item.id for item in accepted])
        states, fresh = [], {}
        for item in accepted:
            states.append(AckState.DUPLICATE if item.id in seen else AckState.STORED)
            if item.id not in seen:
                fresh[item.id] = item
                seen.add(item.id)
        self._blobs.put_all({item.id: item.data for item in fresh.values()})
        bad = {envelope_id(item.data): item for item in refused}
        self._quarantine.put_all({sha256: item.data for sha256, item in bad.items()})
        now_us = _now_us()
        with self._engine.begin() as connection:
            if fresh:
                rows = [envelope_row(item.id, item.envelope, len(item.data), now_us) for item in fresh.values()]
                connection.execute(insert(envelopes), rows)
            _count(connection, "duplicates", len(accepted) - len(fresh))
            _count(connection, "rejected", len(refused))
            evicted = self._record_refused(connection, bad, now_us)
        for sha256 in evicted:
            self._quarantine.delete(sha256)
        return states

    def _record_refused(self, connection: Connection, bad: dict[str, Refused], now_us: int) -> list[str]:
        """Writes the quarantine's rows; returns those that had to go to keep within the limits."""
        if not bad:
            return []
        connection.execute(delete(quarantine).where(quarantine.c.sha256.in_(bad)))
        rows = [
            {
                "sha256": sha256,
                "topic": item.topic,
                "reason": item.reason,
                "bytes": len(item.data),
                "received_us": now_us,
            }
            for sha256, item in bad.items()
        ]
        connection.execute(insert(quarantine), rows)
        evicted = self._over_limits(connection)
        for chunk in _chunks(evicted):
            connection.execute(delete(quarantine).where(quarantine.c.sha256.in_(chunk)))
        return evicted

    def _over_limits(self, connection: Connection) -> list[str]:
        newest_first = select(quarantine.c.sha256, quarantine.c.bytes).order_by(quarantine.c.received_us.desc())
        total, evicted = 0, []
        for kept, (sha256, size) in enumerate(connection.execute(newest_first), start=1):
            total += size
            if kept > self._limits.entries or total > self._limits.total_bytes:
                evicted.append(sha256)
        return evicted

    def delete(self, ids: Iterable[str], reason: str) -> int:
        """Deletes envelopes for good: a resend is acknowledged and not stored again. Returns how many were held."""
        wanted = list(dict.fromkeys(ids))
        now_us, held = _now_us(), 0
        with self._engine.begin() as connection:
            for chunk in _chunks(wanted):
                buried = set(connection.scalars(select(tombstones.c.id).where(tombstones.c.id.in_(chunk))))
                rows = [{"id": i, "deleted_us": now_us, "reason": reason} for i in chunk if i not in buried]
                if rows:
                    connection.execute(insert(tombstones), rows)
                held += connection.execute(delete(envelopes).where(envelopes.c.id.in_(chunk))).rowcount
        for sha256 in wanted:
            self._blobs.delete(sha256)
        return held

    def collect_orphans(self, older_than_s: float = _ORPHAN_AGE_S) -> int:
        """Removes files that no row names and that are too old to be on their way in; returns how many."""
        removed = 0
        for chunk in _chunks(list(self._blobs.names(older_than_s))):
            with self._engine.connect() as connection:
                named = set(connection.scalars(select(envelopes.c.id).where(envelopes.c.id.in_(chunk))))
            for sha256 in set(chunk) - named:
                self._blobs.delete(sha256)
                removed += 1
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
        return StoreCounts(
            crops=by_kind.get(Kind.CROP.value, 0),
            plates=by_kind.get(Kind.PLATE.value, 0),
            frames=by_kind.get(Kind.FRAME.value, 0),
            bytes=int(size or 0),
            duplicates=met.get("duplicates", 0),
            rejected=met.get("rejected", 0),
            quarantined=int(quarantined or 0),
            tombstones=int(buried or 0),
        )

    def cameras(self) -> list[str]:
        """The names of the cameras that something is stored of, sorted."""
        with self._engine.connect() as connection:
            return sorted(connection.scalars(select(envelopes.c.camera).distinct()))

    def ids(self, kind: Kind | None = None, camera: str | None = None) -> list[str]:
        """Ids in order of capture."""
        query = select(envelopes.c.id).order_by(envelopes.c.captured_us, envelopes.c.id)
        if kind is not None:
            query = query.where(envelopes.c.kind == kind.value)
        if camera is not None:
            query = query.where(envelopes.c.camera == camera)
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
            raise StoreError(f"the store in {self.folder} cannot read {sha256}: {cause(error)}") from error
        if envelope_id(data) != sha256:
            raise StoreError(f"{self._blobs.path(sha256)} is damaged: its hash is not its name; delete it and resend")
        try:
            return Stored(sha256, decode_envelope(data))
        except EnvelopeError as error:
            raise StoreError(f"{self._blobs.path(sha256)} cannot be read: {error}") from error

    def envelopes(self, kind: Kind | None = None, camera: str | None = None) -> Iterator[Stored]:
        """Envelopes in order of capture, read one by one."""
        for sha256 in self.ids(kind, camera):
            yield self.get(sha256)

    def refused_reasons(self) -> list[tuple[str, str]]:
        """(topic, reason) of what lies in quarantine, newest first."""
        query = select(quarantine.c.topic, quarantine.c.reason).order_by(quarantine.c.received_us.desc())
        with self._engine.connect() as connection:
            return [(topic, reason) for topic, reason in connection.execute(query)]

    def export_clipart(self, folder: Path, camera: str, *, holdout: bool = True) -> ClipArt:
        """Writes a camera's clip art as `walt-edge mine` does: `clipart.json` and the images beside it.

        Args:
            folder: Where to; made if absent.
            camera: The camera's name.
            holdout: Whether crops that judge and never train are among it.

        Raises:
            StoreError: Nothing of that camera is stored, or its frames changed size.
        """
        folder.mkdir(parents=True, exist_ok=True)
        plates, clips, sizes = [], [], set()
        for stored in self.envelopes(camera=camera):
            header = stored.envelope.header
            if not isinstance(header, CropHeader | PlateHeader):
                continue
            if isinstance(header, CropHeader) and header.holdout and not holdout:
                continue
            image = _write_image(folder, stored.envelope)
            sizes.add(header.origin.frame_wh)
            if isinstance(header, CropHeader):
                clips.append(Clip(header=header, image=image))
            else:
                plates.append(Plate(id=stored.id, header=header, image=image))
        if len(sizes) != 1:
            held = ", ".join(self.cameras()) or "none"
            found = f"frames of sizes {sorted(sizes)}" if sizes else f"nothing (cameras: {held})"
            raise StoreError(
                f"the store in {self.folder} holds {found} of camera '{camera}': expected one frame size"
            )
        clipart = ClipArt(camera=camera, frame_wh=sizes.pop(), plates=plates, clips=clips, rejected_by_reason={})
        write_clipart(folder, clipart)
        return clipart


def _known(connection: Connection, ids: Sequence[str]) -> set[str]:
    known: set[str] = set()
    for chunk in _chunks(ids):
        known |= set(connection.scalars(select(envelopes.c.id).where(envelopes.c.id.in_(chunk))))
        known |= set(connection.scalars(select(tombstones.c.id).where(tombstones.c.id.in_(chunk))))
    return known


def _count(connection: Connection, name: str, by: int) -> None:
    if by == 0:
        return
    changed = connection.execute(update(counters).where(counters.c.name == name).values(value=counters.c.value + by))
    if changed.rowcount == 0:
        connection.execute(insert(counters), {"name": name, "value": by})


def _write_image(folder: Path, envelope: Envelope) -> str:
    suffix = ".jpg" if envelope.media_type == "image/jpeg" else ".png"
    name = f"{envelope_id(envelope.image)}{suffix}"
    (folder / name).write_bytes(envelope.image)
    return name


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_A_QUERY):
        yield ids[start : start + _IDS_A_QUERY]


def _now_us() -> int:
    return time.time_ns() // 1000
