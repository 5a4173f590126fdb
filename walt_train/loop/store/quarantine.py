"""What was refused, kept for a while with the reason: the newest, within limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from walt_train.loop.store.tables import quarantine
from walt_train.loop.store.values import Refused

_IDS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class QuarantineLimits:
    """How much of what was refused is kept; the oldest goes first."""

    entries: int = 1_000
    total_bytes: int = 256 * 1024 * 1024


def record_refused(
    connection: Connection, refused: Mapping[str, Refused], now_us: int, limits: QuarantineLimits
) -> list[str]:
    """Writes the rows of what was refused, by sha256; returns those that had to go to keep within the limits."""
    if not refused:
        return []
    connection.execute(delete(quarantine).where(quarantine.c.sha256.in_(refused)))
    rows = [
        {
            "sha256": sha256,
            "topic": item.topic,
            "reason": item.reason,
            "bytes": len(item.data),
            "received_us": now_us,
        }
        for sha256, item in refused.items()
    ]
    connection.execute(insert(quarantine), rows)
    evicted = list(_over(connection, limits))
    for start in range(0, len(evicted), _IDS_A_QUERY):
        chunk = evicted[start : start + _IDS_A_QUERY]
        connection.execute(delete(quarantine).where(quarantine.c.sha256.in_(chunk)))
    return evicted


def _over(connection: Connection, limits: QuarantineLimits) -> Iterable[str]:
    newest_first = select(quarantine.c.sha256, quarantine.c.bytes).order_by(quarantine.c.received_us.desc())
    total = 0
    for kept, (sha256, size) in enumerate(connection.execute(newest_first).all(), start=1):
        total += size
        if kept > limits.entries or total > limits.total_bytes:
            yield sha256
