"""Compares what the devices of a run have promised with what the store holds of it."""

from __future__ import annotations

from sqlalchemy import Engine, func, select

from walt_edge.contract.messages import AckState
from walt_train.loop.simulate.ledger import Ledger
from walt_train.loop.store.tables import envelopes


def audit(engine: Engine, boot_id: str, ledger: Ledger) -> tuple[int, int]:
    """What is lost and what is doubled.

    Args:
        engine: Of the store.
        boot_id: Of the run; no other run's crops have it.
        ledger: Of the run, after its end.

    Returns:
        Crops that were promised, not refused, and are not in the store; and rows that tell of a crop of which another
        row tells as well, whatever their ids are.
    """
    mine = envelopes.c.boot_id == boot_id
    with engine.connect() as connection:
        held = set(connection.scalars(select(envelopes.c.id).where(mine)))
        rows = connection.scalar(select(func.count()).select_from(envelopes).where(mine)) or 0
        crops = select(envelopes.c.device, envelopes.c.monotonic_ns).where(mine).distinct().subquery()
        things = connection.scalar(select(func.count()).select_from(crops)) or 0
    acked = (id_.hex() for id_, state in ledger.settled.items() if state is not AckState.REJECTED)
    return ledger.pending + sum(id_ not in held for id_ in acked), int(rows - things)
