"""`walt-loop serve` itself, killed at random moments: every run ends once. The benchmark does it a hundred times,
`test_kills` at every place in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fleet_retraining import killed

pytestmark = pytest.mark.slow


def test_whenever_it_is_killed_every_run_ends_once(tmp_path: Path) -> None:
    tally = killed(tmp_path / "fleet", 10, seed=3)
    assert (tally.doubled, tally.lost, tally.half, tally.stuck) == (0, 0, 0, 0), tally
    assert tally.runs >= tally.fed >= 3
    assert tally.releases == tally.states["done"] > 0


def test_the_benchmark_finds_what_is_released_twice(tmp_path: Path) -> None:
    """A publisher that does not look first and lingers: a kill then doubles a release, and the benchmark says so."""
    tally = killed(tmp_path / "fleet", 15, seed=1, broken=True)
    assert tally.doubled > 0, tally
