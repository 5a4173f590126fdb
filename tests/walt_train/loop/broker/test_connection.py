"""A connection to a real broker, and how it ends."""

from __future__ import annotations

import threading

import pytest
from paho.mqtt.client import MQTTMessage

from tests.broker import HOST, Broker, free_port
from tests.waiting import wait_for
from walt_train.loop.broker.connection import BrokerConfig, BrokerError, Connection

TOPIC = "walt/v1/yard/walt-1/telemetry"


def connected(broker: Broker, hear: list[MQTTMessage] | None = None, keeps_session: bool = False) -> Connection:
    config = BrokerConfig(broker.host, broker.port, client_id="test")
    heard = [] if hear is None else hear
    return Connection(config, [TOPIC], {"SessionExpiryInterval": 60}, heard.append, keeps_session=keeps_session)


def test_it_hears_what_it_is_subscribed_to_until_it_is_closed(broker: Broker) -> None:
    heard: list[MQTTMessage] = []
    line = connected(broker, heard)
    line.client.publish(TOPIC, b"well", qos=1)
    wait_for(lambda: [one.payload for one in heard] == [b"well"])
    assert line.alive
    line.close()
    wait_for(lambda: not line.alive)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_whose_thread_dies_takes_the_connection_with_it(broker: Broker) -> None:
    """Whoever listens would else be deaf for ever, and think that nobody speaks."""

    def stumble(_: MQTTMessage) -> None:
        raise RuntimeError("on purpose")

    config = BrokerConfig(broker.host, broker.port, client_id="test")
    line = Connection(config, [TOPIC], {}, stumble)
    line.client.publish(TOPIC, b"well", qos=1)
    wait_for(lambda: not line.alive)
    assert line.why
    line.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("paho-mqtt-client-test")]


def test_closing_waits_for_a_thread_that_is_ending_by_itself(broker: Broker) -> None:
    """paho has forgotten its thread by then; the thread is held where it tells that it has ended."""
    line, ending, released = connected(broker), threading.Event(), threading.Event()

    def hold() -> None:
        ending.set()
        released.wait()

    line.client.on_end = hold
    line.client.disconnect()
    assert ending.wait(10)
    closing = threading.Thread(target=line.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    released.set()
    closing.join(10)
    assert not closing.is_alive()
    assert not [one for one in threading.enumerate() if one.name.startswith("paho-mqtt-client-test")]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_session_is_kept_for_who_asks_for_it(broker: Broker, keeps: bool) -> None:
    connected(broker, keeps_session=keeps).close()
    again = connected(broker, keeps_session=keeps)
    assert again.resumed is keeps
    again.close()


def test_who_comes_under_our_name_ends_us(broker: Broker) -> None:
    first, second = connected(broker), connected(broker)
    wait_for(lambda: not first.alive)
    assert first.why
    assert second.alive
    for line in (first, second):
        line.close()


def test_a_broker_that_is_not_there_is_named() -> None:
    port = free_port()
    with pytest.raises(BrokerError, match=rf"{HOST}:{port} cannot be reached"):
        Connection(BrokerConfig(HOST, port, client_id="test"), [TOPIC], {}, print)
