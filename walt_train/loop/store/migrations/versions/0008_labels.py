"""What people reject never trains; what they draw judges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Makes the tables of rejections and of drawn labels, and what finds crops by time, confidence and size."""
    op.add_column("envelopes", sa.Column("area", sa.Float))
    op.execute("UPDATE envelopes SET area = (x1 - x0) * (y1 - y0) WHERE x0 IS NOT NULL")
    is_crop = sa.text("label IS NOT NULL")
    for name, column in (("newest", "captured_us"), ("least_sure", "confidence"), ("largest", "area")):
        columns = [column, "camera", "id"]
        op.create_index(f"envelopes_{name}", "envelopes", columns, sqlite_where=is_crop, postgresql_where=is_crop)
    op.create_table(
        "rejections",
        sa.Column("crop", sa.String(64), primary_key=True),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("rejections_by_time", "rejections", ["at_us", "crop"])
    _make_labels()


def _make_labels() -> None:
    op.create_table(
        "label_leases",
        sa.Column("frame", sa.String(64), primary_key=True),
        sa.Column("by", sa.String(128), nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "label_drafts",
        sa.Column("frame", sa.String(64), primary_key=True),
        sa.Column("by", sa.String(128), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("drawing", sa.Text, nullable=False),
    )
    op.create_table(
        "label_drawings",
        sa.Column("frame", sa.String(64), primary_key=True),
        sa.Column("by", sa.String(128), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("camera", sa.String(64), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("drawing", sa.Text, nullable=False),
    )
    op.create_index("label_drawings_by_camera", "label_drawings", ["camera", "at_us"])
    op.create_table(
        "label_exports",
        sa.Column("place", sa.String(500), primary_key=True),
        sa.Column("frame", sa.String(64), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
    )
    op.create_index("label_exports_by_frame", "label_exports", ["frame"])
