"""What Prometheus reads parses, is bounded, and is served to nobody who holds it up."""

from __future__ import annotations

import http.client
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.waiting import wait_for
from tests.walt_train.loop.fleet.fleet import BEGIN, MINUTE, Court, Device
from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Reported
from walt_edge.contract.telemetry import Disk
from walt_train.loop.fleet.fleet import Fleet
from walt_train.loop.fleet.metrics import Figures, MetricsServer


def street() -> tuple[Fleet, Court]:
    court = Court(fleet := Fleet())
    for name in ("walt-1", "walt-2"):
        device = Device(fleet, name=name)
        device.status("online" if name == "walt-1" else "offline", BEGIN)
        device.reports(Reported(release=4, sha256="", state="active"), BEGIN)
        device.watches(BEGIN)
        device.watches(BEGIN + MINUTE, disk=Disk(free_bytes=1 << 20))
    fleet.take("walt/v1/a/b/telemetry", b"{", BEGIN)
    for minute in range(1, 7):
        court.sits(BEGIN + minute * MINUTE)
    return fleet, court


def figures_of(fleet: Fleet, court: Court, most: int = 1000) -> Figures:
    return Figures(fleet, lambda: court.home, lambda: court.alerts, lambda: {"stored": 7, "rejected": 0}, most)


def values(figures: Figures) -> dict[tuple[str, frozenset[str]], float]:
    text, _ = figures.render("")
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in parse_text(text.decode())
        for sample in family.samples
    }


def test_names_labels_and_values_follow_the_edges() -> None:
    found = values(figures_of(*street()))
    assert (
        found["walt_fleet_devices", frozenset(["online"])] == found["walt_fleet_devices", frozenset(["offline"])] == 1
    )
    assert found["walt_fleet_frames_processed_total", frozenset(["yard", "walt-1", "gate"])] == 1500
    assert found["walt_fleet_frame_silence_seconds", frozenset(["yard", "walt-2", "gate"])] == pytest.approx(0.1)
    assert found["walt_fleet_frame_age_seconds", frozenset(["yard", "walt-1", "gate"])] == pytest.approx(0.04)
    assert found["walt_fleet_spool_envelopes", frozenset(["yard", "walt-1", "acked"])] == 10
    assert found["walt_fleet_disk_free_bytes", frozenset(["yard", "walt-1"])] == 1 << 20
    assert found["walt_fleet_model_release", frozenset(["yard", "walt-1"])] == 4
    assert found["walt_fleet_envelopes_total", frozenset(["stored"])] == 7
    assert found["walt_fleet_messages_total", frozenset(["malformed"])] == 1
    assert found["walt_fleet_alerts", frozenset(["disk", "urgent"])] == 2
    assert found["walt_fleet_alert", frozenset(["disk", "yard", "walt-1", ""])] == 1
    assert found["walt_fleet_listening", frozenset()] == 1


def test_above_a_number_of_cameras_none_is_shown_by_itself() -> None:
    found = values(figures_of(*street(), most=1))
    assert not any("walt-1" in labels for _, labels in found)
    assert found["walt_fleet_alerts", frozenset(["disk", "urgent"])] == 2
    assert found["walt_fleet_cameras", frozenset()] == 2


def test_openmetrics_is_given_to_who_asks() -> None:
    text, kind = figures_of(*street()).render("application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in kind
    families = parse_openmetrics(text.decode())  # type: ignore[no-untyped-call]
    assert any(family.name == "walt_fleet_devices" for family in families)


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer(figures_of(*street()), "127.0.0.1", 0, read_s=4.0)
    server.start()
    yield server
    server.stop()


def test_it_is_served_and_nothing_else_is(server: MetricsServer) -> None:
    with urllib.request.urlopen(server.url, timeout=20) as answer:
        assert b"walt_fleet_devices" in answer.read()
    host, port = server.url.removeprefix("http://").removesuffix("/metrics").split(":")
    for method, path, accept, status in [
        ("GET", "/", "", 404),
        ("GET", "/../etc/passwd", "", 404),
        ("POST", "/metrics", "", 501),
        ("GET", "/metrics", "text/plain;version=nonsense,application/openmetrics-text;version=9.9.x", 200),
        ("GET", "/metrics?x=1", "\xff", 200),
    ]:
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        connection.request(method, path, headers={"Accept": accept})
        assert connection.getresponse().status == status, (method, path)
        connection.close()


def test_readers_who_say_nothing_hold_nobody_else_up_for_long(server: MetricsServer) -> None:
    host, port = server.url.removeprefix("http://").removesuffix("/metrics").split(":")

    def is_served() -> bool:
        try:
            with urllib.request.urlopen(server.url, timeout=20) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    with ExitStack() as idle:
        for _ in range(20):
            one = idle.enter_context(socket.create_connection((host, int(port)), timeout=20))
            with suppress(OSError):  # Those past the last place are sent away at once.
                one.sendall(b"GET /metr")
        wait_for(lambda: not is_served(), 20, "all places taken")
        wait_for(is_served, 40, "an answer once the idle are sent away")


def test_a_port_that_is_taken_is_told(server: MetricsServer) -> None:
    port = int(server.url.split(":")[2].removesuffix("/metrics"))
    with pytest.raises(UsageError, match="--metrics"):
        MetricsServer(figures_of(*street()), "127.0.0.1", port)
