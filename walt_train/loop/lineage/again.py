"""Making a frozen clip art again: the same envelopes in the same order give, mined again, the same bytes."""

from __future__ import annotations

from pathlib import Path

from walt_edge.contract.clipart import ClipArt
from walt_edge.contract.errors import UsageError
from walt_train.loop.lineage import graph
from walt_train.loop.lineage.record import buried
from walt_train.loop.lineage.trace import TraceError
from walt_train.loop.store.export import export_clipart
from walt_train.loop.store.store import Store


def export_again(store: Store, asked: str, folder: Path) -> ClipArt:
    """Writes what `walt-train mine` was given when a clip art was frozen; mining it gives that clip art again.

    Args:
        store: The store.
        asked: The clip art's sha256, or the digits that it begins with.
        folder: Gets `clipart.json` and the images.

    Raises:
        UsageError: It is no clip art that was frozen here.
        TraceError: Some of it was deleted, or is rejected: it cannot be made again.
        StoreError: Something stored is damaged.
    """
    with store.engine.connect() as connection:
        is_hex = len(asked) >= 4 and not set(asked) - set("0123456789abcdef")
        found = [one for one, kind in graph.find(connection, asked).items() if kind == "clipart"] if is_hex else []
        if len(found) != 1:
            raise UsageError(
                f"'{asked[:80]}' names {len(found)} clip arts: give its sha256, as walt-loop trace shows it"
            )
        made = graph.artifact(connection, found[0])
        wanted = {one for ids in graph.roles(connection, found[0]).values() for one in ids}
        rejected = buried(connection, sorted(wanted))
    assert made is not None
    ids = [one for one in store.ids(camera=made.camera, include_held=True) if one in wanted]
    if len(ids) != len(wanted):
        raise TraceError(f"{len(wanted) - len(ids)} of {len(wanted)} were deleted since: it cannot be made again")
    if rejected:
        raise TraceError(
            f"{len(rejected)} of {len(wanted)} were rejected since and train no more: undo that to make it again"
        )
    return export_clipart(store, folder, made.camera, holdout=True, ids=ids)
