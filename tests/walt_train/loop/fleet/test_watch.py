"""The watch as it runs: a real broker, devices that come, go and shout, a database that goes away, and kills."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import Engine, func, select

from tests.broker import Broker
from tests.waiting import wait_for
from tests.walt_train.loop.fleet.fleet import telemetry
from walt_edge.contract.messages import Status
from walt_edge.contract.telemetry import Disk
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.fleet.fleet import Outcome
from walt_train.loop.fleet.keeping import load, recent_events
from walt_train.loop.fleet.rules import Rules
from walt_train.loop.fleet.tables import fleet_samples
from walt_train.loop.fleet.watch import FleetWatch, WatchConfig
from walt_train.loop.store.errors import StoreWriteError

WAIT_S = 40.0
QUICK = msgspec.convert(
    {"disk": {"for_s": 0.2, "clear_s": 0.2}, "broker": {"for_s": 0.5, "clear_s": 0}, "offline": {"for_s": 0.5}}, Rules
)


class Talker:
    """A client that publishes what it is told to, as a device whose topics are its own."""

    def __init__(self, broker: Broker, device: str = "walt-1") -> None:
        self.topics = DeviceTopics("yard", device)
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, f"talker-{device}", protocol=mqtt.MQTTv5)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        self.began_s = time.monotonic()
        self.frames = 0

    def __enter__(self) -> Talker:
        return self

    def __exit__(self, *error: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def is_online(self, state: str = "online") -> None:
        said = msgspec.json.encode(Status(state=state, boot_id="boot-1"))  # type: ignore[arg-type]
        self.client.publish(self.topics.status, said, qos=1, retain=True).wait_for_publish(WAIT_S)

    def says(self, frames: int = 10, **changes: Any) -> bool:
        """Publishes telemetry; False, so that one may wait for what it brings about."""
        self.frames += frames
        counts = {"frames_received": self.frames, "frames_processed": self.frames}
        timed = {"utc_us": time.time_ns() // 1000, "uptime_s": time.monotonic() - self.began_s + 1}
        told = telemetry(**{**counts, **timed, **changes})
        self.client.publish(self.topics.telemetry, msgspec.json.encode(told), qos=1).wait_for_publish(WAIT_S)
        return False


Begin = Callable[..., FleetWatch]


@pytest.fixture
def begin(broker: Broker, engine: Engine) -> Iterator[Begin]:
    """Begins watches, and ends them."""
    begun: list[FleetWatch] = []

    def begin(**changes: Any) -> FleetWatch:
        config = WatchConfig(**{"rules": QUICK, "judge_s": 0.1, "flush_s": 0.3, "lease_s": 2.0, **changes})
        address = BrokerConfig(broker.host, broker.port, f"walt-fleet-{len(begun)}")
        begun.append(watch := FleetWatch(engine, address, config))
        watch.start()
        return watch

    yield begin
    for watch in begun:
        watch.stop()


def told(engine: Engine) -> list[tuple[str, str]]:
    return [(event.subject.kind, event.what) for event in recent_events(engine, 50)[::-1]]


def test_what_devices_tell_is_kept_judged_and_told(begin: Begin, broker: Broker, engine: Engine) -> None:
    with Talker(broker) as talker:
        talker.is_online()
        watch = begin()
        assert watch.listening.wait(WAIT_S)
        for _ in range(3):
            talker.says(disk=Disk(free_bytes=1 << 20))
            wait_for(lambda: ("disk", "raised") in told(engine) or talker.says(disk=Disk(free_bytes=1)), WAIT_S)
        time_s = time.monotonic() + WAIT_S
        while ("disk", "cleared") not in told(engine) and time.monotonic() < time_s:
            talker.says(disk=Disk(free_bytes=8 << 30))
            time.sleep(1.05)
        wait_for(lambda: load(engine).cameras, WAIT_S, "a batch")
        held = load(engine)
        assert held.devices["yard", "walt-1"].status == "online"
        assert held.judged_us > 0
        assert held.listening_us is not None
        assert told(engine) == [("disk", "raised"), ("disk", "cleared")]
        watch.stop()
    with engine.connect() as connection:
        query = select(func.sum(fleet_samples.c.frames_processed)).where(fleet_samples.c.tier == 3600)
        seen = watch.fleet.cameras["yard", "walt-1", "gate"].told.frames_processed
        assert seen - 30 <= connection.scalar(query) + 20 <= seen + 20


def test_shouting_strangers_and_rubbish_leave_it_working(begin: Begin, broker: Broker, engine: Engine) -> None:
    watch = begin(is_known=lambda site, device: device == "walt-1")
    assert watch.listening.wait(WAIT_S)
    with Talker(broker) as talker, Talker(broker, "walt-9") as stranger:
        for number in range(300):
            talker.client.publish(talker.topics.telemetry, os.urandom(number), qos=1)
            talker.client.publish(talker.topics.status, b"[" * 3000, qos=1)
            stranger.client.publish(stranger.topics.telemetry, msgspec.json.encode(telemetry()), qos=1)
        talker.client.publish(talker.topics.info, b"x" * 200_000, qos=1)
        talker.is_online()
        talker.says()
        wait_for(lambda: watch.fleet.cameras, WAIT_S, "what was said at last")
        wait_for(lambda: watch.fleet.outcomes[Outcome.MALFORMED] >= 600, WAIT_S, "all rubbish")
        assert set(watch.fleet.devices) == {("yard", "walt-1")}
        wait_for(lambda: watch.fleet.outcomes[Outcome.STRANGER] == 300, WAIT_S, "all strangers")
        assert set(watch.fleet.devices) == {("yard", "walt-1")}


def test_a_broker_that_goes_is_told_and_found_again(begin: Begin, broker: Broker, engine: Engine) -> None:
    watch = begin()
    assert watch.listening.wait(WAIT_S)
    broker.kill()
    wait_for(lambda: told(engine) == [("broker", "raised")], WAIT_S, "the broker's alert")
    broker.restart()
    wait_for(lambda: told(engine) == [("broker", "raised"), ("broker", "cleared")], WAIT_S, "its end")
    with Talker(broker) as talker:
        talker.says()
        wait_for(lambda: watch.fleet.cameras, WAIT_S, "a device heard again")


def test_one_of_two_listens_and_the_other_takes_over(begin: Begin, broker: Broker, engine: Engine) -> None:
    first = begin()
    assert first.listening.wait(WAIT_S)
    other = begin()
    with Talker(broker) as talker:
        talker.is_online("offline")
        wait_for(lambda: told(engine) == [("offline", "raised")], WAIT_S, "an alert")
        assert not other.listening.is_set()
        first.stop()
        assert other.listening.wait(WAIT_S)
        talker.is_online()
        # `offline` is cleared after a minute of well; that it is known and not told again is what counts.
        wait_for(lambda: any(alert.well_us for alert in other.alerts.values()), WAIT_S, "the other's judgement")
    assert told(engine) == [("offline", "raised")]


def command(broker: Broker, store: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "walt_train.loop.cli"),
        *("fleet", "watch", "--broker", broker.address, "--store", str(store), *more),
    ]


def test_killed_at_any_moment_it_goes_on(broker: Broker, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("offline: {for_s: 0, clear_s: 0}\n")
    store = tmp_path / "store"
    show = [sys.executable, "-m", "walt_train.loop.cli", "fleet", "--store", str(store), "--json"]
    main = "from walt_train.loop.cli import main; main()"
    watch = [sys.executable, "-c", main, *command(broker, store, "--rules", str(rules))[3:]]
    with Talker(broker) as talker:
        talker.is_online("offline")
        process = subprocess.Popen(watch, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            next(line for line in iter(process.stderr.readline, "") if "watching 0 devices" in line)
        finally:
            process.kill()
            process.communicate()
        # The next one goes by the same name, takes over at once, and ends in order.
        process = subprocess.Popen(watch, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        next(line for line in iter(process.stderr.readline, "") if "the device is away" in line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
        process.communicate()
    shown = subprocess.run([sys.executable, "-c", main, *show[3:]], capture_output=True, text=True, timeout=WAIT_S)
    assert shown.returncode == 1, shown.stderr
    tree = json.loads(shown.stdout)
    assert [(one["kind"], one["device"], one["level"]) for one in tree["alerts"]] == [("offline", "walt-1", "urgent")]
    assert "walt-edge doctor" in tree["alerts"][0]["remedy"]


def test_a_database_that_is_away_is_waited_for(
    begin: Begin, broker: Broker, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch = begin()
    assert watch.listening.wait(WAIT_S)

    def away(engine: Engine) -> Any:
        raise StoreWriteError("cannot write to the database: it is away")

    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        patch.setattr("walt_train.loop.fleet.keeping.transaction", away)
        wait_for(lambda: "it is away" in caplog.text, WAIT_S, "a line in the log")
    with Talker(broker) as talker:
        talker.is_online()
        talker.says()
        wait_for(lambda: load(engine).cameras or talker.says(), WAIT_S, "what was said")
    assert caplog.text.count("it is away") == 1
