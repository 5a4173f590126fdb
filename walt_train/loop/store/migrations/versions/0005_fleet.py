"""What devices tell of themselves is kept: states, samples, alerts, and who listens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_COUNTERS = (
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
)
_SPREADS = (
    "frame_age_ms_p50",
    "frame_age_ms_p99",
    "step_ms_p99",
    "infer_ms_p50",
    "silence_s",
    "skew_s",
    "spool_depth",
    "spool_bytes",
)
_RANGES = ("lens_clear", "disk_free_bytes")


def upgrade() -> None:
    """Makes the fleet's tables."""
    _make_states()
    _make_samples()
    _make_alerts()


def _make_states() -> None:
    op.create_table(
        "fleet_devices",
        sa.Column("site", sa.String(64), primary_key=True),
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("heard_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_table(
        "fleet_cameras",
        sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("camera", sa.String(64), nullable=False),
        sa.Column("heard_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_table(
        "fleet_watch",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("owner", sa.String(160), nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("batches", sa.BigInteger, nullable=False),
        sa.Column("judged_us", sa.BigInteger, nullable=False),
        sa.Column("listening_us", sa.BigInteger),
    )


def _make_samples() -> None:
    op.create_table(
        "fleet_samples",
        sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tier", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at_us", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("count", sa.Integer, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTERS),
        *(
            sa.Column(f"{name}_{part}", sa.Float, nullable=False)
            for name in _SPREADS
            for part in ("sum", "min", "max")
        ),
        *(sa.Column(f"{name}_{part}", sa.Float) for name in _RANGES for part in ("min", "max")),
    )
    op.create_index("fleet_samples_by_time", "fleet_samples", ["tier", "at_us"])


def _make_alerts() -> None:
    op.create_table(
        "fleet_alerts",
        *(sa.Column(name, sa.String(64 if name != "kind" else 32), primary_key=True) for name in _SUBJECT),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("well_us", sa.BigInteger),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_table(
        "fleet_events",
        sa.Column("id", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.String(64 if name != "kind" else 32), nullable=False) for name in _SUBJECT),
        sa.Column("what", sa.String(8), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("told_us", sa.BigInteger),
    )
    op.create_index("ix_fleet_events_at_us", "fleet_events", ["at_us"])


_SUBJECT = ("kind", "site", "device", "camera")
