"""The general model that comes with the package, for whoever has none of their own camera yet."""

from __future__ import annotations

from pathlib import Path

from walt_edge.contract.bundle import BundleError

GENERAL = "general"
"""Names it, wherever a bundle can be named."""
GENERAL_MODEL = Path(__file__).parent / "data" / "walt-general.walt"


def general_model() -> Path:
    """The packaged bundle's file.

    Raises:
        BundleError: This installation has none.
    """
    if not GENERAL_MODEL.is_file():
        raise BundleError(
            "no model was named and none came with this installation: name a bundle that walt-export wrote, or make "
            f"{GENERAL_MODEL.name} with python -m benchmarks.weights --workspace DIR --install (docs/guides)"
        )
    return GENERAL_MODEL


def named_model(named: str | Path) -> Path:
    """The file of a bundle that somebody named: a path, or `general`.

    Raises:
        BundleError: `general`, and this installation has none.
    """
    return general_model() if str(named) == GENERAL else Path(named)
