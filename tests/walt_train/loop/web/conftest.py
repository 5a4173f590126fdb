"""Stores for the dashboard, with nobody in it: on SQLite, and for who asks for `any_store` on PostgreSQL as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from tests.walt_train.loop.web.client import Clock, site_on
from tests.walt_train.loop.web.filled import fill_site
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import transaction
from walt_train.loop.store.store import Store
from walt_train.loop.web.access.tables import (
    audit_log,
    people,
    web_attempts,
    web_browsers,
    web_sessions,
    web_tokens,
)
from walt_train.loop.web.site import Site


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store on SQLite that the tests of a module share."""
    with Store(tmp_path_factory.mktemp("one")) as store:
        yield store


@pytest.fixture
def store(one_store: Store) -> Store:
    """It, with nobody in it."""
    return _emptied(one_store)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that the tests of a module share."""
    folder = tmp_path_factory.mktemp("shared")
    url = f"sqlite:///{folder}/store.sqlite3"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").database()
    with Store(StoreConfig(url, str(folder))) as store:
        yield store


@pytest.fixture
def any_store(shared_store: Store) -> Store:
    """It, with nobody in it."""
    return _emptied(shared_store)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(store: Store, clock: Clock) -> Site:
    return site_on(store, clock=clock)


@pytest.fixture
def any_site(any_store: Store, clock: Clock) -> Site:
    return site_on(any_store, clock=clock)


def _emptied(store: Store) -> Store:
    with transaction(store.engine) as connection:
        for table in (people, web_sessions, web_browsers, web_attempts, web_tokens, audit_log):
            connection.execute(delete(table))
    return store


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    """A store of this test's own, with nothing in it."""
    with Store(tmp_path / "store") as store:
        yield store


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A home with a fleet in it, which tests share: what they change, they make first."""
    folder = tmp_path_factory.mktemp("filled")
    url = f"sqlite:///{folder}/store.sqlite3"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").database()
    with Store(StoreConfig(url, str(folder))) as store:
        yield fill_site(store, folder / "home")
