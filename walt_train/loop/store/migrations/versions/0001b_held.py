"""A crop may be kept from training for a while, and the row says why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001b"
down_revision = "0001"


def upgrade() -> None:
    """Adds `envelopes.held`; what is there is free."""
    op.add_column("envelopes", sa.Column("held", sa.String(64)))
    # Programs of before there were revisions look at this alone, and would train on what is held.
    op.execute("UPDATE meta SET value = '2' WHERE key = 'version'")
