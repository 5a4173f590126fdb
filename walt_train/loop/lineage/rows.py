"""Rows of a database as lines of JSON, the same of SQLite and of PostgreSQL: the way from a laptop to a cluster."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, LargeBinary, MetaData, Table, insert, select, text

from walt_edge.contract.files import flush
from walt_train.loop.lineage.copies import CopyError

_LEFT_OUT = ("alembic_version", "meta", "quarantine", "backups", "web_sessions", "web_browsers", "web_attempts")
"""What is made anew, or is of the place: refused envelopes, where other copies lie, and who was signed in."""
_BATCH = 1000
Row = dict[str, Any]


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees one moment of the database, while others go on writing."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            # A copy takes as long as it takes.
            for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(text(f"SET LOCAL {setting} = 0"))
        yield connection


def tables_of(connection: Connection) -> dict[str, Table]:
    """The tables to copy, by name, as the database has them."""
    metadata = MetaData()
    metadata.reflect(connection)
    return {table.name: table for table in metadata.sorted_tables if table.name not in _LEFT_OUT}


def revision_of(connection: Connection) -> str:
    """The revision of the database's tables."""
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def write_rows(connection: Connection, table: Table, path: Path, note: Callable[[int], None]) -> tuple[int, str]:
    """Writes a table; returns the number of its rows and the file's sha256.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    digest, count = hashlib.sha256(), 0
    query = select(table).order_by(*table.primary_key.columns)
    with path.open("wb") as file:
        for row in connection.execute(query.execution_options(yield_per=_BATCH)).mappings():
            line = msgspec.json.encode({str(name): _plain(value) for name, value in row.items()}) + b"\n"
            file.write(line)
            digest.update(line)
            count += 1
            if count % _BATCH == 0:
                note(_BATCH)
    note(count % _BATCH)
    flush(path)
    return count, digest.hexdigest()


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, one by one.

    Raises:
        CopyError: It is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                yield msgspec.json.decode(line, type=Row)
    except OSError as error:
        raise CopyError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CopyError(f"{path} is damaged ({error}): take another backup") from error


def put_rows(connection: Connection, table: Table, rows: Iterator[Row]) -> int:
    """Inserts rows; returns how many."""
    binary = [column.name for column in table.columns if isinstance(column.type, LargeBinary)]
    count, batch = 0, []
    for row in rows:
        batch.append(_typed(row, binary))
        if len(batch) == _BATCH:
            connection.execute(insert(table), batch)
            count, batch = count + len(batch), []
    if batch:
        connection.execute(insert(table), batch)
    return count + len(batch)


def sha256_of(path: Path) -> str:
    """Of a file's bytes; raises CopyError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CopyError(f"cannot read {path}: {error.strerror}") from error


def _plain(value: object) -> object:
    return base64.b64encode(value).decode() if isinstance(value, bytes | memoryview) else value


def _typed(row: Mapping[str, Any], binary: list[str]) -> Row:
    return {**row, **{name: base64.b64decode(row[name]) for name in binary if row.get(name) is not None}}
