"""What tests of several parts are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.broker import Broker

if TYPE_CHECKING:
    from tests.postgres import Postgres
    from tests.s3 import S3


@pytest.fixture(autouse=True, scope="session")
def _nothing_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Agents that tests start keep their keys in a folder of the tests', and serve their pages on free ports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("WALT_EDGE_WEB__PORT", "0")
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that tests share; who kills it starts one of his own."""
    # Imported here: tests of the edge run where no database's driver is installed.
    from tests.postgres import Postgres

    with Postgres.start() as cluster:
        yield cluster


@pytest.fixture
def database_url(postgres: Postgres) -> str:
    """An empty PostgreSQL database of this test's own."""
    return postgres.database()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server that speaks S3, which tests share; its keys are this process's until the tests end."""
    from tests.s3 import S3, set_keys

    with pytest.MonkeyPatch.context() as patch:
        set_keys(patch)
        with S3.start(tmp_path_factory.mktemp("s3")) as server:
            yield server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A Mosquitto of this test's own."""
    with Broker.start(tmp_path) as broker:
        yield broker
