"""Real material that lies beside the checkout on development machines and in CI, never in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


def shared_data(relative: str) -> Path:
    """The path of a piece of real material; skips the test where it is absent."""
    path = DATA / relative
    if not path.exists():
        pytest.skip(f"real material is not on this machine: ../shared/data/{relative}")
    return path
