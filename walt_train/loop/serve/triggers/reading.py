"""Facts of cameras, read by SQL: a few look-ups by index for each, whatever the store holds of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from sqlalchemy import Connection, Engine, Select, func, select

from walt_edge.contract.labels import Label
from walt_edge.contract.topics import DeviceTopics, Kind
from walt_train.loop.fleet.state import CameraState
from walt_train.loop.fleet.tables import fleet_cameras, fleet_samples
from walt_train.loop.labels.tables import not_rejected
from walt_train.loop.serve.generation import OPEN, State
from walt_train.loop.serve.triggers.coverage import (
    Gain,
    Sighting,
    cells_of,
    count_of,
    coverage_of,
    gain_of,
)
from walt_train.loop.serve.triggers.rules import Facts, Trend
from walt_train.loop.serve.triggers.tables import harvests
from walt_train.loop.store.tables import envelopes, generations

_SECOND: Final = 1_000_000
_WEEK_US: Final = 7 * 86_400 * _SECOND
_HOUR_S: Final = 3600
_HOURS_LEAST: Final = 72
"""Hours with samples that a stretch needs before it is compared with another one."""
_LEAST: Final = 200
"""Of what a rate counts, in the richer stretch: fewer say nothing."""
_NEWEST: Final = 50


@dataclass(frozen=True, slots=True)
class Harvest:
    """What may train, of one camera.

    Attributes:
        crops: How many; crops that are held out, held or rejected are none of them.
        tracks: Physical objects that they show, as far as a track tells.
        labels: Classes that they show.
        cells: What they cover, by cell.
    """

    crops: int
    tracks: int
    labels: frozenset[Label]
    cells: dict[int, int]


@dataclass(frozen=True, slots=True)
class _History:
    """A camera's generations, as far as the next one depends on them."""

    learned: Any = None
    begun_us: int | None = None
    failures: int = 0
    failed_us: int = 0


def cameras_of(connection: Connection) -> list[str]:
    """Names of the cameras that something is stored of, sorted: one step down an index for each."""
    first = select(func.min(envelopes.c.camera).label("camera"))
    found = first.cte("found", recursive=True)
    after = select(func.min(envelopes.c.camera)).where(envelopes.c.camera > found.c.camera).scalar_subquery()
    found = found.union_all(select(after).where(found.c.camera.is_not(None)))
    names = connection.scalars(select(found.c.camera).where(found.c.camera.is_not(None)))
    return sorted(names)


def stamp_of(connection: Connection, camera: str) -> tuple[int, int]:
    """What changes when a crop comes or goes, read from an index alone."""
    of_camera = (envelopes.c.camera == camera) & (envelopes.c.kind == Kind.CROP.value)
    query = select(func.count(), func.max(envelopes.c.captured_us)).where(of_camera)
    count, newest = connection.execute(query).one()
    return int(count), int(newest or 0)


def open_cameras(connection: Connection) -> set[str]:
    """Cameras that have a generation at work."""
    return set(connection.scalars(select(generations.c.camera).where(generations.c.state.in_(OPEN))))


def begun_since(connection: Connection, since_us: int) -> int:
    """How many generations the fleet has begun since a moment."""
    query = select(func.count()).select_from(generations).where(generations.c.created_us > since_us)
    return int(connection.scalar(query) or 0)


def harvest_of(engine: Engine, camera: str) -> Harvest:
    """Counts a camera's crops that may train, and what they cover."""
    with engine.connect() as connection:
        sightings, labels = _sightings(connection, camera)
    stored = count_of(sightings)
    return Harvest(stored.crops, stored.tracks, labels, coverage_of(sightings))


def read_facts(connection: Connection, camera: str, now_us: int) -> Facts:
    """What is known of a camera."""
    sightings, _ = _sightings(connection, camera)
    history = _history(connection, camera)
    stored = count_of(sightings)
    if history.learned is None:
        return Facts(stored, stored, stored, **_beginnings(history))
    learned = history.learned
    covered = _covered(connection, camera, learned.number)
    since = count_of(sightings, learned.created_us)
    # One of before coverage was written down: whatever came since is new.
    fresh = since if covered is None else gain_of(sightings, covered)
    state, keys = _camera(connection, camera)
    moved_us = state.moved_us if state is not None and state.moved_us > learned.created_us else 0
    return Facts(
        stored,
        fresh,
        since,
        sum(covered.values()) if covered is not None else learned.crops,
        learned.created_us,
        moved_us=moved_us,
        shift_px=state.shift_px if state is not None else 0.0,
        moved=count_of(sightings, moved_us) if moved_us else Gain(),
        trends=trends_of(connection, keys, learned.created_us, now_us),
        **_beginnings(history),
    )


def devices_of(engine: Engine, camera: str) -> list[DeviceTopics]:
    """The devices that something of the camera was stored from."""
    query = select(envelopes.c.site, envelopes.c.device).where(envelopes.c.camera == camera).distinct()
    with engine.connect() as connection:
        return [DeviceTopics(site, device) for site, device in sorted(connection.execute(query))]


