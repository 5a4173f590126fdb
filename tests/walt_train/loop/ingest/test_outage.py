"""The database or the blob store is away: nothing is acknowledged, nothing is lost, nothing comes twice."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.broker import Broker, free_port
from tests.envelopes import sealed
from tests.postgres import Postgres
from tests.s3 import S3, set_keys
from tests.walt_train.loop.device import Device, wait_until
from walt_edge.contract.errors import WaltError
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.ingest.ingest import Ingest, IngestConfig, IngestError
from walt_train.loop.store.config import StoreConfig
from walt_train.loop.store.store import Store

LONG_S = 60.0


@contextmanager
def ingesting(broker: Broker, store: Store, name: str = "worker-1", patience_s: float = LONG_S) -> Iterator[Ingest]:
    address = BrokerConfig(host=broker.host, port=broker.port, client_id=name)
    config = IngestConfig(broker=address, storage_patience_s=patience_s, storage_retry_s=(0.05, 0.5))
    ingest = Ingest(store, config)
    thread = threading.Thread(target=ingest.run)
    thread.start()
    try:
        assert ingest.connected.wait(20)
        yield ingest
    finally:
        ingest.stop()
        thread.join(timeout=60)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres.start() as running:
        yield running


def test_a_database_that_is_killed_is_waited_for(
    broker: Broker, postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    envelopes = [sealed(n) for n in range(60)]
    where = StoreConfig(postgres.database(), str(tmp_path / "blobs"))
    with (
        caplog.at_level(logging.INFO),
        Store(where) as store,
        Store(where) as other,
        ingesting(broker, store),
        ingesting(broker, other, "worker-2"),
        Device(broker) as device,
    ):
        device.send(envelopes[:20])
        device.wait_acked([e.id for e in envelopes[:20]], LONG_S)
        postgres.kill()
        device.send(envelopes[20:])
        wait_until(lambda: "nothing is acknowledged until" in caplog.text, LONG_S, "it is said")
        assert set(device.acks) == {e.id for e in envelopes[:20]}
        postgres.restart()
        device.wait_acked([e.id for e in envelopes], LONG_S)
        assert all(device.states(e.id) == ["stored"] for e in envelopes)
        assert set(store.ids()) == {e.id for e in envelopes}
        assert "can be written again" in caplog.text


def test_blobs_that_cannot_be_written_are_waited_for(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_keys(monkeypatch)
    with S3.start(tmp_path) as s3:
        where = StoreConfig(f"sqlite:///{tmp_path / 'store.sqlite3'}", s3.url())
        with Store(where) as store, ingesting(broker, store), Device(broker) as device:
            device.send([sealed(1)])
            device.wait_acked([sealed(1).id], LONG_S)
            s3.kill()
            device.send([sealed(2)])
            wait_until(lambda: "nothing is acknowledged until" in caplog.text, LONG_S, "it is said")
            assert sealed(2).id not in device.acks
            s3.restart()
            device.wait_acked([sealed(2).id], LONG_S)
            assert device.states(sealed(2).id) == ["stored"]


def test_one_that_gives_up_says_why_and_has_lost_nothing(broker: Broker, postgres: Postgres, tmp_path: Path) -> None:
    where = StoreConfig(postgres.database(), str(tmp_path / "blobs"))
    failed: list[WaltError] = []
    address = BrokerConfig(host=broker.host, port=broker.port, client_id="worker-1")
    config = IngestConfig(broker=address, storage_patience_s=0.3, storage_retry_s=(0.05, 0.1))

    with Store(where) as store, Device(broker) as device:
        ingest = Ingest(store, config)

        def run() -> None:
            try:
                ingest.run()
            except IngestError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert ingest.connected.wait(20)
        postgres.kill()
        device.send([sealed(1)])
        thread.join(LONG_S)
        assert len(failed) == 1
        assert "start what is down, then start again; what was acknowledged is safe" in str(failed[0])
        assert device.acks == {}
        postgres.restart()
        with ingesting(broker, store):
            device.wait_acked([sealed(1).id], LONG_S)
        assert device.states(sealed(1).id) == ["stored"]


def test_a_server_that_is_not_there_at_the_start_is_an_error_in_the_end(tmp_path: Path) -> None:
    url = f"postgresql://walt@127.0.0.1:{free_port()}/walt"
    words = ["ingest", "--broker", "localhost:1", "--database", url, "--blobs", str(tmp_path), "--patience-s", "1"]
    program = Path(sys.executable).with_name("walt-loop")
    ended = subprocess.run([str(program), *words], capture_output=True, text=True, check=False, timeout=LONG_S)
    assert ended.returncode == 1
    assert "trying again until it answers" in ended.stderr
    assert "cannot open the store" in ended.stderr.splitlines()[-1]
