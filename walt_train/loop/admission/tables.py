"""The tables of admission: who was let in by whom, which cameras are held, and what the ingest met."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, String, Table, Text

from walt_train.loop.store.tables import envelopes, metadata

# A device without a row is new. A limit that is NULL is the default.
standings = Table(
    "standings",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("approved_us", BigInteger),
    Column("approved_by", String(64), nullable=False),
    Column("messages_an_hour", Float),
    Column("bytes_an_hour", Float),
    Column("changed_us", BigInteger, nullable=False, index=True),
)

# What was received since `since_us` trains only after a person has released the camera, or accepted it as it is.
held_cameras = Table(
    "held_cameras",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("camera", String(64), primary_key=True),
    Column("since_us", BigInteger, nullable=False),
    Column("held_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)

# Whose a camera's name is. A row never goes; only a person changes it, which is `given_us`.
camera_owners = Table(
    "camera_owners",
    metadata,
    Column("camera", String(64), primary_key=True),
    Column("device", String(64), nullable=False, index=True),
    # Whose it was before it was given away; "" = nobody's.
    Column("was", String(64), nullable=False),
    Column("given_us", BigInteger, index=True),
)

# How a camera's crops were, window by window, as far as a person or time has accepted them.
camera_pasts = Table(
    "camera_pasts",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("camera", String(64), primary_key=True),
    # Up to where its crops have been judged.
    Column("through_us", BigInteger, nullable=False),
    Column("past", Text, nullable=False),
)

# What was not stored, of each device: messages over its rate, and such as were refused.
met = Table(
    "met",
    metadata,
    Column("device", String(64), primary_key=True),
    Column("site", String(64), nullable=False),
    Column("over_rate", BigInteger, nullable=False),
    Column("unknown", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
)

# Who shares the load at this moment, and who of them looks after the cameras.
workers = Table(
    "workers",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("seen_us", BigInteger, nullable=False),
)

Index(
    "envelopes_held",
    envelopes.c.device,
    envelopes.c.camera,
    sqlite_where=envelopes.c.held.is_not(None),
    postgresql_where=envelopes.c.held.is_not(None),
)
Index("envelopes_by_source", envelopes.c.device, envelopes.c.camera, envelopes.c.received_us)
