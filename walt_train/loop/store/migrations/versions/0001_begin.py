"""What programs made before there were revisions: some or all of these tables, so each is made if absent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables of envelopes and of generations."""
    _make_envelopes()
    _make_counters()
    _make_generations()
    version = sa.table("meta", sa.column("key", sa.String), sa.column("value", sa.String))
    if not op.get_bind().scalar(sa.select(sa.func.count()).select_from(version)):
        op.bulk_insert(version, [{"key": "version", "value": "1"}])


def _make_envelopes() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("value", sa.String(64), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "envelopes",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("device", sa.String(64), nullable=False),
        sa.Column("camera", sa.String(64), nullable=False),
        sa.Column("captured_us", sa.BigInteger, nullable=False),
        sa.Column("clock", sa.String(16), nullable=False),
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("monotonic_ns", sa.BigInteger, nullable=False),
        sa.Column("media_time_s", sa.Float, nullable=False),
        sa.Column("received_us", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("holdout", sa.Boolean, nullable=False),
        sa.Column("label", sa.Integer),
        sa.Column("track_id", sa.BigInteger),
        sa.Column("confidence", sa.Float),
        *(sa.Column(name, sa.Float) for name in ("x0", "y0", "x1", "y1")),
        sa.Column("plate", sa.String(64)),
        if_not_exists=True,
    )
    op.create_index("envelopes_by_camera", "envelopes", ["camera", "kind", "captured_us"], if_not_exists=True)
    op.create_index("envelopes_by_device", "envelopes", ["device", "captured_us"], if_not_exists=True)


def _make_counters() -> None:
    op.create_table(
        "tombstones",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("deleted_us", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "quarantine",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("received_us", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_quarantine_received_us", "quarantine", ["received_us"], if_not_exists=True)
    op.create_table(
        "counters",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )


def _make_generations() -> None:
    op.create_table(
        "generations",
        sa.Column("camera", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("recipe", sa.String(64), nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("training_steps", sa.Integer),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger),
        sa.Column("crops", sa.Integer, nullable=False),
        sa.Column("tracks", sa.Integer, nullable=False),
        sa.Column("clipart_sha256", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(160), nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("due_us", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "steps",
        sa.Column("camera", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("started_us", sa.BigInteger),
        sa.Column("ended_us", sa.BigInteger),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        if_not_exists=True,
    )
