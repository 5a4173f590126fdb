from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, text

import walt_train.loop
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import StoreError, open_database, transaction
from walt_train.loop.store.migrate import SCRIPTS, revisions, upgrade
from walt_train.loop.store.tables import metadata


@pytest.fixture
def config(database: str, tmp_path: Path) -> StoreConfig:
    (tmp_path / "store").mkdir()
    return StoreConfig(database, str(tmp_path / "store"))


def all_tables() -> None:
    """Imports the tables of every area."""
    for module in pkgutil.walk_packages(walt_train.loop.__path__, "walt_train.loop."):
        if module.name.endswith(".tables"):
            importlib.import_module(module.name)


def differences(engine: Engine) -> list[object]:
    all_tables()
    with engine.connect() as connection:
        found: list[object] = compare_metadata(MigrationContext.configure(connection), metadata)
    return found


def of_before(config: StoreConfig, *without: str) -> Engine:
    """A database as programs left it that knew no revisions."""
    engine = create_engine(config.database)
    with engine.begin() as connection:
        upgrade(connection, "0001")
        for table in ("alembic_version", *without):
            connection.execute(text(f"DROP TABLE {table}"))
    return engine


def test_the_revisions_make_what_the_program_declares(config: StoreConfig) -> None:
    engine = open_database(config.database)
    assert differences(engine) == []
    engine.dispose()


def test_the_chain_is_linear_and_complete() -> None:
    files = [path for path in (SCRIPTS / "versions").glob("*.py") if path.name != "__init__.py"]
    assert len(revisions()) == len(files)


@pytest.mark.parametrize("without", [(), ("steps", "generations")])
def test_a_database_of_before_is_adopted(config: StoreConfig, without: tuple[str, ...]) -> None:
    old = of_before(config, *without)
    with old.begin() as connection:
        connection.execute(text("INSERT INTO counters VALUES ('duplicates', 7)"))
    old.dispose()
    engine = open_database(config.database)
    assert differences(engine) == []
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT value FROM counters")) == 7
        assert connection.scalar(text("SELECT value FROM meta")) == "2"
    engine.dispose()


def test_a_database_of_a_newer_program_is_refused(config: StoreConfig) -> None:
    engine = open_database(config.database)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError, match=f"revision 9999, this program knows {revisions()[0]}: update walt-amodal"):
        open_database(config.database)


def test_a_database_of_before_of_another_version_is_refused(config: StoreConfig) -> None:
    old = of_before(config)
    with old.begin() as connection:
        connection.execute(text("UPDATE meta SET value = '99'"))
    old.dispose()
    with pytest.raises(StoreError, match="version 99, this program reads 1: update walt-amodal"):
        open_database(config.database)
    assert "held" not in [column["name"] for column in inspect(old).get_columns("envelopes")]
    old.dispose()


def test_an_upgrade_that_breaks_off_leaves_nothing(config: StoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(connection: Connection, revision: str) -> None:
        upgrade(connection, revision)
        raise ConnectionAbortedError

    with monkeypatch.context() as patch:
        patch.setattr("walt_train.loop.store.migrate.upgrade", break_off)
        with pytest.raises(StoreError, match="cannot write to"):
            open_database(config.database)
    engine = create_engine(config.database)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    open_database(config.database).dispose()
