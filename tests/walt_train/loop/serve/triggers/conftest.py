from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, its rows here or there."""
    where = StoreConfig.local(tmp_path / "store")
    if request.param == "postgres":
        where = StoreConfig(request.getfixturevalue("database_url"), str(tmp_path / "store"))
    with Store(where) as store:
        yield store
