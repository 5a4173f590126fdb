"""Rollouts have cohorts, and telemetry tells how sure a model is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_COUNTERS = ("restarts", "looks", "scored", "score_milli")


def upgrade() -> None:
    """Gives the name `rollouts` to rollouts; whom a release was wished onto lies in `wishes` from now on."""
    _rename_wishes()
    _make_rollouts()
    _make_parts()
    for name in _COUNTERS:
        # What was sampled before knows nothing of them: no look, no score.
        op.add_column("fleet_samples", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))


def _rename_wishes() -> None:
    op.drop_index("rollouts_by_device", "rollouts")
    op.rename_table("rollouts", "wishes")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX rollouts_pkey RENAME TO wishes_pkey")
    op.create_index("wishes_by_device", "wishes", ["device", "told_us"])


def _make_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("release", sa.BigInteger, nullable=False, unique=True),
        sa.Column("target", sa.String(200), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("camera", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("stage_us", sa.BigInteger, nullable=False),
        sa.Column("judged_us", sa.BigInteger, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger),
    )
    op.create_index("rollouts_by_state", "rollouts", ["state"])


def _make_parts() -> None:
    op.create_table(
        "rollout_members",
        sa.Column("rollout", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("site", sa.String(64), primary_key=True),
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("cohort", sa.String(16), nullable=False),
        sa.Column("outside", sa.Boolean, nullable=False),
        sa.Column("touched_us", sa.BigInteger),
        sa.Column("told_us", sa.BigInteger),
        sa.Column("running_us", sa.BigInteger),
        sa.Column("before_release", sa.BigInteger, nullable=False),
        sa.Column("before_sha256", sa.String(64), nullable=False),
        sa.Column("undo", sa.BigInteger),
        sa.Column("undone_us", sa.BigInteger),
    )
    op.create_index("rollout_members_by_device", "rollout_members", ["device", "site"])
    op.create_table(
        "rollout_events",
        sa.Column("rollout", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("what", sa.String(24), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_table(
        "rollout_lease",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("owner", sa.String(160), nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
    )
