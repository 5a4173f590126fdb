"""A store on SQLite and on PostgreSQL, for what people say of crops and frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty one."""
    url = f"sqlite:///{tmp_path}/store/store.sqlite3"
    if request.param == "postgres":
        url = request.getfixturevalue("database_url")
    with Store(StoreConfig(url, str(tmp_path / "store"))) as store:
        yield store
