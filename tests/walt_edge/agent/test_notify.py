"""What systemd is told, received by a real datagram socket."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for
from walt_edge.agent.notify import Notifier, Watchdog


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.settimeout(10)
        yield one


def lines(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().splitlines()


def environ(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def test_the_life_of_a_service(manager: socket.socket) -> None:
    with Notifier(environ(manager)) as notifier:
        notifier.ready("watching 2\ncameras")
        notifier.alive()
        notifier.status("x" * 500)
        notifier.stopping()
    assert lines(manager) == ["READY=1", "STATUS=watching 2 cameras"]
    assert lines(manager) == ["WATCHDOG=1"]
    assert lines(manager) == ["STATUS=" + "x" * 200]
    assert lines(manager) == ["STOPPING=1"]


def test_a_name_in_the_abstract_space() -> None:
    name = f"walt-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(10)
        with Notifier({"NOTIFY_SOCKET": f"@{name}"}) as notifier:
            notifier.ready()
        assert lines(manager) == ["READY=1"]


@pytest.mark.parametrize("where", ["", "relative", "/absent/socket"])
def test_without_a_manager_nothing_happens(where: str) -> None:
    with Notifier({"NOTIFY_SOCKET": where}) as notifier:
        notifier.ready("x")
        assert notifier.watchdog_s is None
        notifier.close()
        notifier.alive()


@pytest.mark.parametrize(
    ("variables", "limit_s"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_time_limit(variables: dict[str, str], limit_s: float | None) -> None:
    assert Notifier(variables).watchdog_s == limit_s


def test_the_watchdog_is_fed_only_while_every_loop_moves(
    manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    moving = threading.Event()
    moving.set()
    with Notifier(environ(manager, WATCHDOG_USEC="60000")) as notifier:
        watchdog = Watchdog(notifier, moving.is_set, lambda: "fine" if moving.is_set() else "hung")
        watchdog.start()
        assert lines(manager) == ["WATCHDOG=1"]
        assert lines(manager) == ["STATUS=fine"]
        moving.clear()
        wait_for(lambda: lines(manager) == ["STATUS=hung"])
        assert lines(manager) == ["STATUS=hung"]  # and no WATCHDOG=1 between the two
        moving.set()
        wait_for(lambda: lines(manager) == ["WATCHDOG=1"])
        watchdog.stop()
    assert caplog.text.count("a loop of the agent has stopped moving") == 1


def test_an_agent_that_cannot_say_how_it_is_is_not_fed(
    manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)

    def broken() -> bool:
        raise RuntimeError("no")

    manager.settimeout(0.1)
    with Notifier(environ(manager, WATCHDOG_USEC="30000")) as notifier:
        watchdog = Watchdog(notifier, broken)
        watchdog.start()
        wait_for(lambda: "cannot ask the agent" in caplog.text)
        watchdog.stop()
    with pytest.raises(TimeoutError):
        manager.recv(4096)


def test_without_a_watchdog_there_is_no_thread(manager: socket.socket) -> None:
    before = threading.active_count()
    with Notifier(environ(manager)) as notifier:
        watchdog = Watchdog(notifier, lambda: True)
        watchdog.start()
        assert threading.active_count() == before
        watchdog.stop()
