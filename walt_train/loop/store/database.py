"""Opening the store's database, and saying in one line why it cannot be opened or written."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from walt_edge.contract.errors import UsageError
from walt_train.loop.store.config import address_of
from walt_train.loop.store.errors import StoreError as StoreError
from walt_train.loop.store.errors import StoreWriteError as StoreWriteError
from walt_train.loop.store.migrate import migrate

LOGGER = logging.getLogger(__name__)
_PATIENCE_S = 30
# What a look-up may take at most, and how long a transaction that its program forgot holds others up.
_STATEMENT_S = 60
# libpq: notices a server that is gone without a word within half a minute, also where a firewall forgot us.
_LIBPQ: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": f"{_PATIENCE_S * 1000}",
    "application_name": "walt-loop",
}
_WRITES = "walt_writes"


UNAVAILABLE: Final = (OSError, DBAPIError, PoolTimeoutError)
"""What a database or a disk raises that cannot be reached, read or written now."""


def open_database(url: URL) -> Engine:
    """Opens a store's database and brings its tables to what this program knows; any number may do so at once.

    Args:
        url: SQLite or PostgreSQL; see `StoreConfig`.

    Raises:
        UsageError: PostgreSQL's driver is not installed.
        StoreError: A newer program made it.
        OSError, DBAPIError: It cannot be opened or written.
    """
    engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgres(url)
    try:
        migrate(engine, transaction)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes; on SQLite it is the only one from its first statement, so what it reads stays so.

    Raises:
        IntegrityError: Somebody else was faster.
        StoreWriteError: It cannot be written now; nothing of it was.
    """
    try:
        with engine.connect() as connection:
            connection.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection
    except IntegrityError:
        raise
    except UNAVAILABLE as error:
        raise StoreWriteError(f"cannot write to {place_of(engine)}: {cause(error)}") from error


def place_of(engine: Engine) -> str:
    """Where a database is, for people: without a password."""
    return address_of(engine.url)


def cause(error: BaseException) -> str:
    """The innermost words of an error, in one line."""
    origin = getattr(error, "orig", None) or error
    words = getattr(origin, "strerror", None) or str(origin)
    return " ".join(words.split())


def _sqlite(url: URL) -> Engine:
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def _set_pragmas(connection: Any, _: object) -> None:
    # The driver would begin transactions by itself, at the first INSERT and never for a CREATE; `_begin` does it.
    connection.isolation_level = None
    # FULL: in WAL mode the default loses the last commits with the power, and they were acknowledged.
    connection.execute(f"PRAGMA busy_timeout={_PATIENCE_S * 1000}")
    _use_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")


def _use_wal(connection: Any) -> None:
    """Begins to write ahead, also where others open the same new database at this moment.

    Two that both read it and both want it alone would wait for each other for ever, so SQLite refuses one at once,
    whatever the busy timeout. Who is refused waits by asking for it alone from the start, and then tries again.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail at once, without waiting, if another wrote between.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgres(url: URL) -> Engine:
    missing = {name: value for name, value in _LIBPQ.items() if name not in url.query}
    try:
        engine = create_engine(
            url.update_query_dict(missing),
            hide_parameters=True,
            # A server that was restarted leaves dead connections in the pool.
            pool_pre_ping=True,
            pool_timeout=_PATIENCE_S,
            pool_recycle=1800,
        )
    except ModuleNotFoundError as error:
        raise UsageError("a store in PostgreSQL needs psycopg: pip install 'walt-amodal[postgres]'") from error
    event.listen(engine, "connect", _set_session)
    return engine


def _set_session(connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
        commit, fsync = cursor.fetchone()
        if commit in ("off", "local"):
            # What is committed is acknowledged, and then the device forgets it.
            cursor.execute("SET synchronous_commit = on")
        if fsync != "on":
            LOGGER.warning("PostgreSQL runs with fsync=off: a loss of power may lose what was acknowledged")
        cursor.execute(f"SET statement_timeout = '{_STATEMENT_S}s'")
        cursor.execute(f"SET lock_timeout = '{_PATIENCE_S}s'")
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_STATEMENT_S}s'")
    connection.commit()
