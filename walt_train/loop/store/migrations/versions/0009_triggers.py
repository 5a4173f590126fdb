"""A generation tells why it was begun and what its harvest covered; each camera, what it waits for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds a column and makes two tables; why older generations were begun is not known."""
    op.add_column("generations", sa.Column("why", sa.Text, nullable=False, server_default=""))
    op.create_index("generations_by_state", "generations", ["state", "created_us"])
    op.create_index("generations_by_time", "generations", ["created_us"])
    op.create_table(
        "harvests",
        sa.Column("camera", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("cells", sa.Text, nullable=False),
    )
    op.create_table(
        "waits",
        sa.Column("camera", sa.String(64), primary_key=True),
        sa.Column("looked_us", sa.BigInteger, nullable=False),
        sa.Column("is_ready", sa.Boolean, nullable=False),
        sa.Column("gain", sa.Float, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
    )
