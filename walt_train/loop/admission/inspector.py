"""Looks at what cameras have sent since the last time, and holds those whose crops are not as ever.

One worker does it at a time; a second that does so by chance finds the rows that it read changed, and stops. What a
camera sent since its odd window began is held as well, also what is stored already.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Select, insert, select, update
from sqlalchemy.exc import IntegrityError

from walt_edge.contract.topics import Kind
from walt_train.loop.admission.anomaly import WINDOW, Crops, Past, judge, numbers_of
from walt_train.loop.admission.snapshot import settle
from walt_train.loop.admission.tables import camera_pasts, held_cameras, standings
from walt_train.loop.store.database import UNAVAILABLE, StoreWriteError, cause, place_of, transaction
from walt_train.loop.store.tables import envelopes

# Rows of a group are stamped before they are written: what is younger may still have elder ones come after it.
_SETTLED_US = 10_000_000
# So much at a time, the longest waiting first: what comes for the ingest meanwhile waits.
_CAMERAS_AT_ONCE = 200
_WINDOWS_AT_ONCE = 5


@dataclass(frozen=True, slots=True)
class Held:
    """A camera that was held, and why."""

    device: str
    camera: str
    reason: str


class _OvertakenError(Exception):
    """Another worker has judged the same crops."""


def note_cameras(connection: Connection, cameras: Iterable[tuple[str, str]]) -> None:
    """Has cameras, by device and name, be judged from now on; those that are already are left alone."""
    for device, camera in sorted(cameras):
        theirs = (camera_pasts.c.device == device) & (camera_pasts.c.camera == camera)
        if connection.scalar(select(camera_pasts.c.through_us).where(theirs)) is None:
            row = {"device": device, "camera": camera, "through_us": 0, "past": _written(Past())}
            connection.execute(insert(camera_pasts), row)


def inspect(engine: Engine, now_us: int | None = None) -> list[Held]:
    """Judges whole windows of crops that came since the last time; returns the cameras that it held.

    Only cameras of approved devices are judged: what others send is held until somebody has looked at it, and what
    that person accepts is their past.

    Args:
        engine: Of the store.
        now_us: What time it is, microseconds UTC.

    Raises:
        StoreWriteError: The database is away; what was judged stays judged.
    """
    until_us = (time.time_ns() // 1000 if now_us is None else now_us) - _SETTLED_US
    try:
        with engine.connect() as connection:
            waiting = [(row.device, row.camera) for row in connection.execute(_waiting(until_us))]
            fleet = _fleet(connection) if waiting else {}
    except UNAVAILABLE as error:
        raise StoreWriteError(f"cannot read {place_of(engine)}: {cause(error)}") from error
    held = []
    for device, camera in waiting:
        others = [typical for key, typical in fleet.items() if key != (device, camera)]
        try:
            with transaction(engine) as connection:
                reason = _inspect_camera(connection, device, camera, others, until_us)
        except (_OvertakenError, IntegrityError):
            continue
        if reason:
            held.append(Held(device, camera, reason))
    return held


def _waiting(until_us: int) -> Select[Any]:
    """Cameras of approved devices, not held, of which a whole window came since they were judged."""
    past, row = camera_pasts.c, envelopes.c
    theirs = (row.device == past.device) & (row.camera == past.camera) & (row.kind == Kind.CROP.value)
    new = (row.received_us > past.through_us) & (row.received_us <= until_us)
    last = select(row.id).where(theirs, new).order_by(row.received_us).offset(WINDOW - 1).limit(1)
    window_end = last.correlate(camera_pasts).scalar_subquery()
    held = select(held_cameras.c.device).where(
        held_cameras.c.device == past.device, held_cameras.c.camera == past.camera
    )
    query = select(past.device, past.camera).join(standings, standings.c.device == past.device)
    query = query.where(standings.c.approved_us.is_not(None), ~held.exists(), window_end.is_not(None))
    return query.order_by(past.through_us).limit(_CAMERAS_AT_ONCE)


def _fleet(connection: Connection) -> dict[tuple[str, str], NDArray[np.float64]]:
    found = {}
    for row in connection.execute(select(camera_pasts)):
        typical = _read(row.past).typical
        if typical is not None:
            found[row.device, row.camera] = typical
    return found


def _inspect_camera(
    connection: Connection, device: str, camera: str, fleet: Sequence[NDArray[np.float64]], until_us: int
) -> str:
    theirs = (camera_pasts.c.device == device) & (camera_pasts.c.camera == camera)
    row = connection.execute(select(camera_pasts.c.past, camera_pasts.c.through_us).where(theirs)).one()
    past, reason, reached_us = _read(row.past), "", row.through_us
    for window in _windows(connection, device, camera, row.through_us, until_us):
        crops = _crops(window)
        numbers = numbers_of(crops, past)
        reason = judge(numbers, past, fleet)
        if reason:
            _hold(connection, device, camera, window[0].received_us, reason)
            break
        past.add(crops, numbers)
        reached_us = window[-1].received_us
    values = {"through_us": reached_us, "past": _written(past)}
    mine = update(camera_pasts).where(theirs, camera_pasts.c.through_us == row.through_us)
    if not connection.execute(mine.values(values)).rowcount:
        raise _OvertakenError
    return reason


def _hold(connection: Connection, device: str, camera: str, since_us: int, reason: str) -> None:
    row = {"device": device, "camera": camera, "since_us": since_us, "held_us": time.time_ns() // 1000}
    connection.execute(insert(held_cameras), {**row, "reason": reason})
    settle(connection)


def _windows(
    connection: Connection, device: str, camera: str, through_us: int, until_us: int
) -> Iterator[Sequence[Any]]:
    """Windows of rows, as they arrived. Rows of one commit bear one time and stay together."""
    rows = connection.execute(
        _crops_of(device, camera, through_us, until_us).limit(WINDOW * (_WINDOWS_AT_ONCE + 1))
    ).all()
    start = 0
    while len(rows) - start >= WINDOW:
        stop = start + WINDOW
        while stop < len(rows) and rows[stop].received_us == rows[stop - 1].received_us:
            stop += 1
        yield rows[start:stop]
        start = stop


def _crops_of(device: str, camera: str, through_us: int, until_us: int) -> Any:
    row = envelopes.c
    columns = (row.received_us, row.captured_us, row.bytes, row.x0, row.y0, row.x1, row.y1, row.label, row.confidence)
    theirs = (row.device == device) & (row.camera == camera) & (row.kind == Kind.CROP.value)
    new = (row.received_us > through_us) & (row.received_us <= until_us)
    return select(*columns).where(theirs, new).order_by(row.received_us, row.captured_us, row.id)


def _crops(rows: Sequence[Any]) -> Crops:
    rows = sorted(rows, key=lambda row: row.captured_us)
    return Crops(
        np.array([row.captured_us for row in rows], dtype=np.int64),
        np.array([row.bytes for row in rows], dtype=np.int64),
        np.array([(row.x0, row.y0, row.x1, row.y1) for row in rows], dtype=np.float64),
        np.array([row.label for row in rows], dtype=np.int64),
        np.array([row.confidence for row in rows], dtype=np.float64),
    )


def _read(text: str) -> Past:
    return msgspec.json.decode(text, type=Past)


def _written(past: Past) -> str:
    return msgspec.json.encode(past).decode()
