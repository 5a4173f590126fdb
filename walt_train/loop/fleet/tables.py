"""The fleet's tables: the last state of each device and camera, samples, alerts, and who listens.

Size, for 10,000 cameras that tell of themselves every 30 s; a row of samples takes 0.43 kB on PostgreSQL, its
indices included (`python -m benchmarks.watch`):

| tier | rows a camera | rows | size |
|---|---|---|---|
| raw, 1 hour | 120 | 1.2 million | 0.6 GB |
| minutes, 1 day | 1,440 | 14.4 million | 6 GB |
| hours, 1 year | 8,760 | 87.6 million | 38 GB |

A laptop with ten cameras holds a thousandth of that. Nothing else grows with time: states are one row each, alerts
one row for each that is pending or raised, events are deleted after 90 days.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text

from walt_train.loop.fleet.figures import COUNTERS, RANGES, SPREADS
from walt_train.loop.store.tables import metadata

fleet_devices = Table(
    "fleet_devices",
    metadata,
    Column("site", String(64), primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("heard_us", BigInteger, nullable=False),
    # JSON of `DeviceState`.
    Column("state", Text, nullable=False),
)

fleet_cameras = Table(
    "fleet_cameras",
    metadata,
    # Of site, device and camera; see `camera_key`.
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("site", String(64), nullable=False),
    Column("device", String(64), nullable=False),
    Column("camera", String(64), nullable=False),
    Column("heard_us", BigInteger, nullable=False),
    # JSON of `CameraState`.
    Column("state", Text, nullable=False),
)

fleet_samples = Table(
    "fleet_samples",
    metadata,
    # Of the camera.
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    # Length of a bucket in seconds; 0: a sample as it came.
    Column("tier", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in COUNTERS),
    *(Column(f"{name}_{part}", Float, nullable=False) for name in SPREADS for part in ("sum", "min", "max")),
    *(Column(f"{name}_{part}", Float) for name in RANGES for part in ("min", "max")),
    Index("fleet_samples_by_time", "tier", "at_us"),
)

fleet_alerts = Table(
    "fleet_alerts",
    metadata,
    Column("kind", String(32), primary_key=True),
    # "" where an alert is of no camera, or of home itself.
    Column("site", String(64), primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("camera", String(64), primary_key=True),
    Column("state", String(8), nullable=False),
    Column("since_us", BigInteger, nullable=False),
    # Since when all is well, while it is raised; NULL: it is not.
    Column("well_us", BigInteger),
    Column("detail", Text, nullable=False),
)

# What is to be told, or was: an alert that was raised or cleared.
fleet_events = Table(
    "fleet_events",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("site", String(64), nullable=False),
    Column("device", String(64), nullable=False),
    Column("camera", String(64), nullable=False),
    Column("what", String(8), nullable=False),
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("detail", Text, nullable=False),
    # When the webhook took it; NULL: not yet.
    Column("told_us", BigInteger),
)

# One row: which process listens, until when, and how many batches were ever written.
fleet_watch = Table(
    "fleet_watch",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("owner", String(160), nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("batches", BigInteger, nullable=False),
    # When the owner last judged, and since when it hears the broker; NULL: it does not.
    Column("judged_us", BigInteger, nullable=False),
    Column("listening_us", BigInteger),
)
