"""The fleet as the dashboard holds it: states are decoded once, and read again only where something was heard since.

A fleet of thousands would take a second to decode for every look. The board asks the listener's counter first: while
it stands, nothing has changed. Otherwise it asks who was heard when, and decodes those alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, select, tuple_

from walt_train.loop.fleet.conditions import KINDS, Level
from walt_train.loop.fleet.judging import Subject
from walt_train.loop.fleet.state import CameraState, DeviceState, silence_s
from walt_train.loop.fleet.tables import fleet_alerts, fleet_cameras, fleet_devices, fleet_watch
from walt_train.loop.store.errors import StoreError

_SECOND: Final = 1_000_000
_LOOK_S: Final = 1.0
_QUIET_S: Final = 120.0
_CHUNK: Final = 400


@dataclass(frozen=True, slots=True)
class Row:
    """One camera, or a device that told of none; times are home's, microseconds UTC, 0: never.

    Attributes:
        site: The site's name.
        device: The device id.
        camera: The camera's name; "" where there is none.
        key: Of its samples; 0 where there is no camera.
        status: `online`, `offline` or "".
        heard_us: When it was last heard.
        frame_us: When its newest frame came.
        frames: Processed since its start.
        crops: Chosen since its start.
        waiting: Envelopes in the spool.
        release: Of the model that runs; 0: eyes without weights.
        model: `active`, `updating`, `refused`, or "" where nothing was reported.
        reason: Why it was refused.
        lens: Clearness 0..1; None: still learning.
        brightness: Mean grey level of the plate; -1: not told.
        frame_age_ms: Median age of a frame as it was done with.
        version: Of the agent.
    """

    site: str
    device: str
    camera: str
    key: int
    status: str
    heard_us: int
    frame_us: int
    frames: int
    crops: int
    waiting: int
    release: int
    model: str
    reason: str
    lens: float | None
    brightness: float
    frame_age_ms: float
    version: str

    @property
    def name(self) -> tuple[str, str, str]:
        """What it is sorted and found by."""
        return (self.site, self.device, self.camera)


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert that is raised; the words of its kind beside it."""

    subject: Subject
    level: str
    title: str
    detail: str
    remedy: str
    since_us: int

    @property
    def place(self) -> str:
        """Where: `site/device/camera` as far as it goes; "home"."""
        return "/".join(word for word in self.subject[1:] if word) or "home"


@dataclass(frozen=True, slots=True)
class View:
    """The fleet at one moment; `levels` tells how bad it is, by (site, device, camera or "")."""

    rows: tuple[Row, ...]
    alerts: tuple[AlertRow, ...]
    levels: Mapping[tuple[str, str, str], int]
    judged_us: int
    listening_us: int | None

    def level(self, row: Row) -> int:
        """0: well; 1: a warning; 2: urgent."""
        return max(self.levels.get(row.name, 0), self.levels.get((row.site, row.device, ""), 0))

    def quiet(self, now_us: int) -> str:
        """Why what is shown may be old, one line; "" where it is not."""
        if not self.judged_us:
            return "Nobody has listened yet: start walt-loop ingest or walt-loop fleet watch."
        if now_us - self.judged_us > _QUIET_S * _SECOND:
            return "Nobody listens now: what follows is of then. Start walt-loop ingest or walt-loop fleet watch."
        return "" if self.listening_us is not None else "The broker is not heard: what follows is of before."

    def totals(self) -> Counter[str]:
        """How many `devices`, `cameras`, and devices that are `online` and `offline`."""
        statuses = {(row.site, row.device): row.status for row in self.rows}
        counts = Counter(statuses.values())
        counts["devices"], counts["cameras"] = len(statuses), sum(bool(row.key) for row in self.rows)
        return counts


