"""How every command is told where the store is: by options, else by the environment."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_train.loop.store.config import BLOBS, DATABASES, StoreConfig
from walt_train.loop.store.store import Store

DATABASE_VARIABLE = "WALT_DATABASE_URL"
BLOBS_VARIABLE = "WALT_BLOB_URL"


def add_store_arguments(parser: argparse.ArgumentParser, help_: str = "a store that walt-loop ingest made") -> None:
    """Declares how every command is told where the store is; `open_store` reads it."""
    group = parser.add_argument_group(
        "the store", f"a folder, or a database and blobs (from {DATABASE_VARIABLE} and {BLOBS_VARIABLE} as well)"
    )
    group.add_argument("--store", type=Path, metavar="DIR", help=help_)
    group.add_argument("--database", metavar="URL", help=f"{DATABASES}; a password by {DATABASE_VARIABLE} only")
    group.add_argument("--blobs", metavar="URL", help=BLOBS)


def store_config(args: argparse.Namespace, *, makes: bool = False) -> StoreConfig:
    """Where the store is, from the command line, else from the environment.

    Args:
        args: Parsed by a parser that went through `add_store_arguments`.
        makes: Whether the command may make a store; else there must be one.

    Raises:
        UsageError: Nothing or too much is said, a password is on the command line, or there is no store.
    """
    if args.store is not None:
        if args.database or args.blobs:
            raise UsageError("give --store DIR alone, or --database and --blobs")
        config = StoreConfig.local(args.store)
    else:
        config = _sized(args.database, args.blobs)
    if not makes and not config.exists:
        raise UsageError(f"no store in {args.store or config.place}: walt-loop ingest makes one")
    return config


def open_store(args: argparse.Namespace, *, makes: bool = False) -> Store:
    """Opens the store that `store_config` finds, which tells what this raises, as `Store` does."""
    return Store(store_config(args, makes=makes))


def _sized(database: str | None, blobs: str | None) -> StoreConfig:
    if database and StoreConfig(database, ".").database.password:
        raise UsageError(
            f"whoever lists the processes sees a password in --database: set {DATABASE_VARIABLE}, or use ~/.pgpass"
        )
    database = database or os.environ.get(DATABASE_VARIABLE)
    blobs = blobs or os.environ.get(BLOBS_VARIABLE)
    if not database or not blobs:
        raise UsageError(
            f"where is the store? Give --store DIR, or --database and --blobs ({DATABASE_VARIABLE}, {BLOBS_VARIABLE})"
        )
    return StoreConfig(database, blobs)
