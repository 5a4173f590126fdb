"""Rollouts over a real Mosquitto."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.broker import Broker
from tests.walt_train.loop.rollout.street import Street, plan
from tests.walt_train.loop.rollout.test_engine import Place
from walt_edge.contract.messages import Desired, decode_desired
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.publish.desired import set_desired
from walt_train.loop.rollout.model import CANARY, State
from walt_train.loop.store.store import Store


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Store(tmp_path / "store") as store:
        yield Place(store.engine, tmp_path, 12)


def found_by(broker: Broker, topics: DeviceTopics) -> Desired:
    """What a device finds that comes back now, after whatever time."""
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_message = lambda _c, _u, message: inbox.put(bytes(message.payload))
    client.connect(broker.host, broker.port)
    client.subscribe(topics.desired, qos=1)
    client.loop_start()
    try:
        return decode_desired(inbox.get(timeout=30))
    finally:
        client.disconnect()
        client.loop_stop()


def test_who_comes_back_after_a_month_finds_what_is_right_now(place: Place, tmp_path: Path) -> None:
    """Wishes wait at a real broker, over its restart: the undo of what was taken back, and what is done."""
    with Broker.start(tmp_path / "broker", persistence=True) as broker:
        config = BrokerConfig(broker.host, broker.port, client_id="walt-test")

        def tell(devices: list[DeviceTopics], wish: Desired) -> None:
            set_desired(config, devices, wish, timeout_s=30.0)
            place.town.tell(devices, wish)

        driver = place.drives("one", tell)
        bad = place.until(place.create("blind"), State.ROLLED_BACK, driver=driver)
        asleep = next(one for one in bad.members if one.cohort == CANARY)
        broker.kill()
        broker.restart()
        undo = found_by(broker, DeviceTopics(*asleep.who))
        assert (undo.release, undo.sha256) == (3, place.base.sha256)
        good = place.until(place.create("good"), State.DONE, driver=driver)
        wishes = {found_by(broker, DeviceTopics(*one.who)).release for one in good.members}
        assert wishes == {good.release} == {4}
        driver.rollouts.rollback(good.id, "ada", "second thoughts")
        place.until(good, State.ROLLED_BACK, driver=driver)
        assert {found_by(broker, DeviceTopics(*one.who)).release for one in good.members} == {5}


@pytest.mark.slow
def test_a_fleet_over_a_broker_is_guarded(tmp_path: Path) -> None:
    with Street(tmp_path, 30) as street:
        street.begin_with("plain")
        for name in ("crash", "silent"):
            made = street.engine.rollouts.create(street.publish(name), street.topics, "ada", plan=plan(30))
            ended = street.end_of(made)
            assert ended.state is State.ROLLED_BACK, ended.events
            assert {one.cohort for one in ended.members if one.touched_us is not None} == {CANARY}
            street.rest(16)
        good = street.publish("good")
        ended = street.end_of(street.engine.rollouts.create(good, street.topics, "ada", plan=plan(30)))
        assert ended.state is State.DONE, ended.events
        street.wait(lambda: street.running(good.number) == 30, 60, "for all to run it")
