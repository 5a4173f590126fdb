"""What was made of what, where it runs, what was forgotten, how long things are kept, and where copies lie."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the tables; what was made before them is not in them."""
    _make_graph()
    _make_forgetting()
    op.create_table(
        "horizons",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("captured_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "backups",
        sa.Column("place", sa.String(500), primary_key=True),
        sa.Column("made_us", sa.BigInteger, nullable=False),
    )


def _make_graph() -> None:
    op.create_table(
        "artifacts",
        sa.Column("id", sa.String(160), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("camera", sa.String(64), nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "edges",
        sa.Column("child", sa.String(160), primary_key=True),
        sa.Column("parent", sa.String(160), primary_key=True),
    )
    op.create_index("edges_by_parent", "edges", ["parent"])
    op.create_table(
        "members",
        sa.Column("clipart", sa.String(64), primary_key=True),
        sa.Column("crop", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(12), nullable=False),
    )
    op.create_index("members_by_crop", "members", ["crop"])
    op.create_table(
        "rollouts",
        sa.Column("release", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("told_us", sa.BigInteger, nullable=False),
    )
    op.create_index("rollouts_by_device", "rollouts", ["device", "told_us"])


def _make_forgetting() -> None:
    op.create_table(
        "forgets",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("asked_us", sa.BigInteger, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("wish", sa.Text, nullable=False),
        sa.Column("crops", sa.Integer, nullable=False),
        sa.Column("done_us", sa.BigInteger),
    )
    op.create_table(
        "tainted",
        sa.Column("camera", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("crops", sa.Integer, nullable=False),
        sa.Column("tainted_us", sa.BigInteger, nullable=False),
    )
