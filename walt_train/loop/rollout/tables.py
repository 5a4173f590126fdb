"""The tables of rollouts: what goes out, to whom, what happened, and which process drives it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from walt_train.loop.store.tables import metadata

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("release", BigInteger, nullable=False, unique=True),
    Column("target", String(200), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    # The generation that made it; "" and 0 where it came by hand.
    Column("camera", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    # JSON of `Plan`.
    Column("plan", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    Column("by", String(200), nullable=False),
    # Which of the plan's stages, and since when.
    Column("stage", Integer, nullable=False),
    Column("stage_us", BigInteger, nullable=False),
    Column("judged_us", BigInteger, nullable=False),
    # JSON of `Evidence`, as it was last judged; "" before.
    Column("evidence", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Index("rollouts_by_state", "state"),
)

# Frozen at creation, but for what became of each.
rollout_members = Table(
    "rollout_members",
    metadata,
    Column("rollout", Integer, primary_key=True, autoincrement=False),
    Column("site", String(64), primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("cohort", String(16), nullable=False),
    # Only compared with; never told.
    Column("outside", Boolean, nullable=False),
    # Written before it is told, so that a kill in between forgets nobody who has to be told the way back.
    Column("touched_us", BigInteger),
    Column("told_us", BigInteger),
    Column("running_us", BigInteger),
    # What it goes back to; 0 and "": nothing of home's.
    Column("before_release", BigInteger, nullable=False),
    Column("before_sha256", String(64), nullable=False),
    # The release that took it back; 0: none of home's any more. NULL: not taken back.
    Column("undo", BigInteger),
    Column("undone_us", BigInteger),
    Index("rollout_members_by_device", "device", "site"),
)

rollout_events = Table(
    "rollout_events",
    metadata,
    Column("rollout", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("by", String(200), nullable=False),
    Column("what", String(24), nullable=False),
    Column("detail", Text, nullable=False),
)

# One row: which process drives rollouts, and until when.
rollout_lease = Table(
    "rollout_lease",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("owner", String(160), nullable=False),
    Column("until_us", BigInteger, nullable=False),
)
