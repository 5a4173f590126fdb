"""A publisher of rubbish at a real broker neither stops an honest device nor gets anything into the store."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.broker import Broker
from tests.envelopes import sealed
from tests.walt_train.loop.admission.home import GHOST, ONE, TWO, enrol
from tests.walt_train.loop.device import TOPICS, Device, wait_until
from walt_edge.contract.messages import CONTENT_TYPE_ENVELOPE, envelope_id
from walt_edge.contract.topics import Kind
from walt_train.loop.admission import standing
from walt_train.loop.admission.policy import Policy
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.ingest.ingest import Ingest, IngestConfig
from walt_train.loop.store.store import Store


@contextmanager
def ingesting(broker: Broker, store: Store, policy: Policy) -> Iterator[Ingest]:
    address = BrokerConfig(host=broker.host, port=broker.port, client_id="worker-1")
    ingest = Ingest(store, IngestConfig(broker=address, policy=policy))
    thread = threading.Thread(target=ingest.run)
    thread.start()
    try:
        assert ingest.connected.wait(20)
        yield ingest
    finally:
        ingest.stop()
        thread.join(timeout=60)
        assert not thread.is_alive()


@contextmanager
def publisher(broker: Broker) -> Iterator[mqtt.Client]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="hostile", protocol=mqtt.MQTTv5)
    ready = threading.Event()
    client.on_connect = lambda *_: ready.set()
    client.connect(broker.host, broker.port)
    client.loop_start()
    assert ready.wait(20)
    yield client
    client.disconnect()
    client.loop_stop()


def told(content_type: str = CONTENT_TYPE_ENVELOPE, **others: object) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = content_type
    properties.UserProperty = [("schema", "1")]
    for name, value in others.items():
        setattr(properties, name, value)
    return properties


def rubbish(client: mqtt.Client, chance: random.Random, number: int) -> None:
    """One message of the kind that nobody honest sends."""
    data, qos = chance.randbytes(chance.randrange(2000)), chance.randrange(3)
    mine = TOPICS.envelope(Kind.CROP, envelope_id(data))
    whole = sealed(5000 + number % 7)
    odd = chance.choice(["\ufeff", "text/html", "", "\U0001f600" * 50, "a" * 5000])
    kinds = (
        (mine, data, told(odd)),
        (mine, data, told()),
        (mine, b"", told()),
        (TWO.envelope(Kind.CROP, whole.id), whole.data, told()),
        (GHOST.envelope(Kind.FRAME, envelope_id(data)), data, told()),
        (f"walt/v1/x\u00a0y/{number}/crop/{'z' * 64}", data, told()),
        (mine, data, told(UserProperty=[("schema", "\ufeff")] * 300)),
        (mine, data, told(ResponseTopic="a/b", CorrelationData=b"\0" * 500, MessageExpiryInterval=1)),
        (TOPICS.envelope(Kind.PLATE, whole.id), whole.data, told()),
        (TOPICS.ack(whole.id), b'{"state":"stored"}', told()),
    )
    topic, payload, properties = kinds[number % len(kinds)]
    client.publish(topic, payload, qos=qos, retain=chance.random() < 0.3, properties=properties)


@pytest.mark.parametrize("policy", list(Policy))
def test_an_honest_device_goes_on(broker: Broker, tmp_path: Path, policy: Policy) -> None:
    good, chance = [sealed(n) for n in range(100)], random.Random(3)
    with Store(tmp_path / "store") as store:
        enrol(store.engine, ONE, TWO)
        for names in (ONE, TWO):
            standing.approve(store.engine, names, "op")
        with ingesting(broker, store, policy) as ingest, Device(broker) as device, publisher(broker) as client:
            # Names that an MQTT 5 publisher may leave out once the broker has learnt them.
            client.publish(TOPICS.envelope(Kind.CROP, "a" * 64), b"x", qos=1, properties=told(TopicAlias=3))
            client.publish("", b"y", qos=1, properties=told(TopicAlias=3))
            for number, envelope in enumerate(good):
                for more in range(4):
                    rubbish(client, chance, 4 * number + more)
                device.send([envelope])
            device.wait_acked([envelope.id for envelope in good], 60)
            assert all(device.states(envelope.id) == ["stored"] for envelope in good)
            assert set(store.ids(include_held=True)) == {envelope.id for envelope in good}
            wait_until(lambda: store.counts().rejected > 50, 60, "rubbish is refused")
            assert ingest.connected.is_set()
        if policy is Policy.ENROLLED:
            found = {one.device: one for one in standing.seen(store.engine)}
            assert found[GHOST.device].state == "unknown"
            assert found[ONE.device].refused > 0


def test_a_flood_without_promise_is_passed_over(broker: Broker, tmp_path: Path) -> None:
    whole = sealed(1)
    with Store(tmp_path / "store") as store, ingesting(broker, store, Policy.OPEN), Device(broker) as device:
        with publisher(broker) as client:
            for _ in range(200):
                client.publish(TOPICS.envelope(Kind.CROP, whole.id), whole.data, qos=0, properties=told())
        device.send([sealed(2)])
        device.wait_acked([sealed(2).id], 60)
        assert store.ids() == [sealed(2).id]
