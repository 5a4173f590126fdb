"""A Mosquitto of our own on a free loopback port, for the time of the demo."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from walt_train.loop.children import Station, StationError, Stations, program

HOST = "127.0.0.1"
_START_S = 10.0
_ATTEMPTS = 3


def start_broker(stations: Stations, folder: Path) -> tuple[Station, int]:
    """Starts it and waits until it listens; returns the station and its port.

    Raises:
        StationError: Mosquitto is missing or does not start.
    """
    mosquitto = program("mosquitto")
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(_ATTEMPTS):
        port = free_port()
        config = folder / "mosquitto.conf"
        config.write_text(configuration(port))
        broker = stations.start("broker", [mosquitto, "-c", str(config)])
        try:
            broker.wait_for(lambda port=port: _listens(port), _START_S, "starting")  # type: ignore[misc]
        except StationError:
            # Somebody may have taken the port between our look and its start.
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return broker, port
    raise AssertionError("unreachable")


def configuration(port: int) -> str:
    """`mosquitto.conf`: loopback only, MQTT 5, everything kept in memory."""
    lines = [
        f"listener {port} {HOST}",
        "allow_anonymous true",
        "persistence false",
        "max_queued_messages 1000",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
        "log_type notice",
    ]
    if os.geteuid() == 0:
        # As root it would change to a user that may not read our folder.
        lines.append("user root")
    return "\n".join(lines) + "\n"


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
