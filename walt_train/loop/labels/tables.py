"""The tables of labels: which crops people rejected, and what they drew on frames.

A row of a rejection stands beside the crop's own and never in it, so that a resend of the crop changes nothing of it.
All of these rows are in a backup, and go when their crop or frame is forgotten or expires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    select,
)

from walt_train.loop.store.tables import envelopes, metadata

NAME_LENGTH: Final = 128
_IDS_A_QUERY: Final = 500
_IS_CROP = envelopes.c.label.is_not(None)

# Every order in which crops are looked through; within one the camera stands in the index, not only in the row.
for _name, _column in (("newest", "captured_us"), ("least_sure", "confidence"), ("largest", "area")):
    Index(
        f"envelopes_{_name}",
        *(envelopes.c[name] for name in (_column, "camera", "id")),
        sqlite_where=_IS_CROP,
        postgresql_where=_IS_CROP,
    )

# What never trains, until somebody takes it back.
rejections = Table(
    "rejections",
    metadata,
    Column("crop", String(64), primary_key=True),
    Column("by", String(NAME_LENGTH), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Index("rejections_by_time", "at_us", "crop"),
)

# Who draws on a frame now; nobody else is offered it before `until_us`.
label_leases = Table(
    "label_leases",
    metadata,
    Column("frame", String(64), primary_key=True),
    Column("by", String(NAME_LENGTH), nullable=False),
    Column("until_us", BigInteger, nullable=False),
)

# What somebody has begun; one a frame and person, written over.
label_drafts = Table(
    "label_drafts",
    metadata,
    Column("frame", String(64), primary_key=True),
    Column("by", String(NAME_LENGTH), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("drawing", Text, nullable=False),
)

# What was finished; every version stays, the highest number of a frame and person counts.
label_drawings = Table(
    "label_drawings",
    metadata,
    Column("frame", String(64), primary_key=True),
    Column("by", String(NAME_LENGTH), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("camera", String(64), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    # done | skipped
    Column("state", String(8), nullable=False),
    Column("drawing", Text, nullable=False),
    Index("label_drawings_by_camera", "camera", "at_us"),
)

# Folders that drawn frames were written into: what is forgotten has to go from them too.
label_exports = Table(
    "label_exports",
    metadata,
    Column("place", String(500), primary_key=True),
    Column("frame", String(64), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Index("label_exports_by_frame", "frame"),
)

_NAMED: Final = (rejections.c.crop, label_leases.c.frame, label_drafts.c.frame, label_drawings.c.frame)


def not_rejected() -> ColumnElement[bool]:
    """Whether nobody rejected a row of `envelopes`, as a condition of a query over them.

    One look into a primary key a row: what is rejected is few beside what is stored.
    """
    return ~select(rejections.c.crop).where(rejections.c.crop == envelopes.c.id).correlate(envelopes).exists()


def drop(connection: Connection, ids: Sequence[str]) -> None:
    """Removes what people said of crops and frames that are stored no more; a few hundred ids at a time.

    Where drawn frames were exported to stays known: those copies have to go too.
    """
    for column in _NAMED:
        connection.execute(delete(column.table).where(column.in_(ids)))


def shown_in(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """How many of some frames were written into folders that judge, by folder: they have to go from there too."""
    found: Counter[str] = Counter()
    for start in range(0, len(ids), _IDS_A_QUERY):
        some = label_exports.c.frame.in_(ids[start : start + _IDS_A_QUERY])
        found.update(connection.scalars(select(label_exports.c.place).where(some)))
    return dict(found)
