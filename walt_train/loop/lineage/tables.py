"""The tables of lineage: what was made of what, where it runs, and what was forgotten."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from walt_train.loop.store.tables import metadata

# A file or an event, made once; files have the sha256 of their bytes for id.
artifacts = Table(
    "artifacts",
    metadata,
    Column("id", String(160), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(200), nullable=False),
    Column("camera", String(64), nullable=False),
    # Below the home folder; "" of what is no file.
    Column("place", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

edges = Table(
    "edges",
    metadata,
    Column("child", String(160), primary_key=True),
    Column("parent", String(160), primary_key=True),
    Index("edges_by_parent", "parent"),
)

# The crops and plates of a frozen clip art, each with what it is there for. They outlive the crops themselves.
members = Table(
    "members",
    metadata,
    Column("clipart", String(64), primary_key=True),
    Column("crop", String(64), primary_key=True),
    Column("role", String(12), nullable=False),
    Index("members_by_crop", "crop"),
)

# Whom a release was wished onto; the newest of a device is what it was last told to run.
wishes = Table(
    "wishes",
    metadata,
    Column("release", BigInteger, primary_key=True, autoincrement=False),
    Column("device", String(64), primary_key=True),
    Column("site", String(64), nullable=False),
    Column("told_us", BigInteger, nullable=False),
    Index("wishes_by_device", "device", "told_us"),
)

# What was asked to be forgotten, written before anything is removed: a killed `forget` is completed by the next one.
forgets = Table(
    "forgets",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("asked_us", BigInteger, nullable=False),
    Column("words", Text, nullable=False),
    Column("wish", Text, nullable=False),
    Column("crops", Integer, nullable=False),
    # NULL while something of it is still to be done.
    Column("done_us", BigInteger),
)

# Generations whose model learned from something that was forgotten.
tainted = Table(
    "tainted",
    metadata,
    Column("camera", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("crops", Integer, nullable=False),
    Column("tainted_us", BigInteger, nullable=False),
)

# Copies that were made of the store: what is forgotten has to go from them too.
backups = Table(
    "backups",
    metadata,
    Column("place", String(500), primary_key=True),
    Column("made_us", BigInteger, nullable=False),
)
