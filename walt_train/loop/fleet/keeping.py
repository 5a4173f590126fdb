"""The fleet in the store: states and samples in batches, alerts at once, all fenced by a lease.

One process listens at a time: counters become growth and conditions last, so whoever judges must have heard
everything. The others wait for its lease to run out. Every write names the lease's owner and how many parts were
written, so that one whose lease was taken over writes nothing more, and one that does not know whether its last
commit arrived finds out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, RowMapping, Table, case, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from walt_edge.contract.errors import WaltError
from walt_train.loop.fleet.figures import Bucket, columns, merge
from walt_train.loop.fleet.judging import Alert, Judgement, Subject
from walt_train.loop.fleet.state import CameraState, DeviceState
from walt_train.loop.fleet.tables import (
    fleet_alerts,
    fleet_cameras,
    fleet_devices,
    fleet_events,
    fleet_samples,
    fleet_watch,
)
from walt_train.loop.store.database import transaction
from walt_train.loop.store.errors import StoreError

RAW: Final = 0
TIERS_S: Final = {RAW: 3600, 60: 86_400, 3600: 366 * 86_400}
"""Length of a tier's buckets, seconds (0: every sample), and how long they are kept."""

EVENTS_S: Final = 90 * 86_400
_SECOND: Final = 1_000_000
_NAME: Final = "fleet"
_KEY: Final = ("key", "tier", "at_us")


class LeaseLostError(WaltError):
    """Another process listens to the fleet now."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are written together; of each camera the state as it was when its samples ended.

    Attributes:
        devices: Of their states.
        cameras: Of theirs.
        samples: Buckets, to be added up with those that are there.
    """

    devices: list[dict[str, Any]]
    cameras: list[dict[str, Any]]
    samples: list[dict[str, Any]]


@dataclass(slots=True)
class Batch:
    """What was heard since the last write: bounded by `most` raw samples, and by one bucket a minute and camera.

    Attributes:
        most: Raw samples kept at most; what comes after that is in the other tiers alone.
        devices: Changed.
        cameras: Changed.
        buckets: By camera, tier and start.
    """

    most: int = 200_000
    devices: dict[tuple[str, str], DeviceState] = field(default_factory=dict)
    cameras: dict[tuple[str, str, str], CameraState] = field(default_factory=dict)
    buckets: dict[tuple[int, int, int], Bucket[float]] = field(default_factory=dict)
    _raw: int = 0

    def add(self, camera: CameraState, sample: Bucket[float], at_us: int) -> None:
        """Takes a camera's newest state and sample."""
        self.cameras[camera.site, camera.device, camera.camera] = camera
        if self._raw < self.most:
            self._raw += 1
            self._put((camera.key, RAW, at_us), sample)
        for tier in TIERS_S:
            if tier:
                self._put((camera.key, tier, at_us - at_us % (tier * _SECOND)), sample)

    def parts(self, most: int = 200) -> list[Part]:
        """All of it as rows, so many cameras or devices at a time: whoever writes must listen in between."""
        devices = [_device_row(one) for one in self.devices.values()]
        cameras = [_camera_row(one) for one in self.cameras.values()]
        samples: dict[int, list[dict[str, Any]]] = {}
        for key, bucket in sorted(self.buckets.items()):
            samples.setdefault(key[0], []).append({**dict(zip(_KEY, key, strict=True)), **columns(bucket)})
        parts = []
        for first in range(0, max(len(devices), len(cameras)), most):
            some = cameras[first : first + most]
            rows = [row for camera in some for row in samples[camera["key"]]]
            parts.append(Part(devices[first : first + most], some, rows))
        return parts

    def _put(self, key: tuple[int, int, int], sample: Bucket[float]) -> None:
        known = self.buckets.get(key)
        if known is None:
            self.buckets[key] = sample[:]
        else:
            merge(known, sample)


