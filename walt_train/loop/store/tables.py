"""The store's tables: one row per envelope, with what is asked for without opening it.

Plain SQL types only, so that the same tables serve SQLite on a laptop and PostgreSQL at size. The tables of other
areas are declared on the same `metadata`; the revisions in `migrations` make and change them in a database.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

from walt_edge.contract.messages import CropHeader, Envelope

metadata = MetaData()

# What programs of before there were revisions look at.
meta = Table(
    "meta", metadata, Column("key", String(32), primary_key=True), Column("value", String(64), nullable=False)
)

envelopes = Table(
    "envelopes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("site", String(64), nullable=False),
    Column("device", String(64), nullable=False),
    Column("camera", String(64), nullable=False),
    Column("captured_us", BigInteger, nullable=False),
    Column("clock", String(16), nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("monotonic_ns", BigInteger, nullable=False),
    Column("media_time_s", Float, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("holdout", Boolean, nullable=False),
    # Crops only:
    Column("label", Integer),
    Column("track_id", BigInteger),
    Column("confidence", Float),
    Column("x0", Float),
    Column("y0", Float),
    Column("x1", Float),
    Column("y1", Float),
    # Of the box, pixels; what is large is looked for among millions.
    Column("area", Float),
    Column("plate", String(64)),
    # Why it may not train yet; NULL = it may.
    Column("held", String(64)),
    Index("envelopes_by_camera", "camera", "kind", "captured_us"),
    Index("envelopes_by_device", "device", "captured_us"),
)

# Deleted ids: a resend is acknowledged and not resurrected.
tombstones = Table(
    "tombstones",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("deleted_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)

# Nothing of a kind that was captured before is taken in: what has expired needs no tombstone of its own.
horizons = Table(
    "horizons",
    metadata,
    Column("kind", String(8), primary_key=True),
    Column("captured_us", BigInteger, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("topic", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("received_us", BigInteger, nullable=False, index=True),
)

# What no row tells: how often something arrived again, or was refused.
counters = Table(
    "counters", metadata, Column("name", String(32), primary_key=True), Column("value", BigInteger, nullable=False)
)

# One training and what became of it; `serve` leases the row while it works on it.
generations = Table(
    "generations",
    metadata,
    Column("camera", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("recipe", String(64), nullable=False),
    Column("seed", BigInteger, nullable=False),
    # Optimiser steps; NULL = what the recipe says.
    Column("training_steps", Integer),
    Column("state", String(8), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    # What the store held of the camera when it began.
    Column("crops", Integer, nullable=False),
    Column("tracks", Integer, nullable=False),
    Column("clipart_sha256", String(64), nullable=False),
    Column("owner", String(160), nullable=False),
    Column("until_us", BigInteger, nullable=False),
    # Not to be tried again before.
    Column("due_us", BigInteger, nullable=False),
    # What began it, one line.
    Column("why", Text, nullable=False, server_default=""),
    # What is open is looked for every few seconds, what was begun lately before each beginning.
    Index("generations_by_state", "state", "created_us"),
    Index("generations_by_time", "created_us"),
)

steps = Table(
    "steps",
    metadata,
    Column("camera", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("name", String(16), nullable=False),
    Column("state", String(8), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("started_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("result", Text, nullable=False),
    Column("reason", Text, nullable=False),
)


def envelope_row(
    sha256: str, envelope: Envelope, size: int, received_us: int, held: str | None = None
) -> dict[str, Any]:
    """The row of an envelope of `size` bytes; `held` is why it may not train yet."""
    header = envelope.header
    row: dict[str, Any] = {
        "id": sha256,
        "kind": envelope.kind.value,
        "site": header.origin.site,
        "device": header.origin.device,
        "camera": header.origin.camera,
        "captured_us": header.captured.utc_us,
        "clock": header.captured.clock.value,
        "boot_id": header.captured.boot_id,
        "monotonic_ns": header.captured.monotonic_ns,
        "media_time_s": header.captured.media_time_s,
        "received_us": received_us,
        "bytes": size,
        "holdout": getattr(header, "holdout", False),
        "held": held,
    }
    # Every row names every column, so that a mixed group is one statement.
    row |= dict.fromkeys(("label", "track_id", "confidence", "x0", "y0", "x1", "y1", "area", "plate"))
    if isinstance(header, CropHeader):
        row |= {"label": int(header.label), "track_id": header.track_id, "plate": header.plate}
        row |= {"confidence": header.unoccluded_confidence}
        x0, y0, x1, y1 = header.box_xyxy
        row |= {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "area": (x1 - x0) * (y1 - y0)}
    return row
