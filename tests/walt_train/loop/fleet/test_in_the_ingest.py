"""One process on a laptop: the ingest listens to the fleet as well, and serves what it hears."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from tests.broker import Broker, free_port
from tests.station import Station, script
from tests.waiting import wait_for
from tests.walt_train.loop.fleet.test_watch import Talker
from walt_train.loop.fleet.keeping import load
from walt_train.loop.store.store import Store

WAIT_S = 60.0


def test_the_ingest_hears_its_fleet_and_keeps_it(broker: Broker, tmp_path: Path) -> None:
    port = free_port()
    words = [*script("walt_train.loop.cli"), "ingest", "--broker", broker.address, "--store", str(tmp_path / "store")]
    station = Station([*words, "--metrics", f"127.0.0.1:{port}"], tmp_path / "ingest.log")

    def told() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return ""

    try:
        with Talker(broker) as talker:
            talker.is_online()
            wait_for(lambda: talker.says() or 'walt_fleet_devices{state="online"} 1.0' in told(), WAIT_S)
            assert 'walt_fleet_envelopes_total{state="stored"} 0.0' in told()
            assert station.stop() == 0
    finally:
        station.kill()
    with Store(tmp_path / "store") as store:
        assert set(load(store.engine).devices) == {("yard", "walt-1")}