@dataclass(frozen=True, slots=True)
class Event:
    """An alert that was raised or cleared, as it is told."""

    id: str
    subject: Subject
    what: str
    at_us: int
    detail: str
    told_us: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the store holds of the fleet at this moment, without samples.

    Attributes:
        devices: By site and device.
        cameras: By site, device and camera.
        alerts: Pending and raised.
        judged_us: When somebody last judged; 0: never.
        listening_us: Since when the broker's messages came then; None: they did not.
    """

    devices: dict[tuple[str, str], DeviceState]
    cameras: dict[tuple[str, str, str], CameraState]
    alerts: dict[Subject, Alert]
    judged_us: int
    listening_us: int | None


class Keeper:
    """Reads and writes the fleet's tables under a lease.

    Args:
        engine: The store's.
        owner: Names this process and no other that runs; the same after a restart.
        lease_s: How long after its last sign of life another may take over.
    """

    def __init__(self, engine: Engine, owner: str, lease_s: float = 60.0) -> None:
        self._engine = engine
        self._owner = owner
        self._lease_us = int(lease_s * _SECOND)
        self._batches = 0

    def acquire(self, now_us: int) -> bool:
        """Takes the lease if it is free, run out or ours; says whether it is ours."""
        mine = {"owner": self._owner, "until_us": now_us + self._lease_us}
        free = or_(fleet_watch.c.until_us < now_us, fleet_watch.c.owner == self._owner)
        try:
            with transaction(self._engine) as connection:
                taken = connection.execute(
                    update(fleet_watch).where(fleet_watch.c.name == _NAME, free).values(**mine)
                ).rowcount
                known = connection.scalar(select(fleet_watch.c.batches).where(fleet_watch.c.name == _NAME))
                if known is None:
                    row = {"name": _NAME, "batches": 0, "judged_us": 0, **mine}
                    connection.execute(insert(fleet_watch), row)
        except IntegrityError:
            return False
        self._batches = known or 0
        return bool(taken) or known is None

    def release(self, now_us: int) -> None:
        """Gives the lease back, so that another need not wait for its end."""
        with transaction(self._engine) as connection:
            mine = (fleet_watch.c.name == _NAME) & (fleet_watch.c.owner == self._owner)
            connection.execute(update(fleet_watch).where(mine).values(until_us=now_us - 1))

    def write(self, part: Part, now_us: int) -> None:
        """Writes a part in one transaction, once, also if an earlier attempt had arrived without our knowing.

        Raises:
            LeaseLostError: Another listens; nothing was written.
            StoreWriteError: Not now; the part may be written again.
        """
        with transaction(self._engine) as connection:
            if not self._next_batch(connection, now_us):
                self._batches += 1
                return
            _upsert(connection, fleet_devices, ("site", "device"), part.devices)
            _upsert(connection, fleet_cameras, ("key",), part.cameras)
            _add_up(connection, part.samples)
        self._batches += 1

    def note(
        self, judgement: Judgement, before: Mapping[Subject, Alert], now_us: int, listening_us: int | None
    ) -> None:
        """Writes what became of alerts, and renews the lease.

        Raises:
            LeaseLostError: Another listens; nothing was written.
            StoreWriteError: Not now; judge again and try again.
        """
        alerts = judgement.alerts
        changed = [(subject, alert) for subject, alert in alerts.items() if before.get(subject) != alert]
        gone = [subject for subject in before if subject not in alerts]
        events = [_event(subject, "raised", alerts[subject].detail, now_us) for subject in judgement.raised]
        events += [_event(subject, "cleared", why, now_us) for subject, why in judgement.cleared]
        with transaction(self._engine) as connection:
            self._renew(connection, now_us, judged_us=now_us, listening_us=listening_us)
            _upsert(connection, fleet_alerts, Subject._fields, [_alert_row(*one) for one in changed])
            for subject in gone:
                connection.execute(delete(fleet_alerts).where(_is_about(fleet_alerts, subject)))
            _upsert(connection, fleet_events, ("id",), events)

    def tidy(self, now_us: int, forget_us: int, known: Iterable[tuple[str, str]]) -> None:
        """Deletes samples and events past their time, and who was not heard since `forget_us` or is not `known`."""
        names = set(known)
        with transaction(self._engine) as connection:
            self._renew(connection, now_us)
            for tier, kept_s in TIERS_S.items():
                old = (fleet_samples.c.tier == tier) & (fleet_samples.c.at_us < now_us - kept_s * _SECOND)
                connection.execute(delete(fleet_samples).where(old))
            connection.execute(delete(fleet_events).where(fleet_events.c.at_us < now_us - EVENTS_S * _SECOND))
            connection.execute(delete(fleet_cameras).where(fleet_cameras.c.heard_us < forget_us))
            for site, device in connection.execute(select(fleet_devices.c.site, fleet_devices.c.device)).all():
                if (site, device) not in names:
                    for table in (fleet_devices, fleet_cameras):
                        connection.execute(delete(table).where(table.c.site == site, table.c.device == device))

    def untold(self, most: int) -> list[Event]:
        """The oldest events that the webhook has not taken."""
        query = select(fleet_events).where(fleet_events.c.told_us.is_(None)).order_by(fleet_events.c.at_us)
        with self._engine.connect() as connection:
            return [_as_event(row) for row in connection.execute(query.limit(most)).mappings()]

    def mark_told(self, event: Event, now_us: int) -> None:
        """The webhook has taken it."""
        with transaction(self._engine) as connection:
            connection.execute(update(fleet_events).where(fleet_events.c.id == event.id).values(told_us=now_us))

    def _next_batch(self, connection: Connection, now_us: int) -> bool:
        """Counts a batch in this transaction; False if it had been counted before."""
        mine = (fleet_watch.c.name == _NAME) & (fleet_watch.c.owner == self._owner)
        values = {"batches": self._batches + 1, "until_us": now_us + self._lease_us}
        counted = connection.execute(
            update(fleet_watch).where(mine, fleet_watch.c.batches == self._batches).values(**values)
        ).rowcount
        if counted:
            return True
        if connection.scalar(select(fleet_watch.c.batches).where(mine)) == self._batches + 1:
            return False
        raise LeaseLostError("another process listens to the fleet now")

    def _renew(self, connection: Connection, now_us: int, **values: int | None) -> None:
        mine = (fleet_watch.c.name == _NAME) & (fleet_watch.c.owner == self._owner)
        until = {"until_us": now_us + self._lease_us, **values}
        # The number of batches too: another that goes by our name has begun if it is not ours.
        mine &= fleet_watch.c.batches == self._batches
        if not connection.execute(update(fleet_watch).where(mine).values(**until)).rowcount:
            raise LeaseLostError("another process listens to the fleet now")


def load(engine: Engine) -> Snapshot:
    """Reads the fleet as it was written last.

    Raises:
        StoreError: A row cannot be read: a newer program wrote it.
    """
    with engine.connect() as connection:
        devices = [_decoded(text, DeviceState) for text in connection.scalars(select(fleet_devices.c.state))]
        cameras = [_decoded(text, CameraState) for text in connection.scalars(select(fleet_cameras.c.state))]
        alerts = {
            Subject(row.kind, row.site, row.device, row.camera): Alert(
                row.state, row.since_us, row.well_us, row.detail
            )
            for row in connection.execute(select(fleet_alerts))
        }
        watch = connection.execute(select(fleet_watch).where(fleet_watch.c.name == _NAME)).one_or_none()
    by_device = {(one.site, one.device): one for one in devices}
    return Snapshot(
        by_device,
        {(one.site, one.device, one.camera): one for one in cameras if (one.site, one.device) in by_device},
        alerts,
        watch.judged_us if watch is not None else 0,
        watch.listening_us if watch is not None else None,
    )


def recent_events(engine: Engine, most: int) -> list[Event]:
    """The newest events, the newest first."""
    query = select(fleet_events).order_by(fleet_events.c.at_us.desc()).limit(most)
    with engine.connect() as connection:
        return [_as_event(row) for row in connection.execute(query).mappings()]


def _decoded(text: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise StoreError(f"the fleet's state cannot be read ({error}): update walt-amodal") from error


def _device_row(state: DeviceState) -> dict[str, Any]:
    text = msgspec.json.encode(state).decode()
    return {"site": state.site, "device": state.device, "heard_us": state.newest_us, "state": text}


def _camera_row(state: CameraState) -> dict[str, Any]:
    named = {"site": state.site, "device": state.device, "camera": state.camera}
    return {"key": state.key, **named, "heard_us": state.heard_us, "state": msgspec.json.encode(state).decode()}


def _alert_row(subject: Subject, alert: Alert) -> dict[str, Any]:
    row = {"state": alert.state, "since_us": alert.since_us, "well_us": alert.well_us, "detail": alert.detail}
    return subject._asdict() | row


def _event(subject: Subject, what: str, detail: str, at_us: int) -> dict[str, Any]:
    id_ = hashlib.sha256("\0".join((*subject, what, str(at_us))).encode()).hexdigest()[:32]
    return {"id": id_, **subject._asdict(), "what": what, "at_us": at_us, "detail": detail, "told_us": None}


def _as_event(row: RowMapping) -> Event:
    subject = Subject(row["kind"], row["site"], row["device"], row["camera"])
    return Event(row["id"], subject, row["what"], row["at_us"], row["detail"], row["told_us"])


def _is_about(table: Table, subject: Subject) -> Any:
    site, device, camera = table.c.site == subject.site, table.c.device == subject.device, table.c.camera
    return (table.c.kind == subject.kind) & site & device & (camera == subject.camera)


def _inserted(connection: Connection, table: Table) -> Any:
    # Both dialects have the same ON CONFLICT, and SQLAlchemy no common name for it.
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def _upsert(connection: Connection, table: Table, key: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows, over those of the same key."""
    if not rows:
        return
    statement = _inserted(connection, table)
    new = {name: statement.excluded[name] for name in rows[0] if name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=new), rows)


def _add_up(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Adds buckets to those that the store has of the same stretches."""
    if not rows:
        return
    statement = _inserted(connection, fleet_samples)
    held, new = fleet_samples.c, statement.excluded
    sums: dict[str, Any] = {}
    for name in set(rows[0]) - set(_KEY):
        if name.endswith(("_min", "_max")):
            is_further = new[name] < held[name] if name.endswith("_min") else new[name] > held[name]
            sums[name] = case((held[name].is_(None) | is_further, new[name]), else_=held[name])
        else:
            sums[name] = held[name] + new[name]
    connection.execute(statement.on_conflict_do_update(index_elements=list(_KEY), set_=sums), rows)
