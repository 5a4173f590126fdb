"""What is stored of a camera, by rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, Select, and_, or_, select

from walt_edge.contract.topics import Kind
from walt_train.loop.labels.tables import rejections
from walt_train.loop.store.tables import envelopes


def listed(
    engine: Engine, camera: str, kind: Kind, before: tuple[int, str] | None, limit: int
) -> list[Mapping[str, Any]]:
    """Rows, the newest first, at most `limit` that come after `before` (captured_us, id); `rejected` is by whom."""
    table = envelopes.c
    query = _query().where(table.camera == camera, table.kind == kind.value)
    query = query.order_by(table.captured_us.desc(), table.id.desc()).limit(limit)
    if before is not None:
        at_us, id_ = before
        # The first condition is what the index can use.
        is_older = or_(table.captured_us < at_us, and_(table.captured_us == at_us, table.id < id_))
        query = query.where(table.captured_us <= at_us, is_older)
    with engine.connect() as connection:
        return [{str(name): value for name, value in row.items()} for row in connection.execute(query).mappings()]


def one(engine: Engine, sha256: str) -> Mapping[str, Any] | None:
    """The row of an id; None: it is not stored."""
    with engine.connect() as connection:
        row = connection.execute(_query().where(envelopes.c.id == sha256)).mappings().first()
    return None if row is None else {str(name): value for name, value in row.items()}


def _query() -> Select[Any]:
    return select(envelopes, rejections.c.by.label("rejected")).outerjoin(
        rejections, rejections.c.crop == envelopes.c.id
    )
