"""Databases and object storage that go away and come back: nothing of a group counts, and the same group goes in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.envelopes import sealed
from tests.postgres import Postgres
from tests.s3 import S3, set_keys
from walt_edge.contract.messages import AckState
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import transaction
from walt_train.loop.store.store import Accepted, Store, StoreError, StoreWriteError

STORED, DUPLICATE = AckState.STORED, AckState.DUPLICATE


def items(*numbers: int) -> list[Accepted]:
    return [Accepted(one.id, one.envelope, one.data) for one in map(sealed, numbers)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    """A PostgreSQL that may be killed."""
    with Postgres.start() as cluster:
        yield cluster


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An S3 that may be killed."""
    set_keys(monkeypatch)
    with S3.start(tmp_path) as server:
        yield server


def test_a_database_that_loses_its_power_keeps_what_was_acknowledged(cluster: Postgres, tmp_path: Path) -> None:
    with Store(StoreConfig(cluster.database(), str(tmp_path / "store"))) as store:
        assert store.add_group(items(1, 2)) == [STORED, STORED]
        cluster.kill()
        with pytest.raises(StoreWriteError, match="cannot write to") as caught:
            store.add_group(items(3))
        assert cluster.password not in str(caught.value)
        cluster.restart()
        assert store.add_group(items(1, 2, 3)) == [DUPLICATE, DUPLICATE, STORED]
        assert [stored.envelope.header.captured.monotonic_ns for stored in store.envelopes()] == [1, 2, 3]


def test_a_server_that_does_not_wait_for_its_disk_is_made_to(cluster: Postgres, tmp_path: Path) -> None:
    config = StoreConfig(cluster.database(), str(tmp_path / "store"))
    with Store(config) as store, transaction(store.engine) as connection:
        name = config.database.database
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    with Store(config) as store, store.engine.connect() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == "on"
        assert connection.scalar(text("SHOW statement_timeout")) == "1min"


def test_a_transaction_that_waits_too_long_is_an_error_and_no_hang(
    cluster: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("walt_train.loop.store.database._PATIENCE_S", 1)
    config = StoreConfig(cluster.database(), str(tmp_path / "store"))
    with Store(config) as store, Store(config) as other:
        with transaction(other.engine) as connection:
            connection.execute(text("LOCK TABLE envelopes"))
            with pytest.raises(StoreWriteError, match="lock timeout"):
                store.add_group(items(1))
        assert store.add_group(items(1)) == [STORED]


def test_object_storage_that_is_away_stores_nothing(server: S3, tmp_path: Path) -> None:
    with Store(StoreConfig(f"sqlite:///{tmp_path}/store.sqlite3", server.url("crops"))) as store:
        assert store.add_group(items(1)) == [STORED]
        server.kill()
        with pytest.raises(StoreWriteError, match="Could not connect to the endpoint URL"):
            store.add_group(items(2))
        with pytest.raises(StoreError, match="cannot read"):
            store.get(items(1)[0].id)
        assert store.ids() == [items(1)[0].id]
        server.restart()
        assert store.add_group(items(2)) == [STORED]
        assert store.get(items(2)[0].id).envelope == sealed(2).envelope


def test_object_storage_that_hangs_is_an_error(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(StoreConfig(f"sqlite:///{tmp_path}/store.sqlite3", server.url())) as store:
        monkeypatch.setattr("walt_train.loop.store.objects._DEADLINE_S", 1)
        server.freeze()
        with pytest.raises(StoreWriteError, match="does not answer within 1 s"):
            store.add_group(items(1, 2, 3))
        server.thaw()
        monkeypatch.setattr("walt_train.loop.store.objects._DEADLINE_S", 45)
        assert store.add_group(items(1, 2, 3)) == [STORED] * 3


def test_a_bucket_that_is_not_there(server: S3, tmp_path: Path) -> None:
    where = StoreConfig(f"sqlite:///{tmp_path}/store.sqlite3", f"s3://nothing/here?endpoint={server.endpoint}")
    with pytest.raises(StoreWriteError, match="there is no bucket nothing: make it first"):
        Store(where)


def test_no_keys(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StoreWriteError, match="Unable to locate credentials"):
        Store(StoreConfig(f"sqlite:///{tmp_path}/store.sqlite3", server.url()))
