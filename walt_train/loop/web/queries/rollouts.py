"""Rollouts beside what their devices tell: cohorts over time, as a chart can show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Engine, func, select

from walt_train.loop.fleet.tables import fleet_samples
from walt_train.loop.rollout.model import CONTROL, Rollout
from walt_train.loop.rollout.tables import rollout_members, rollouts
from walt_train.loop.web.queries.board import View

SHOWN_MEMBERS: Final = 60
"""Devices of a rollout that its page lists."""

_MOST_CAMERAS: Final = 60
_SECOND: Final = 1_000_000
_HOUR_S: Final = 3600
_BEFORE_S: Final = 24 * _HOUR_S
_LONGEST_S: Final = 14 * 24 * _HOUR_S
TREATED: Final = "told"

SIGNALS: Final = (
    ("Age of a frame, median", " ms", "frame_age_ms_p50_sum", "count", 1.0),
    ("Inference, median", " ms", "infer_ms_p50_sum", "count", 1.0),
    ("Objects a thousand frames", "", "objects_seen", "frames_processed", 1e3),
    ("Detections a look of the model", "", "scored", "looks", 1.0),
    ("Mean score of a detection", " %", "score_milli", "scored", 0.1),
    ("Crops a thousand objects", "", "crops_chosen", "objects_seen", 1e3),
)
"""Name, unit, the two columns of a sample whose ratio it is, and by what that is multiplied."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One figure of the devices that were told and of those that are compared with, hour by hour."""

    name: str
    unit: str
    treated: Sequence[tuple[float, float | None]]
    control: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Brief:
    """A rollout in a list; times are microseconds UTC."""

    id: int
    release: int
    name: str
    camera: str
    generation: int
    state: str
    detail: str
    by: str
    created_us: int
    ended_us: int | None
    told: int
    members: int


def briefs(
    engine: Engine, *, state: str = "", camera: str = "", before: int | None = None, limit: int = 50
) -> list[Brief]:
    """Rollouts, the newest first, without their devices and events: at most `limit` below the id `before`."""
    table = rollouts.c
    query = select(rollouts).order_by(table.id.desc()).limit(limit)
    if state:
        query = query.where(table.state == state)
    if camera:
        query = query.where(table.camera == camera)
    if before is not None:
        query = query.where(table.id < before)
    with engine.connect() as connection:
        rows = connection.execute(query).all()
        members = rollout_members.c
        counted = (
            select(members.rollout, func.count(), func.count(members.told_us))
            .where(members.rollout.in_([row.id for row in rows]), ~members.outside)
            .group_by(members.rollout)
        )
        counts = {one: (int(told), int(count)) for one, count, told in connection.execute(counted)}
    return [
        Brief(
            *(row.id, row.release, row.name, row.camera, row.generation, row.state, row.detail, row.by),
            *(row.created_us, row.ended_us, *counts.get(row.id, (0, 0))),
        )
        for row in rows
    ]


def counts(engine: Engine) -> dict[str, int]:
    """How many rollouts there are by state."""
    query = select(rollouts.c.state, func.count()).group_by(rollouts.c.state)
    with engine.connect() as connection:
        return {state: int(count) for state, count in connection.execute(query)}


def signals(engine: Engine, rollout: Rollout, view: View, now_us: int) -> list[Signal]:
    """What the devices that were told have told since a day before it began, beside those compared with.

    Of a large cohort the first sixty cameras stand for all: a chart is looked at, and does not judge.
    """
    control, treated = _keys(rollout, view, is_control=True), _keys(rollout, view, is_control=False)
    end_us = min(now_us, rollout.ended_us + _BEFORE_S * _SECOND if rollout.ended_us else now_us)
    began_us = max(rollout.created_us - _BEFORE_S * _SECOND, end_us - _LONGEST_S * _SECOND)
    with engine.connect() as connection:
        told = _hours(connection, treated, began_us, end_us)
        beside = _hours(connection, control, began_us, end_us)
    return [
        Signal(name, unit, _ratio(told, upper, lower, factor), _ratio(beside, upper, lower, factor))
        for name, unit, upper, lower, factor in SIGNALS
    ]


def _keys(rollout: Rollout, view: View, *, is_control: bool) -> list[int]:
    names = {
        member.who
        for cohort in rollout.cohorts
        for member in cohort.members
        if (cohort.name == CONTROL) == is_control and (is_control or member.touched_us is not None)
    }
    return [row.key for row in view.rows if row.key and (row.site, row.device) in names][:_MOST_CAMERAS]


def _hours(connection: Any, keys: Sequence[int], began_us: int, end_us: int) -> list[Mapping[str, Any]]:
    if not keys:
        return []
    table = fleet_samples.c
    names = dict.fromkeys(name for signal in SIGNALS for name in signal[2:4])
    sums = [func.sum(_column(name)).label(name) for name in names]
    # Grouped by the time itself, SQLite would read those hours of all cameras, in the order of its index by time.
    hour = (table.at_us // (_HOUR_S * _SECOND)).label("hour")
    query = (
        select(hour, *sums)
        .where(table.key.in_(keys), table.tier == _HOUR_S, table.at_us.between(began_us, end_us))
        .group_by(hour)
        .order_by(hour)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def _column(name: str) -> Column[Any]:
    return fleet_samples.c[name]


def _ratio(
    hours: Sequence[Mapping[str, Any]], upper: str, lower: str, factor: float
) -> list[tuple[float, float | None]]:
    return [
        (float(hour["hour"]) * _HOUR_S, factor * float(hour[upper]) / float(hour[lower]) if hour[lower] else None)
        for hour in hours
    ]
