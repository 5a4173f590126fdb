"""The places where a store may lie; the same tests hold for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from walt_train.loop.store.config import StoreConfig

PLACES = ("sqlite+folder", "postgres+folder", "sqlite+s3", "postgres+s3")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("database_url")
        return url
    return f"sqlite:///{tmp_path}/store/store.sqlite3"


@pytest.fixture(params=PLACES)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> StoreConfig:
    """A place with no store in it yet."""
    kind, _, blobs = request.param.partition("+")
    database = f"sqlite:///{tmp_path}/store/store.sqlite3"
    if kind == "postgres":
        database = request.getfixturevalue("database_url")
    return StoreConfig(database, _bucket(request) if blobs == "s3" else str(tmp_path / "store"))


def _bucket(request: pytest.FixtureRequest) -> str:
    from tests.s3 import real_url

    url: str = real_url() or request.getfixturevalue("s3").url()
    return url
