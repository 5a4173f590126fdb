"""Which figures of a camera are kept over time, and how many samples become one.

A bucket is what a stretch of time held of one camera: how many samples, the growth of each counter, sum, least and
most of each spread, least and most of each range. Buckets of one stretch add up in any order, so a stretch may be
written in parts, and every tier is filled from the samples themselves: nothing has to be rolled up later.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any, Final

COUNTERS: Final = (
    "frames_received",
    "frames_processed",
    "frames_skipped",
    "camera_reconnects",
    "anonymiser_failures",
    "objects_seen",
    "crops_chosen",
    "rejected",
    "moves",
    "spool_accepted",
    "spool_dropped",
    "restarts",
    "looks",
    "scored",
    "score_milli",
)
"""Named as at the edge, but for `restarts`, which home counts; a bucket holds by how much they grew."""

SPREADS: Final = (
    "frame_age_ms_p50",
    "frame_age_ms_p99",
    "step_ms_p99",
    "infer_ms_p50",
    "silence_s",
    "skew_s",
    "spool_depth",
    "spool_bytes",
)
"""Told in every message: sum, least, most; the mean is the sum by the count."""

RANGES: Final = ("lens_clear", "disk_free_bytes")
"""Not always told: least and most, absent where nothing was told."""

FIELDS: Final = (
    "count",
    *COUNTERS,
    *(f"{name}_{part}" for name in SPREADS for part in ("sum", "min", "max")),
    *(f"{name}_{part}" for name in RANGES for part in ("min", "max")),
)
"""Columns of a bucket, in this order."""

_LEAST: Final = tuple(place for place, name in enumerate(FIELDS) if name.endswith("_min"))
_MOST: Final = tuple(place for place, name in enumerate(FIELDS) if name.endswith("_max"))
_ADDED: Final = tuple(place for place in range(len(FIELDS)) if place not in {*_LEAST, *_MOST})
_WHOLE: Final = frozenset(("count", *COUNTERS))

Bucket = array  # of float64, as `FIELDS`; NaN: nothing was told


def bucket_of(grown: Mapping[str, int], spreads: Mapping[str, float], ranges: Mapping[str, float]) -> Bucket[float]:
    """The bucket of one sample; a range that was not told is left out of `ranges`."""
    values: list[float] = [1.0, *(float(grown.get(name, 0)) for name in COUNTERS)]
    for name in SPREADS:
        values += 3 * [spreads[name]]
    for name in RANGES:
        values += 2 * [ranges.get(name, math.nan)]
    return array("d", values)


def merge(into: Bucket[float], other: Bucket[float]) -> None:
    """Adds a bucket to another of the same stretch."""
    for place in _ADDED:
        into[place] += other[place]
    for place in _LEAST:
        if not other[place] >= into[place]:
            into[place] = into[place] if math.isnan(other[place]) else other[place]
    for place in _MOST:
        if not other[place] <= into[place]:
            into[place] = into[place] if math.isnan(other[place]) else other[place]


def columns(bucket: Bucket[float]) -> dict[str, Any]:
    """The bucket as a row holds it: whole numbers for counts, None for what was not told."""
    row: dict[str, Any] = {}
    for name, value in zip(FIELDS, bucket, strict=True):
        row[name] = int(value) if name in _WHOLE else None if math.isnan(value) else value
    return row
