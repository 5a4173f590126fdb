"""What a generation's harvest covered, and what each camera waits for."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Table, Text

from walt_train.loop.store.tables import metadata

# Of a generation when it was begun; what came later is compared with it, also after its crops have expired.
harvests = Table(
    "harvests",
    metadata,
    Column("camera", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    # JSON: by cell, how many objects were seen there, up to what fills it.
    Column("cells", Text, nullable=False),
)

# One row a camera, written over now and then by whoever looked: for people.
waits = Table(
    "waits",
    metadata,
    Column("camera", String(64), primary_key=True),
    Column("looked_us", BigInteger, nullable=False),
    Column("is_ready", Boolean, nullable=False),
    Column("gain", Float, nullable=False),
    Column("line", Text, nullable=False),
)
