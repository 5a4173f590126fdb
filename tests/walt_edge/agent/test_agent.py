"""The whole agent with several cameras: one of them dead, one model for all, figures and telemetry for each."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.broker import HOST, Broker, free_port
from tests.fakes.home import ScriptedHome
from tests.fakes.models import write_scripted
from tests.films import write_film
from tests.material import ROOT
from tests.updates import wish_for
from tests.waiting import wait_for
from tests.web import Web
from walt_edge.contract.messages import Info, Telemetry, encode_json
from walt_edge.contract.telemetry import decode_telemetry
from walt_edge.contract.topics import DeviceTopics
from walt_edge.packaged import GENERAL_MODEL
from walt_edge.rtsp_server import RtspServer
from walt_edge.web.status import AgentFigures
from walt_train.loop.publish.repository import Repository

RUN = [sys.executable, "-c", "from walt_edge.cli import main; main()", "run"]
PATIENCE_S = 60.0


class Figures(msgspec.Struct):
    figures: AgentFigures
    is_ready: bool
    reasons: list[str]


class Watching:
    """`walt-edge run` as a process, and its page."""

    def __init__(self, log: Path, *words: object) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen([*RUN, *map(str, words)], stderr=file, cwd=ROOT)

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def said(self) -> str:
        return self.log.read_text()

    def page(self) -> str:
        """Where the newest page is."""
        wait_for(lambda: "the page is at" in self.said(), PATIENCE_S, "for the page")
        return str(re.findall(r"the page is at (\S+)", self.said())[-1])

    def figures(self) -> Figures:
        with urllib.request.urlopen(f"{self.page()}api/figures", timeout=10) as answer:
            return msgspec.json.decode(answer.read(), type=Figures)

    def metrics(self) -> dict[tuple[str, ...], float]:
        """By name and label values."""
        with urllib.request.urlopen(f"{self.page()}metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}

    def processed(self) -> dict[str, int]:
        return {lane.camera: lane.frames_processed for lane in self.figures().figures.lanes}


@pytest.mark.skipif(not GENERAL_MODEL.is_file(), reason="this checkout has no general model")
def test_a_dead_camera_beside_two_that_live(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 200, fps=10)
    with (
        Broker.start(tmp_path) as broker,
        ScriptedHome(broker) as home,
        RtspServer(film, loop=True) as north,
        RtspServer(film, loop=True) as south,
    ):
        cameras = {"north": north.url, "dead": f"rtsp://{HOST}:{free_port()}/none", "south": south.url}
        words = [word for name, url in cameras.items() for word in ("--rtsp", f"{name}={url}")]
        options = ["--broker", broker.address, "--home", tmp_path / "home", "--telemetry-s", 1, "--model", "general"]
        with Watching(tmp_path / "log", *words, *options) as agent:
            wait_for(lambda: min(agent.processed()[name] for name in ("north", "south")) > 20, PATIENCE_S)
            told = agent.figures()
            assert [lane.camera for lane in told.figures.lanes] == ["north", "dead", "south"]
            assert not told.is_ready
            assert [reason for reason in told.reasons if "dead" in reason]
            assert not [reason for reason in told.reasons if "north" in reason or "south" in reason]
            assert all(lane.looks > 0 for lane in told.figures.lanes if lane.camera != "dead")
            assert told.figures.model.name.startswith("walt_edge_general")
            limits = Path(f"/proc/{agent.process.pid}/limits").read_text()
            assert re.search(r"Max core file size +0 +0 ", limits), "a crash would write raw frames to the disk"
            agent.process.terminate()
            assert agent.process.wait(PATIENCE_S) == 0, agent.said()
        sent = [msgspec.json.decode(message.payload, type=Telemetry) for message in home.on("telemetry")]
        assert {one.camera for one in sent} == {"north", "dead", "south"}
        # Home believes it, and has what its alerts need.
        assert [decode_telemetry(bytes(message.payload)) for message in home.on("telemetry")] == sent
        assert all(one.clock and one.disk is not None and one.disk.free_bytes > 0 for one in sent)
        assert max(one.silence_s for one in sent if one.camera == "dead") == -1
        assert min(one.silence_s for one in sent if one.camera == "north" and one.frames_received) >= 0
        assert max(one.frames_processed for one in sent if one.camera == "dead") == 0
        assert msgspec.json.decode(home.on("info")[-1].payload, type=Info).cameras == ("north", "dead", "south")


def test_what_may_change_while_it_runs_does(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 100, fps=10)
    told = tmp_path / "edge.yaml"

    def write(token: str, telemetry_s: float) -> None:
        told.write_text(f"telemetry_s: {telemetry_s}\nweb: {{token: {token}}}\n")

    def status(token: str) -> int:
        asked = urllib.request.Request(f"{agent.page()}api/figures", headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            return 0  # between one page and the next

    write("a" * 20, 1000)
    with Broker.start(tmp_path) as broker, ScriptedHome(broker) as home, RtspServer(film, loop=True) as camera:
        words = ["--rtsp", camera.url, "--broker", broker.address, "--home", tmp_path / "home", "--config", told]
        with Watching(tmp_path / "log", *words) as agent:
            assert (status("a" * 20), status("b" * 20)) == (200, 401)
            assert not home.on("telemetry")
            write("b" * 20, 0.2)
            agent.process.send_signal(signal.SIGHUP)
            wait_for(lambda: (status("a" * 20), status("b" * 20)) == (401, 200), PATIENCE_S)
            wait_for(lambda: len(home.on("telemetry")) > 3, PATIENCE_S, "for telemetry, five times a second now")


def test_what_home_offers_and_what_a_crop_costs_are_on_the_page(tmp_path: Path) -> None:
    """A release that this device cannot open, and budgets that a file says."""
    film = write_film(tmp_path / "film.mp4", 100, fps=10)
    served = tmp_path / "served"
    served.mkdir()
    with (
        Broker.start(tmp_path) as broker,
        ScriptedHome(broker) as home,
        RtspServer(film, loop=True) as camera,
        Web(served) as web,
    ):
        station = Repository(web.folder, tmp_path / "keys")
        release = station.publish(write_scripted(tmp_path / "bundle.walt"))
        words = ["--rtsp", camera.url, "--broker", broker.address, "--home", tmp_path / "home", "--site", "plaza"]
        words += ["--updates", web.url, "--trust", web.folder / "root.json", "--set", "selection.hour_mb=7"]
        words += ["--channel", "stable"]
        with Watching(tmp_path / "log", *words, "--set", "web.port=0") as agent:
            first = agent.metrics()
            assert first["walt_edge_update_state", "active"] == 1
            assert first["walt_edge_update_attempts_total",] == 0
            wait_for(lambda: home.on("info"), PATIENCE_S, "for the device's name")
            _, _, site, device, _ = home.on("info")[-1].topic.split("/")
            assert msgspec.json.decode(home.on("info")[-1].payload, type=Info).channel == "stable"
            home.publish(DeviceTopics(site, device).desired, encode_json(wish_for(release)))
            wait_for(lambda: agent.metrics()["walt_edge_update_state", "refused"] == 1, PATIENCE_S)
            told = agent.metrics()
    assert told["walt_edge_update_release",] == release.number
    assert told["walt_edge_update_attempts_total",] == 1
    assert told["walt_edge_update_outcomes_total", "refused"] == 1
    assert told["walt_edge_update_outcomes_total", "rolled_back"] == 0
    assert told["walt_edge_update_fetched_bytes_total",] > (tmp_path / "bundle.walt").stat().st_size
    assert told["walt_edge_selector_price",] == 0
    assert told["walt_edge_selector_budget_bytes", "hour"] == 7_000_000
    assert told["walt_edge_selector_budget_bytes", "day"] == 400_000_000


def test_a_page_whose_port_is_taken_does_not_end_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = write_film(tmp_path / "film.mp4", 30)
    words = ["--rtsp", film, "--broker", f"{HOST}:{free_port()}", "--home", tmp_path / "home", "--drain-s", 0]
    with Broker.start(tmp_path) as taken:
        monkeypatch.setenv("WALT_EDGE_WEB__PORT", str(taken.port))
        with Watching(tmp_path / "log", *words) as agent:
            assert agent.process.wait(PATIENCE_S) == 0, agent.said()
    assert "watching on without a page: " in agent.said()
    assert "watched 30 of 30 frames" in agent.said()
