"""Devices are approved, cameras are held, and what the ingest turned away is counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the tables, and what finds held and new envelopes."""
    op.create_table(
        "standings",
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("approved_us", sa.BigInteger),
        sa.Column("approved_by", sa.String(64), nullable=False),
        sa.Column("messages_an_hour", sa.Float),
        sa.Column("bytes_an_hour", sa.Float),
        sa.Column("changed_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_standings_changed_us", "standings", ["changed_us"])
    op.create_table(
        "held_cameras",
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("camera", sa.String(64), primary_key=True),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("held_us", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "camera_owners",
        sa.Column("camera", sa.String(64), primary_key=True),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("was", sa.String(64), nullable=False),
        sa.Column("given_us", sa.BigInteger),
    )
    op.create_index("ix_camera_owners_device", "camera_owners", ["device"])
    op.create_index("ix_camera_owners_given_us", "camera_owners", ["given_us"])
    op.create_table(
        "camera_pasts",
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("camera", sa.String(64), primary_key=True),
        sa.Column("through_us", sa.BigInteger, nullable=False),
        sa.Column("past", sa.Text, nullable=False),
    )
    op.create_table(
        "met",
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("site", sa.String(64), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("over_rate", "unknown", "refused", "seen_us")),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("seen_us", sa.BigInteger, nullable=False),
    )
    held = sa.text("held IS NOT NULL")
    op.create_index("envelopes_held", "envelopes", ["device", "camera"], sqlite_where=held, postgresql_where=held)
    op.create_index("envelopes_by_source", "envelopes", ["device", "camera", "received_us"])
