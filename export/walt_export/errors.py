"""What can go wrong between a checkpoint and a bundle."""

from __future__ import annotations

from walt_edge.contract.errors import WaltError


class ExportError(WaltError):
    """A checkpoint cannot be exported, or what was exported does not answer as the checkpoint does."""
