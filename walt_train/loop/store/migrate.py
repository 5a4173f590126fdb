"""Brings a database's tables to what this program knows, one revision after another, whoever opens it first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from walt_train.loop.store.errors import StoreError

SCRIPTS: Final = Path(__file__).parent / "migrations"
# Any number that no other program on the server takes; this is "walt" in ASCII.
_LOCK: Final = 0x77616C74
_LOCK_WAIT_S: Final = 600


@cache
def revisions() -> tuple[str, ...]:
    """All revisions that this program knows, the newest first."""
    return tuple(script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions())


def migrate(engine: Engine, transaction: Callable[[Engine], AbstractContextManager[Connection]]) -> None:
    """Upgrades a database that is not at the newest revision, all of it in one transaction that holds a lock.

    Args:
        engine: The database.
        transaction: Begins one that writes.

    Raises:
        StoreError: A newer program made it.
        DBAPIError: It cannot be read or written.
    """
    with engine.connect() as connection:
        if _revision(connection) == revisions()[0]:
            return
    with transaction(engine) as connection:
        if engine.dialect.name == "postgresql":
            # SQLite's transaction is alone as it is. Whoever waits here finds the work done.
            for setting in ("statement_timeout", "lock_timeout"):
                connection.execute(text(f"SET LOCAL {setting} = '{_LOCK_WAIT_S}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        found = _revision(connection)
        _check(connection, found)
        if found != revisions()[0]:
            upgrade(connection, "head")


def upgrade(connection: Connection, revision: str) -> None:
    """Runs the migrations up to a revision, in the connection's transaction."""
    # Imported here: it takes a third of a second, and a database that is up to date needs none of it.
    from alembic import command

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revision(connection: Connection) -> str | None:
    """What the database says it has, or None."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _check(connection: Connection, revision: str | None) -> None:
    """Refuses what a newer program made, or one of before there were revisions that we never knew."""
    if revision is not None:
        if revision not in revisions():
            raise StoreError(
                f"the store has revision {revision}, this program knows {revisions()[0]}: update walt-amodal"
            )
    elif inspect(connection).has_table("meta"):
        version = connection.scalar(text("SELECT value FROM meta WHERE key = 'version'"))
        if version not in (None, "1"):
            raise StoreError(f"the store has version {version}, this program reads 1: update walt-amodal")
