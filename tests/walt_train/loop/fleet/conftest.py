from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import open_database


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty store's database, of both kinds."""
    if request.param == "sqlite":
        url = StoreConfig.local(tmp_path).database
    else:
        url = StoreConfig(request.getfixturevalue("database_url"), str(tmp_path)).database
    engine = open_database(url)
    yield engine
    engine.dispose()
