"""What may be wrong with a store."""

from __future__ import annotations

from walt_edge.contract.errors import WaltError


class StoreError(WaltError):
    """The store is not one, is damaged, or does not hold what was asked for."""


class StoreWriteError(StoreError):
    """The store cannot be written now (disk full, no permission); nothing of the group may be acknowledged."""
