"""Rollouts have cohorts, and telemetry tells how sure a model is."""

from __future__ import annotations

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Nothing yet."""
