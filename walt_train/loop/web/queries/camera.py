"""One camera: who sends it, its figures over time, its newest pictures, and what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine, func, select

from walt_edge.contract.topics import Kind
from walt_train.loop.fleet.tables import fleet_samples
from walt_train.loop.store.tables import envelopes
from walt_train.loop.web.queries.board import AlertRow, Row, View

_SECOND: Final = 1_000_000
_DAY_S: Final = 86_400
_DAY_US: Final = _DAY_S * _SECOND
_HOUR_US: Final = 3600 * _SECOND
_PLATES: Final = 96

SPANS: Final = {
    "hour": (3600, 60, 60),
    "day": (_DAY_S, 60, 600),
    "week": (7 * _DAY_S, 3600, 3600),
    "year": (366 * _DAY_S, 3600, _DAY_S * 2),
}
"""How long, seconds; which tier of samples it is read from; and how long one point of a chart is."""

WEEKS_BEFORE: Final = 4
"""The newest week is compared with so many before it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a stretch of time held of a camera; means over what was told in it.

    Attributes:
        at_us: When it began.
        span_s: Its length.
        watched: Frames a minute that were looked at.
        crops: Chosen in it.
        objects: Seen in it.
        age_ms: Median age of a frame as it was done with.
        age_ms_most: The slowest hundredth, at most.
        waiting: Envelopes in the spool, at most.
        lens: Clearness at least, 0..1; None where it was not told.
        failures: Frames that could not be anonymised.
    """

    at_us: int
    span_s: int
    watched: float
    crops: int
    objects: int
    age_ms: float
    age_ms_most: float
    waiting: float
    lens: float | None
    failures: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A crop or a plate, by its row alone."""

    id: str
    captured_us: int
    label: int | None
    confidence: float | None
    held: str | None
    holdout: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """One figure of the newest week beside the mean of the weeks before; None: nothing is known.

    Attributes:
        name: For people.
        now: Of the newest seven days.
        before: Of the weeks before.
        unit: Of both.
    """

    name: str
    now: float | None
    before: float | None
    unit: str = ""

    @property
    def change(self) -> float | None:
        """As a share of what was before."""
        if self.now is None or not self.before:
            return None
        return self.now / self.before - 1


@dataclass(frozen=True, slots=True)
class Week:
    """Crops of seven days of a camera; confidence is their mean."""

    end_us: int
    crops: int
    confidence: float | None


def rows_of(view: View, camera: str, device: str = "") -> list[Row]:
    """The rows of a camera's name, the one of `device` (SITE/DEVICE) alone if given, the last heard first."""
    rows = [row for row in view.rows if row.camera == camera and device in ("", f"{row.site}/{row.device}")]
    return sorted(rows, key=lambda row: -row.heard_us)


def alerts_of(view: View, row: Row) -> list[AlertRow]:
    """The alerts that are of a camera or of its device."""
    places = {row.name, (row.site, row.device, "")}
    return [alert for alert in view.alerts if alert.subject[1:] in places]


