"""Engines by TensorRT: built on the device that is to run them, by the recipe that comes with the network."""

from __future__ import annotations

from walt_edge.contract.errors import WaltError


class EngineError(WaltError):
    """TensorRT builds or runs no engine of this."""
