"""An MQTT client that no publisher can stop.

paho reads the properties of a message as strictly as it can: at one U+FEFF in a content type, which brokers let pass,
it drops the connection; the broker delivers the same message at the next one, and so on for ever. It also copies the
whole message once for every property in it. This client reads what it needs, by place, and lets the rest be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

_EXPIRY, _CONTENT_TYPE, _USER = 0x02, 0x03, 0x26
# Sizes of the properties of a PUBLISH that have a fixed one: payload format, expiry, topic alias.
_FIXED = {0x01: 1, _EXPIRY: 4, 0x23: 2}
_TEXTS = {_CONTENT_TYPE: 1, 0x08: 1, 0x09: 1, _USER: 2}
_SUBSCRIPTION = 0x0B
# Honest messages have three. What comes after these is not looked at.
_PROPERTIES_READ = 32
_TEXT_READ = 256


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says of itself, named as paho names it: its content type and its user properties."""

    ContentType: str = ""
    UserProperty: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Publication:
    """A PUBLISH packet, taken apart."""

    topic: bytes
    message_id: int
    told: Told
    payload: bytes


class SteadyClient(mqtt.Client):
    """paho's client, for MQTT 5 and messages of QoS 0 and 1, with a reader of our own for what arrives.

    Attributes:
        on_end: Called when the client's thread ends, for whatever reason.
    """

    on_end: Callable[[], None] = staticmethod(lambda: None)
    _running: threading.Thread | None = None

    def loop_stop(self) -> MQTTErrorCode:
        """Ends the client's thread and waits until it has ended, also where it is just ending by itself.

        paho forgets its thread before that has ended: whoever stops the client in between would not wait for it, and
        who does so a moment earlier would wait for None.
        """
        # In this order: a thread that paho has forgotten has set `_running` long before.
        thread = self._thread or self._running
        if thread is None:
            return MQTTErrorCode.MQTT_ERR_INVAL
        self._thread_terminate = True
        if thread is not threading.current_thread():
            thread.join()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_publish(self) -> MQTTErrorCode:
        command = self._in_packet["command"]
        qos = (command & 0x06) >> 1
        if qos > 1:
            return super()._handle_publish()
        try:
            found = read_publish(self._in_packet["packet"], qos)
        except (IndexError, ValueError):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        message = mqtt.MQTTMessage(found.message_id, found.topic)
        message.payload, message.qos = found.payload, qos
        message.dup, message.retain = bool(command & 0x08), bool(command & 0x01)
        told: Any = found.told
        message.properties = told
        self._handle_on_message(message)
        if qos == 1 and not self._manual_ack:
            return self._send_puback(message.mid)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _thread_main(self) -> None:
        self._running = threading.current_thread()
        try:
            super()._thread_main()
        finally:
            self.on_end()


def read_publish(packet: bytes | bytearray, qos: int) -> Publication:
    """Takes the body of a PUBLISH apart.

    Raises:
        IndexError, ValueError: It ends too soon.
    """
    at = 2 + int.from_bytes(packet[:2], "big")
    topic = bytes(packet[2:at])
    message_id = 0
    if qos:
        message_id = int.from_bytes(packet[at : at + 2], "big")
        at += 2
    length, at = _varint(packet, at)
    end = at + length
    if end > len(packet):
        raise ValueError("the properties are longer than the message")
    told = _read_told(packet, at, end)
    with memoryview(packet) as view:
        return Publication(topic, message_id, told, bytes(view[end:]))


def _read_told(packet: bytes | bytearray, at: int, end: int) -> Told:
    content_type, named = "", []
    for _ in range(_PROPERTIES_READ):
        if at >= end:
            break
        kind, at = packet[at], at + 1
        if kind in _FIXED:
            at += _FIXED[kind]
        elif kind == _SUBSCRIPTION:
            at = _varint(packet, at)[1]
        elif kind in _TEXTS:
            texts = []
            for _ in range(_TEXTS[kind]):
                size = int.from_bytes(packet[at : at + 2], "big")
                texts.append(bytes(packet[at + 2 : at + 2 + min(size, _TEXT_READ)]).decode("utf-8", "replace"))
                at += 2 + size
            if kind == _CONTENT_TYPE:
                content_type = texts[0]
            elif kind == _USER:
                named.append((texts[0], texts[1]))
        else:
            # The broker has checked it by the standard; whatever it means, its size is not known to us.
            break
    return Told(content_type, tuple(named))


def _varint(packet: bytes | bytearray, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends."""
    value = shift = 0
    for _ in range(4):
        byte = packet[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a length has more than four bytes")