class Board:
    """The fleet's newest view; any number of threads may ask.

    Args:
        engine: The store's.
        clock_s: Monotonic seconds.
    """

    def __init__(self, engine: Engine, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock_s = engine, clock_s
        self._lock = threading.Lock()
        self._looked_s = -_LOOK_S
        self._stand: tuple[Any, ...] | None = None
        self._devices: dict[tuple[str, ...], tuple[int, DeviceState]] = {}
        self._cameras: dict[tuple[str, ...], tuple[int, CameraState]] = {}
        self._view = View((), (), {}, 0, None)

    def view(self) -> View:
        """The fleet as it was written last, at most a second ago.

        Raises:
            StoreError: A row cannot be read: a newer program wrote it.
        """
        with self._lock:
            if self._clock_s() - self._looked_s >= _LOOK_S:
                self._look()
                self._looked_s = self._clock_s()
            return self._view

    def _look(self) -> None:
        with self._engine.connect() as connection:
            watch = connection.execute(select(fleet_watch)).one_or_none()
            stand = None if watch is None else (watch.batches, watch.judged_us, watch.listening_us)
            if stand is not None and stand == self._stand:
                return
            device, camera = fleet_devices.c, fleet_cameras.c
            _renew(connection, (device.site, device.device), device, self._devices, DeviceState)
            _renew(connection, (camera.site, camera.device, camera.camera), camera, self._cameras, CameraState)
            alerts = _alerts(connection)
        judged_us, listening_us = (watch.judged_us, watch.listening_us) if watch is not None else (0, None)
        self._view = View(tuple(self._rows()), alerts, _levels(alerts), judged_us, listening_us)
        self._stand = stand

    def _rows(self) -> Iterator[Row]:
        cameras: dict[tuple[str, ...], list[CameraState]] = {}
        for name, (_, camera) in self._cameras.items():
            cameras.setdefault(name[:2], []).append(camera)
        rows = [
            _row(device, camera)
            for name, (_, device) in self._devices.items()
            for camera in cameras.get(name, [None])
        ]
        yield from sorted(rows, key=lambda row: row.name)


def _renew(
    connection: Connection, key: Sequence[Any], columns: Any, known: dict[tuple[str, ...], tuple[int, Any]], kind: Any
) -> None:
    """Decodes the states of those that were heard since they were last."""
    heard = {tuple(row[:-1]): row[-1] for row in connection.execute(select(*key, columns.heard_us))}
    for gone in known.keys() - heard.keys():
        del known[gone]
    changed = [name for name, at_us in heard.items() if name not in known or known[name][0] != at_us]
    query = select(*key, columns.heard_us, columns.state)
    # Most of them: one scan is less than so many look-ups.
    chunks: list[Any] = [None] if 2 * len(changed) > len(heard) else list(range(0, len(changed), _CHUNK))
    for first in chunks:
        some = query if first is None else query.where(tuple_(*key).in_(changed[first : first + _CHUNK]))
        for *name, at_us, text in connection.execute(some):
            known[tuple(name)] = (at_us, _decoded(text, kind))


def _decoded(text: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise StoreError(f"the fleet's state cannot be read ({error}): update walt-amodal") from error


def _row(device: DeviceState, camera: CameraState | None) -> Row:
    reported, told = device.reported, camera.told if camera is not None else None
    name = ""
    if camera is not None:
        name = camera.camera or (device.info.camera if device.info is not None else "")
    lens = camera.lens.clear if camera is not None and camera.lens.clear_us else None
    return Row(
        site=device.site,
        device=device.device,
        camera=name,
        key=camera.key if camera is not None else 0,
        status=device.status,
        heard_us=camera.heard_us if camera is not None else device.newest_us,
        frame_us=camera.heard_us - round(silence_s(camera) * _SECOND) if camera is not None else 0,
        frames=told.frames_processed if told is not None else 0,
        crops=told.crops_chosen if told is not None else 0,
        waiting=told.spool.depth if told is not None else 0,
        release=reported.release if reported is not None else 0,
        model=reported.state if reported is not None else "",
        reason=reported.reason if reported is not None else "",
        lens=lens,
        brightness=told.lens.brightness if told is not None and told.lens is not None else -1.0,
        frame_age_ms=told.frame_age_ms_p50 if told is not None else 0.0,
        version=device.info.version if device.info is not None else "",
    )


def _alerts(connection: Connection) -> tuple[AlertRow, ...]:
    """Those that are raised: the most urgent first, then the oldest."""
    order = {name: place for place, name in enumerate(KINDS)}
    found = []
    for row in connection.execute(select(fleet_alerts).where(fleet_alerts.c.state == "raised")):
        kind = KINDS.get(row.kind)
        level = kind.level if kind is not None else Level.WARNING
        title, remedy = (kind.title, kind.remedy) if kind is not None else (row.kind, "update walt-amodal at home")
        subject = Subject(row.kind, row.site, row.device, row.camera)
        alert = AlertRow(subject, level.name.lower(), title, row.detail, remedy, row.since_us)
        found.append((-level, order.get(row.kind, len(order)), row.since_us, subject, alert))
    return tuple(one[-1] for one in sorted(found, key=lambda one: one[:-1]))


def _levels(alerts: Sequence[AlertRow]) -> dict[tuple[str, str, str], int]:
    levels: dict[tuple[str, str, str], int] = {}
    for alert in alerts:
        place = alert.subject[1:]
        levels[place] = max(levels.get(place, 0), int(Level[alert.level.upper()]))
    return levels
