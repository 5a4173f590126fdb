"""Opening the store's database, and saying in one line why it cannot be opened or written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from walt_edge.contract.errors import WaltError
from walt_train.loop.tables import SCHEMA_VERSION, meta, metadata


class StoreError(WaltError):
    """The store is not one, is damaged, or does not hold what was asked for."""


class StoreWriteError(StoreError):
    """The store cannot be written now (disk full, no permission); nothing of the group may be acknowledged."""


def open_database(path: Path) -> Engine:
    """Opens a store's database; makes it, or the tables that an older program did not know.

    Raises:
        StoreError: It was made by another version.
        DatabaseError: It cannot be opened or written.
    """
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _set_pragmas)
    with engine.begin() as connection:
        _make_tables(connection)
        version = connection.scalar(select(meta.c.value).where(meta.c.key == "version"))
        if version is None:
            connection.execute(insert(meta), {"key": "version", "value": str(SCHEMA_VERSION)})
        elif version != str(SCHEMA_VERSION):
            raise StoreError(f"{path} has version {version}, this program reads {SCHEMA_VERSION}: update walt-amodal")
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction.

    Raises:
        IntegrityError: Somebody else was faster.
        StoreWriteError: It cannot be written now; nothing of it was.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except (OSError, DatabaseError) as error:
        raise StoreWriteError(f"cannot write to {engine.url.database}: {cause(error)}") from error


def cause(error: Exception) -> str:
    """The innermost words of an error, in one line."""
    origin = getattr(error, "orig", None) or error
    words = getattr(origin, "strerror", None) or str(origin)
    return " ".join(words.split())


def _make_tables(connection: Connection) -> None:
    # Not create_all, which looks first and makes afterwards: two programs may open an older store at one time.
    for table in metadata.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))


def _set_pragmas(connection: Any, _: object) -> None:
    # FULL: in WAL mode the default loses the last commits with the power, and they were acknowledged.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")
