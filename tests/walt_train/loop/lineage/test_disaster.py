"""A store is lost while crops arrive: its copy and the devices together bring everything back, once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.station import ingest
from tests.test_kills import Producer
from tests.waiting import wait_for
from walt_edge.spool.spool import FILE_NAME
from walt_train.loop.cli import SCRIPT
from walt_train.loop.store.store import Store


def held(folder: Path) -> list[str]:
    with Store(folder / "store") as store:
        return sorted(store.ids())


def test_everything_comes_back_exactly_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--store", str(tmp_path / "store")]
    copy = str(tmp_path / "copy")
    with Broker.start(tmp_path) as broker:
        producer = Producer(tmp_path, broker.address)
        try:
            with ingest(broker.address, tmp_path) as station:
                producer.ask(60)
                producer.hear(20)
                wait_for(lambda: (tmp_path / "store").exists() and len(held(tmp_path)) > 5, 30, "for the first crops")
                assert SCRIPT.main(["backup", copy, *place]) == 0  # while they arrive
                producer.hear(40)
                wait_for(lambda: len(held(tmp_path)) == 60, 60, "for all of them")
                forgotten = sorted(producer.promised)[0]
                assert SCRIPT.main(["forget", *place, "--crop", forgotten, "--yes"]) == 0
                station.kill()
            shutil.rmtree(tmp_path / "store")
            capsys.readouterr()
            assert SCRIPT.main(["restore", copy, *place, "--broker", broker.address]) == 0
            line = capsys.readouterr().out.strip().splitlines()[-1].split()
            assert line[:2] == ["walt-loop", "resend"]
            wanted = sorted(set(producer.promised) - {forgotten})
            assert len(held(tmp_path)) < len(wanted)
            with ingest(broker.address, tmp_path):
                assert SCRIPT.main(line[1:]) == 0
                wait_for(lambda: held(tmp_path) == wanted, 60, "for the devices")
        finally:
            producer.kill()
    with Store(tmp_path / "store") as store:
        assert [one.id for one in store.envelopes()] == store.ids()
        assert store.counts().tombstones == 1
    assert (tmp_path / FILE_NAME).exists()
