"""Several processes at one store: opened at one moment, and given the same crops."""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, insert, text

from tests.envelopes import sealed
from tests.waiting import wait_for
from tests.walt_train.loop.store import worker
from walt_edge.contract.messages import AckState
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.database import open_database, transaction
from walt_train.loop.store.store import Accepted, Store
from walt_train.loop.store.tables import tombstones

WORKERS, CROPS = 3, 60


def test_several_processes_share_a_store(database: str, tmp_path: Path) -> None:
    config = StoreConfig(database, str(tmp_path / "store"))
    workers = [worker.start(config, CROPS, seed) for seed in range(WORKERS)]
    states: Counter[str] = Counter()
    for one in workers:
        said, _ = one.communicate(timeout=120)
        assert one.returncode == 0
        states.update(json.loads(said))
    assert states == {"stored": CROPS, "duplicate": CROPS * (WORKERS - 1)}
    with Store(config) as store:
        assert store.counts().crops == CROPS
        assert store.counts().duplicates == CROPS * (WORKERS - 1)
        assert sorted(store.blobs.names()) == sorted(store.ids())


def test_a_new_file_that_another_is_about_to_write_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself refuses at once whoever would change the journal then, whatever its busy timeout."""
    file, opened = tmp_path / "store.sqlite", threading.Event()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (x)")
        other.execute("BEGIN IMMEDIATE")

        def open_it() -> None:
            open_database(URL.create("sqlite", database=str(file))).dispose()
            opened.set()

        opening = threading.Thread(target=open_it)
        opening.start()
        assert not opened.wait(0.3)
        assert opening.is_alive()
        other.execute("COMMIT")
        opening.join(60)
    assert opened.is_set()


def test_who_is_being_deleted_by_another_is_not_stored(database: str, tmp_path: Path) -> None:
    config = StoreConfig(database, str(tmp_path / "store"))
    one = sealed(1)
    put, states = threading.Event(), queue.Queue[AckState]()

    def store_it(store: Store) -> None:
        put_all = store.blobs.put_all

        def put_and_say(blobs: Mapping[str, bytes]) -> None:
            put_all(blobs)
            put.set()

        store.blobs.put_all = put_and_say  # type: ignore[method-assign]
        states.put(store.add_group([Accepted(one.id, one.envelope, one.data)])[0])

    with Store(config) as store, Store(config) as other:
        worker = threading.Thread(target=store_it, args=(store,))
        with transaction(other.engine) as connection:
            connection.execute(insert(tombstones), {"id": one.id, "deleted_us": 1, "reason": "asked for"})
            worker.start()
            assert put.wait(60)
            if connection.dialect.name == "postgresql":
                # Not committed yet, and so not seen: only who waits for it gets it right.
                waiting = text(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tombstones'::regclass"
                )
                wait_for(lambda: connection.scalar(waiting), 60, "for the other worker's lock")
        worker.join(60)
        assert states.get_nowait() is AckState.DUPLICATE
        assert (store.ids(), list(store.blobs.names())) == ([], [])
