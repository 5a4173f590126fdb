from __future__ import annotations

import threading

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from walt_edge.uplink.mqtt import StoppableClient


class Ending(StoppableClient):
    """Its thread ends by itself, and is forgotten, right after somebody has asked for it."""

    running: threading.Thread | None = None

    @property
    def _thread(self) -> threading.Thread | None:
        thread, self.running = self.running, None
        return thread

    @_thread.setter
    def _thread(self, thread: threading.Thread | None) -> None:
        self.running = thread


def test_a_client_is_stopped_while_its_thread_ends_by_itself() -> None:
    ending, released = Ending(CallbackAPIVersion.VERSION2), threading.Event()
    thread = threading.Thread(target=released.wait)
    thread.start()
    ending._thread = thread
    stopped: list[MQTTErrorCode] = []
    stopping = threading.Thread(target=lambda: stopped.append(ending.loop_stop()))
    stopping.start()
    stopping.join(0.1)
    assert stopping.is_alive()
    released.set()
    stopping.join(10)
    assert stopped == [MQTTErrorCode.MQTT_ERR_SUCCESS]
    assert ending.loop_stop() == MQTTErrorCode.MQTT_ERR_INVAL


def test_without_care_it_would_wait_for_nobody() -> None:
    """What the care is for: once paho waits by itself for whom it asked for, it may go."""
    ending = Ending(CallbackAPIVersion.VERSION2)
    ending._thread = threading.current_thread()
    with pytest.raises(AttributeError):
        Client.loop_stop(ending)
