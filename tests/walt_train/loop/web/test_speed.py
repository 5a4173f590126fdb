"""No page reads more of the store than it shows: large tables are searched by an index, and never scanned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from benchmarks import fleet_pages
from benchmarks.fleet_sizes import camera_name
from tests.walt_train.loop.web.client import signed_in
from tests.walt_train.loop.web.filled import SMALL
from walt_train.loop.web.access.person import Role
from walt_train.loop.web.site import Site

LARGE = ("envelopes", "fleet_samples", "rollout_members", "rollout_events", "members", "artifacts", "edges")
QUERIES_MOST = 40
PATHS = (
    "/fleet",
    f"/cameras/{camera_name(0)}",
    f"/cameras/{camera_name(0)}?span=week",
    f"/cameras/{camera_name(0)}?span=year",
    "/rollouts",
    f"/rollouts/{SMALL.rollouts}",
    f"/rollouts/{SMALL.rollouts - 1}",
    "/runs",
    f"/runs/{camera_name(0)}/12",
    "/api/v1/cameras",
    f"/api/v1/cameras/{camera_name(0)}",
    f"/api/v1/cameras/{camera_name(0)}/history",
    f"/api/v1/crops?camera={camera_name(0)}",
    f"/api/v1/crops/{'0' * 64}",
    f"/api/v1/rollouts/{SMALL.rollouts}/members",
)


@contextmanager
def statements(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """What is asked of the database meanwhile."""
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("path", PATHS)
def test_a_page_scans_no_large_table_and_asks_little(filled: Site, path: str) -> None:
    if filled.engine.dialect.name != "sqlite":
        pytest.skip("a small table is scanned by PostgreSQL, and rightly so")
    client = signed_in(filled, Role.ADMIN)
    client.get("/fleet")
    with statements(filled.engine) as asked:
        client.get(path)
    queries = [one for one in asked if one[0].startswith("SELECT")]
    assert 0 < len(queries) <= QUERIES_MOST
    for statement, parameters in queries:
        with filled.engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        scans = [row[3] for row in plan if row[3].startswith("SCAN ")]
        names = {scan.split()[1].strip('"') for scan in scans}
        assert not names & set(LARGE), f"{path}: {scans} in {statement}"
        # By the time alone, the hours of all cameras would be read.
        assert not [row[3] for row in plan if "fleet_samples_by_time" in row[3]], statement


@pytest.mark.slow
def test_the_benchmark_measures_every_page(tmp_path: Path) -> None:
    rows = fleet_pages.rows(True, tmp_path)
    assert all(row.value > 0 for row in rows)
    pages = {row.what for row in rows if row.what.endswith(", p99") and ": limit" not in row.what}
    assert len(pages) >= 50