def trends_of(connection: Connection, keys: Sequence[int], learned_us: int, now_us: int) -> tuple[Trend, ...]:
    """How a camera's figures went: the last week against the four weeks before its model learned.

    A model that is younger than a week is compared with nothing yet.
    """
    if not keys or now_us - learned_us < _WEEK_US:
        return ()
    lately = _sums(connection, keys, now_us - _WEEK_US, now_us)
    before = _sums(connection, keys, learned_us - 4 * _WEEK_US, learned_us)
    if min(lately["hours"], before["hours"]) < _HOURS_LEAST:
        return ()
    found = [
        _rate("objects a frame", "objects_seen", "frames_processed", before, lately),
        _rate("crops an object", "crops_chosen", "objects_seen", before, lately),
        _share("mean score", "score_milli", "scored", before, lately, far=0.1, scale=1000.0),
        _share("clearness of the lens", "lens_sum", "lens_hours", before, lately, far=0.25),
    ]
    return tuple(trend for trend in found if trend is not None)


def _sightings(connection: Connection, camera: str) -> tuple[list[Sighting], frozenset[Label]]:
    rows = connection.execute(_crops(camera)).all()
    tracks: dict[tuple[str, str, int], int] = {}
    boxes = np.array([row[:4] for row in rows], dtype=np.float64).reshape(-1, 4)
    cells = cells_of([row.label for row in rows], boxes)
    sightings = [
        Sighting(cell, tracks.setdefault((row.device, row.boot_id, row.track_id), len(tracks)), row.received_us)
        for cell, row in zip(cells, rows, strict=True)
    ]
    sightings.sort(key=lambda one: one.received_us)
    return sightings, frozenset(Label(label) for label in {row.label for row in rows})


def _crops(camera: str) -> Select[Any]:
    """A camera's crops that may train."""
    stored = envelopes.c
    may_train = ~stored.holdout & stored.held.is_(None) & not_rejected()
    columns = [stored[name] for name in ("x0", "y0", "x1", "y1", "label", "device", "boot_id", "track_id")]
    return select(*columns, stored.received_us).where(
        stored.camera == camera, stored.kind == Kind.CROP.value, may_train
    )


def _history(connection: Connection, camera: str) -> _History:
    columns = (generations.c[name] for name in ("number", "state", "created_us", "ended_us", "crops"))
    query = select(*columns).where(generations.c.camera == camera).order_by(generations.c.number.desc())
    rows = connection.execute(query.limit(_NEWEST)).all()
    failed = 0
    while failed < len(rows) and rows[failed].state == State.FAILED.value:
        failed += 1
    if not rows:
        return _History()
    learned = rows[failed] if failed < len(rows) else None
    return _History(learned, rows[0].created_us, failed, (rows[0].ended_us or 0) if failed else 0)


def _beginnings(history: _History) -> dict[str, Any]:
    return {"begun_us": history.begun_us, "failures": history.failures, "failed_us": history.failed_us}


def _covered(connection: Connection, camera: str, number: int) -> dict[int, int] | None:
    where = (harvests.c.camera == camera) & (harvests.c.number == number)
    text = connection.scalar(select(harvests.c.cells).where(where))
    return None if text is None else msgspec.json.decode(text, type=dict[int, int])


def _camera(connection: Connection, camera: str) -> tuple[CameraState | None, list[int]]:
    """What the fleet's watch knows of it: its newest state, and the keys of its samples."""
    device = select(envelopes.c.site, envelopes.c.device).where(envelopes.c.camera == camera).limit(1)
    where = connection.execute(device).one_or_none()
    if where is None:
        return None, []
    # A device that has one camera may not name it in what it tells.
    names = fleet_cameras.c.camera.in_((camera, ""))
    query = select(fleet_cameras).where(
        fleet_cameras.c.site == where.site, fleet_cameras.c.device == where.device, names
    )
    rows = connection.execute(query.order_by(fleet_cameras.c.heard_us.desc())).all()
    try:
        state = msgspec.json.decode(rows[0].state, type=CameraState) if rows else None
    except msgspec.ValidationError:
        # A newer program's; what it says of moves is not known here.
        state = None
    return state, [row.key for row in rows]


def _sums(connection: Connection, keys: Sequence[int], begin_us: int, end_us: int) -> dict[str, float]:
    sampled = fleet_samples.c
    counters = ("frames_processed", "objects_seen", "crops_chosen", "score_milli", "scored")
    sums = [func.sum(sampled[name]).label(name) for name in counters if name in sampled]
    lens = [
        func.sum(sampled.lens_clear_min).label("lens_sum"),
        func.count(sampled.lens_clear_min).label("lens_hours"),
    ]
    of_keys = sampled.key.in_(keys) & (sampled.tier == _HOUR_S)
    query = select(func.count().label("hours"), *sums, *lens)
    row = connection.execute(query.where(of_keys, sampled.at_us >= begin_us, sampled.at_us < end_us)).one()
    return {name: float(value or 0) for name, value in row._mapping.items()}


def _rate(name: str, top: str, bottom: str, before: dict[str, float], lately: dict[str, float]) -> Trend | None:
    if not before[bottom] or not lately[bottom] or max(before[top], lately[top]) < _LEAST:
        return None
    return Trend(name, before[top] / before[bottom], lately[top] / lately[bottom])


def _share(
    name: str,
    top: str,
    bottom: str,
    before: dict[str, float],
    lately: dict[str, float],
    *,
    far: float,
    scale: float = 1.0,
) -> Trend | None:
    if min(before.get(bottom, 0.0), lately.get(bottom, 0.0)) < _HOURS_LEAST:
        return None
    return Trend(name, before[top] / before[bottom] / scale, lately[top] / lately[bottom] / scale, far)
