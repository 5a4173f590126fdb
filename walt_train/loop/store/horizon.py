"""What is too old to be taken in: a resend does not bring back what has expired.

A device's clock that was set says when something was captured, and that never changes: everything before the horizon
has expired, or would at once, so that one row speaks for all of it. What a clock that nobody had set captured is as
old as home's own knowledge of it: it has a tombstone each.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, insert, select, update

from walt_edge.contract.messages import Clock, Envelope
from walt_train.loop.store.tables import horizons


def too_old(connection: Connection, envelopes: Iterable[tuple[str, Envelope]]) -> set[str]:
    """Ids of those that were captured before the horizon of their kind."""
    limits = read_horizons(connection)
    if not limits:
        return set()
    return {
        sha256
        for sha256, envelope in envelopes
        if envelope.header.captured.clock is Clock.SYNCHRONISED
        and envelope.header.captured.utc_us < limits.get(envelope.kind.value, 0)
    }


def read_horizons(connection: Connection) -> dict[str, int]:
    """Microseconds since 1970 by kind."""
    query = select(horizons.c.kind, horizons.c.captured_us)
    return dict(iter(connection.execute(query)))


def raise_horizon(connection: Connection, kind: str, captured_us: int) -> None:
    """Moves a horizon on; it never goes back, since what lay before it has no tombstones."""
    known = read_horizons(connection)
    if kind not in known:
        connection.execute(insert(horizons), {"kind": kind, "captured_us": captured_us})
    elif known[kind] < captured_us:
        connection.execute(update(horizons).where(horizons.c.kind == kind).values(captured_us=captured_us))
