"""What the fleet's tables tell of devices in stretches of time: sums of samples, and which devices fell silent.

The watch wrote these rows; nothing here listens to a broker. A stretch is read from the tier of samples that still
holds it: minutes are kept for a day, hours for a year.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, Row, and_, func, or_, select

from walt_train.loop.fleet.keeping import TIERS_S
from walt_train.loop.fleet.tables import fleet_cameras, fleet_samples, fleet_watch
from walt_train.loop.lineage.record import chunks
from walt_train.loop.rollout.judging import Totals

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
HOUR_S: Final = 3600
_WATCHED_US: Final = 5 * 60 * SECOND_US
# A tier is believed to hold what is this much younger than when it is deleted.
_SAFE_S: Final = 0.8

Who = tuple[str, str]
Span = tuple[int, int]
"""From and until, microseconds UTC; half-open."""

_COLUMNS: Final = {
    "count": "count",
    "frames": "frames_processed",
    "objects": "objects_seen",
    "crops": "crops_chosen",
    "looks": "looks",
    "scored": "scored",
    "score_milli": "score_milli",
    "restarts": "restarts",
    "infer_ms": "infer_ms_p50_sum",
    "step_ms": "step_ms_p99_sum",
}
_FLOATS: Final = ("infer_ms", "step_ms")


def camera_keys(connection: Connection, who: Iterable[Who]) -> dict[int, Who]:
    """Which device each of the cameras' keys is of."""
    wanted = set(who)
    query = select(fleet_cameras.c.key, fleet_cameras.c.site, fleet_cameras.c.device)
    keys: dict[int, Who] = {}
    for names in chunks(sorted({device for _, device in wanted})):
        for row in connection.execute(query.where(fleet_cameras.c.device.in_(names))):
            if (row.site, row.device) in wanted:
                keys[row.key] = (row.site, row.device)
    return keys


def totals(connection: Connection, keys: dict[int, Who], tier_s: int, spans: Sequence[Span]) -> dict[Who, Totals]:
    """Sums over all of the spans, and over a device's cameras.

    Args:
        connection: To the store's database.
        keys: The cameras, with the device of each.
        tier_s: Which samples; buckets that begin in a span count.
        spans: Stretches of time.
    """
    samples = fleet_samples.c
    within = or_(*(and_(samples.at_us >= first, samples.at_us < last) for first, last in spans))
    sums = [func.sum(samples[column]).label(f"sum_{name}") for name, column in _COLUMNS.items()]
    query = select(samples.key, *sums).where(samples.tier == tier_s, within).group_by(samples.key)
    found: dict[Who, Totals] = {}
    for some in chunks(sorted(keys)):
        for row in connection.execute(query.where(samples.key.in_(some))):
            who = keys[row.key]
            found[who] = _added(found.get(who), row)
    return found


def tier_of(span: Span, now_us: int, wanted_s: int) -> int:
    """The finest tier from `wanted_s` on that still holds all of a span."""
    for tier_s in sorted(TIERS_S):
        if tier_s >= wanted_s and now_us - span[0] <= _SAFE_S * TIERS_S[tier_s] * SECOND_US:
            return tier_s
    return max(TIERS_S)


def whole(span: Span, tier_s: int) -> Span:
    """The buckets of a tier that lie in a span altogether, the one that is being filled included."""
    step = max(tier_s, 1) * SECOND_US
    return (-(-span[0] // step) * step, span[1]) if tier_s else span


def same_hours(span: Span, days: int) -> list[Span]:
    """The stretches at the same hours of the days before, none of which overlaps the span, in whole hours."""
    hour = HOUR_S * SECOND_US
    period = -(-(span[1] - span[0]) // DAY_US) * DAY_US
    return [
        ((span[0] - number * period) // hour * hour, -(-(span[1] - number * period) // hour) * hour)
        for number in range(1, days + 1)
    ]


def is_watched(connection: Connection, now_us: int) -> bool:
    """Whether the fleet's watch listens and has judged of late: without it nobody's silence means anything."""
    row = connection.execute(select(fleet_watch.c.judged_us, fleet_watch.c.listening_us)).first()
    return row is not None and row.listening_us is not None and now_us - row.judged_us < _WATCHED_US


def _added(known: Totals | None, row: Row[tuple[int]]) -> Totals:
    before = known or Totals()
    # PostgreSQL gives sums of large numbers as decimals.
    kinds = {name: float if name in _FLOATS else int for name in _COLUMNS}
    return Totals(**{name: getattr(before, name) + kind(getattr(row, f"sum_{name}")) for name, kind in kinds.items()})
