"""What devices tell of themselves, decoded strictly: hostile bytes give one error and nothing else.

The topic decides who speaks; a message holds no name of a device, so nobody can speak of another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import EnvelopeError, Info, Reported, Status, decode_reported
from walt_edge.contract.telemetry import MAX_TELEMETRY_BYTES, Telemetry, TelemetryError, decode_telemetry
from walt_edge.contract.topics import DeviceTopics, TopicError, check_name, device_of

MAX_CAMERAS: Final = 64
"""Cameras of one device; more are not listened to."""

_MAX_BYTES: Final = MAX_TELEMETRY_BYTES
_MAX_WORD: Final = 200
_LEVELS: Final = 5

Told = Status | Info | Reported | Telemetry


class HeardError(WaltError):
    """A message is none that a device sends."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One message that passed.

    Attributes:
        who: The device, by the topic.
        told: What it says.
    """

    who: DeviceTopics
    told: Told


def hear(topic: str, payload: bytes) -> Heard:
    """Decodes a message of a device.

    Args:
        topic: Where it was published.
        payload: Its bytes; empty where a retained message was taken away.

    Raises:
        HeardError: Whatever is wrong with it.
    """
    try:
        who, levels = device_of(topic), topic.split("/")
        reader = _READERS.get(levels[-1])
        if len(levels) != _LEVELS or reader is None:
            raise HeardError(f"'{topic[:_MAX_WORD]}' does not end in {'|'.join(_READERS)}")
        if len(payload) > _MAX_BYTES:
            raise HeardError(f"{len(payload)} bytes, at most {_MAX_BYTES} are read")
        return Heard(who, reader(payload))
    except (TopicError, EnvelopeError, TelemetryError) as error:
        raise HeardError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HeardError(f"malformed: {error}") from error


def _status(data: bytes) -> Status:
    told = msgspec.json.decode(data, type=Status)
    _check_words((told.boot_id,))
    return told


def _info(data: bytes) -> Info:
    told = msgspec.json.decode(data, type=Info)
    _check_words((told.version, told.machine, told.python, told.anonymiser))
    if len(told.cameras) > MAX_CAMERAS:
        raise HeardError(f"{len(told.cameras)} cameras, at most {MAX_CAMERAS} are listened to")
    for camera in {told.camera, *told.cameras} - {""}:
        check_name(camera, "camera")
    return told


def _reported(data: bytes) -> Reported:
    told = decode_reported(data)
    _check_words((told.sha256,))
    if not _is_plain(told.reason):
        # Devices put errors of other programs there; the text is shown, so it must be one clean line.
        return msgspec.structs.replace(told, reason="".join(c if c.isprintable() else " " for c in told.reason))
    return told


def _telemetry(data: bytes) -> Telemetry:
    told = decode_telemetry(data)
    if told.camera:
        check_name(told.camera, "camera")
    return told


_READERS: Final[dict[str, Callable[[bytes], Told]]] = {
    "status": _status,
    "info": _info,
    "reported": _reported,
    "telemetry": _telemetry,
}


def _check_words(words: tuple[str, ...]) -> None:
    for word in words:
        if len(word) > _MAX_WORD or not _is_plain(word):
            raise HeardError(f"a text of {len(word)} letters, or with control characters: '{word[:40]!a}'")


def _is_plain(word: str) -> bool:
    return word.isprintable()