def history(engine: Engine, key: int, span: str, now_us: int) -> list[Moment]:
    """What was told of a camera over a span, at most 200 moments; one that is not over is left out."""
    long_s, tier, width_s = SPANS[span]
    table, width_us = fleet_samples.c, width_s * _SECOND
    end_us = now_us - now_us % width_us
    start = (table.at_us // width_us).label("start")
    count = func.sum(table.count)
    query = (
        select(
            start,
            func.sum(table.frames_processed),
            func.sum(table.crops_chosen),
            func.sum(table.objects_seen),
            func.sum(table.frame_age_ms_p50_sum) / count,
            func.max(table.frame_age_ms_p99_max),
            func.max(table.spool_depth_max),
            func.min(table.lens_clear_min),
            func.sum(table.anonymiser_failures),
        )
        .where(table.key == key, table.tier == tier)
        .where(table.at_us >= end_us - long_s * _SECOND, table.at_us < end_us)
        .group_by(start)
        .order_by(start)
    )
    with engine.connect() as connection:
        return [_moment(row, width_us) for row in connection.execute(query)]


def newest(engine: Engine, camera: str, kind: Kind, limit: int) -> list[Picture]:
    """A camera's newest crops or plates, the newest first."""
    table = envelopes.c
    query = (
        select(table.id, table.captured_us, table.label, table.confidence, table.held, table.holdout)
        .where(table.camera == camera, table.kind == kind.value)
        .order_by(table.captured_us.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        return [Picture(*row) for row in connection.execute(query)]


def plates_by_hour(engine: Engine, camera: str) -> dict[int, Picture]:
    """The newest plate that was finished in each hour of the day, UTC."""
    found: dict[int, Picture] = {}
    for plate in newest(engine, camera, Kind.PLATE, _PLATES):
        found.setdefault(plate.captured_us // _HOUR_US % 24, plate)
    return dict(sorted(found.items()))


def weeks(engine: Engine, camera: str, now_us: int) -> list[Week]:
    """The newest week's crops and those of the weeks before, the newest first."""
    table = envelopes.c
    began_us = now_us - (WEEKS_BEFORE + 1) * 7 * _DAY_US
    place = ((table.captured_us - began_us) // (7 * _DAY_US)).label("place")
    query = (
        select(place, func.count(), func.avg(table.confidence))
        .where(table.camera == camera, table.kind == Kind.CROP.value)
        .where(table.captured_us >= began_us, table.captured_us < now_us)
        .group_by(place)
    )
    with engine.connect() as connection:
        found = {int(week): (int(crops), mean) for week, crops, mean in connection.execute(query)}
    return [
        Week(began_us + (number + 1) * 7 * _DAY_US, *found.get(number, (0, None)))
        for number in range(WEEKS_BEFORE, -1, -1)
    ]


def drift(engine: Engine, key: int, camera: str, now_us: int) -> list[Drift]:
    """How the newest week differs from the weeks before, in what the camera tells and in what it sent."""
    now, before = _told(engine, key, now_us)
    newest_week, *earlier = weeks(engine, camera, now_us)
    known = [week for week in earlier if week.crops]
    sure = [week.confidence for week in known if week.confidence is not None]
    crops = sum(week.crops for week in known) / len(known) if known else None
    return [
        Drift("Lens, clearness at its worst", _percent(now.lens), _percent(before.lens), " %"),
        Drift("Objects a thousand frames", now.rate, before.rate),
        Drift("Detections a look of the model", now.detections, before.detections),
        Drift("Their mean score", now.mean_score, before.mean_score, " %"),
        Drift("Crops a week", float(newest_week.crops), crops),
        Drift("How sure crops are whole", _percent(newest_week.confidence), _percent(_mean(sure)), " %"),
    ]


class _Told(NamedTuple):
    lens: float | None = None
    objects: int = 0
    frames: int = 0
    looks: int = 0
    scored: int = 0
    score: int = 0

    @property
    def rate(self) -> float | None:
        return _ratio(self.objects, self.frames, 1e3)

    @property
    def detections(self) -> float | None:
        return _ratio(self.scored, self.looks, 1)

    @property
    def mean_score(self) -> float | None:
        # Kept in thousandths.
        return _ratio(self.score, self.scored, 0.1)


def _told(engine: Engine, key: int, now_us: int) -> tuple[_Told, _Told]:
    """What a camera told in the newest week, and in the weeks before."""
    table, week_us = fleet_samples.c, 7 * _DAY_US
    is_new = (table.at_us >= now_us - week_us).label("is_new")
    counts = (table.objects_seen, table.frames_processed, table.looks, table.scored, table.score_milli)
    query = (
        select(is_new, func.min(table.lens_clear_min), *map(func.sum, counts))
        .where(table.key == key, table.tier == 3600, table.at_us >= now_us - (WEEKS_BEFORE + 1) * week_us)
        .group_by(is_new)
    )
    with engine.connect() as connection:
        told = {bool(row[0]): _Told(row[1], *map(int, row[2:])) for row in connection.execute(query)}
    return told.get(True, _Told()), told.get(False, _Told())


def _moment(row: Any, width_us: int) -> Moment:
    start, frames, crops, objects, age_ms, most_ms, waiting, lens, failures = row
    span_s = width_us // _SECOND
    return Moment(
        at_us=int(start) * width_us,
        span_s=span_s,
        watched=float(frames) * 60 / span_s,
        crops=int(crops),
        objects=int(objects),
        age_ms=float(age_ms),
        age_ms_most=float(most_ms),
        waiting=float(waiting),
        lens=lens,
        failures=int(failures),
    )


def _ratio(upper: int, lower: int, factor: float) -> float | None:
    return factor * upper / lower if lower else None


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * float(value)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
