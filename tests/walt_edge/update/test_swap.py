"""From the signed release to the report, and no frame lost; the parts are real: TUF, HTTP, MQTT, disk."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from tests.broker import HOST, Broker
from tests.fakes.edge import ScriptedEyes
from tests.fakes.home import ScriptedHome
from tests.fakes.models import load_scripted, write_scripted
from tests.lanes import make_pipeline
from tests.material import ROOT
from tests.waiting import wait_for
from tests.web import Web
from walt_edge.agent.journal import FILE_NAME, Journal
from walt_edge.agent.pipeline import Pipeline
from walt_edge.agent.showing import Showing
from walt_edge.camera import Camera, Frame, open_camera
from walt_edge.config import Endpoint, Home
from walt_edge.contract.messages import Desired, Info, Reported, Telemetry, decode_reported, encode_json
from walt_edge.contract.predictions import FramePrediction, frame_instances
from walt_edge.contract.topics import DeviceTopics
from walt_edge.rtsp_server import RtspServer
from walt_edge.spool.spool import Spool
from walt_edge.update.holder import ModelHolder
from walt_edge.update.probation import ProbationRules
from walt_edge.update.settings import UpdateSettings
from walt_edge.update.slots import Slots
from walt_edge.update.trust import Trust
from walt_edge.update.updater import ModelUpdater
from walt_edge.uplink.uplink import Uplink, UplinkSettings
from walt_train.loop.broker.connection import BrokerConfig
from walt_train.loop.publish.desired import set_desired
from walt_train.loop.publish.repository import Repository

TOPICS = DeviceTopics("test", "walt-test")
INFO = Info(version="1", camera="cam-1", machine="test", python="3.11", anonymiser="test")
FRAMES = 240


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of stills."""
    folder = tmp_path_factory.mktemp("street")
    for number in range(FRAMES):
        cv2.imwrite(str(folder / f"{number:04d}.png"), np.full((180, 320, 3), number % 256, np.uint8))
    return folder


class Paced:
    """A camera that does something before some of its frames; everything else is the camera's own."""

    def __init__(self, camera: Camera, before: dict[int, Callable[[], object]]) -> None:
        self._camera, self._before = camera, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def read(self, timeout_s: float) -> Frame | None:
        self._before.pop(self._camera.stats.frames_received, lambda: None)()
        return self._camera.read(timeout_s)


def reports(home: ScriptedHome) -> list[Reported]:
    return [decode_reported(bytes(message.payload)) for message in home.on("reported")]


def is_reported(home: ScriptedHome, state: str, desired: int) -> bool:
    return [(one.state, one.desired) for one in reports(home)[-1:]] == [(state, desired)]


def publish(folder: Path, number: int, write: Callable[..., Path] = write_scripted) -> Desired:
    path = write(folder / f"street-{number}.walt", name=f"street-{number}")
    release = Repository(folder / "served", folder / "keys").publish(path)
    return Desired(release=release.number, target=release.target, sha256=release.sha256)


@contextmanager
def agent(
    folder: Path, camera: Camera, broker: Broker, url: str, spool: Spool
) -> Iterator[tuple[Pipeline, ModelUpdater, Uplink]]:
    """An agent wired as `walt-edge run` wires it, with eyes that need no plate."""
    models = ModelHolder()
    settings = UplinkSettings(reconnect_min_s=0.05, reconnect_max_s=0.3)
    uplink = Uplink(Endpoint(HOST, broker.port), TOPICS, spool, "boot-1", INFO, settings, random.Random(5))
    trust = Trust(folder / "agent/updates", url, folder / "served/root.json")
    slots, at_once = Slots(folder / "agent/models"), UpdateSettings(probation=ProbationRules(seconds=0))
    updater = ModelUpdater(trust, slots, models, load_scripted, uplink.report, at_once)
    uplink.on_desired = updater.desire
    journal = Journal(folder / "journal", every=10)
    updater.restore()
    updater.start()
    uplink.start()
    try:
        pipeline = make_pipeline(camera, ScriptedEyes(), spool, uplink, Showing("cam-1", journal), models)
        yield pipeline, updater, uplink
    finally:
        uplink.stop()
        updater.stop()
        journal.close()


def journal_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / FILE_NAME).read_text().splitlines()]
    return [line for line in lines if line["frame"] is not None]


def check_journal(lines: list[dict[str, Any]]) -> None:
    """Every frame is there, by the model that was then the newest, which sees in each what it is scripted to."""
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    runs = itertools.groupby(line["model_release"] for line in lines)
    assert [(release, len(list(run))) for release, run in runs] == [(0, 21), (1, 140), (2, 79)]
    for line in lines[::10]:
        if line["model_release"]:
            found = frame_instances(msgspec.convert(line["prediction"], FramePrediction))
            assert found.boxes_xyxy.tolist() == [[10, 20, 22, 50]]


def test_every_frame_is_watched_before_during_and_after_a_swap(tmp_path: Path, street: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def held_back(handler: SimpleHTTPRequestHandler) -> None:
        asked.set()
        assert go_on.wait(20)
        SimpleHTTPRequestHandler.do_GET(handler)

    first = publish(tmp_path, 1)
    with (
        Broker.start(tmp_path) as broker,
        ScriptedHome(broker) as home,
        Web(tmp_path / "served") as web,
        Spool(tmp_path) as spool,
    ):
        config = BrokerConfig(broker.host, broker.port, "")

        def wish_for_second() -> None:
            second = publish(tmp_path, 2)
            web.answers[f".{second.target}"] = held_back
            set_desired(config, [TOPICS], second)
            assert asked.wait(20)

        def wish_for_first() -> None:
            set_desired(config, [TOPICS], first)
            wait_for(lambda: pipeline.models.is_offered, 20)

        def let_second_come() -> None:
            go_on.set()
            wait_for(lambda: pipeline.models.is_offered, 20)

        before: dict[int, Callable[[], object]] = {}
        camera = Paced(open_camera(str(street)), before)
        with agent(tmp_path, camera, broker, web.url, spool) as (pipeline, _, _):
            before[20] = wish_for_first
            before[60] = lambda: wait_for(lambda: is_reported(home, "active", 1))
            before[100] = wish_for_second
            before[160] = let_second_come
            before[200] = lambda: wait_for(lambda: is_reported(home, "active", 2))
            pipeline.run(threading.Event())
            telemetry = pipeline.telemetry()
            made = pipeline.eyes.made  # type: ignore[attr-defined]
            assert {one.id for one in spool.pending(1000)} <= set(made)
    assert not before
    assert (telemetry.frames_received, telemetry.frames_processed, telemetry.frames_skipped) == (FRAMES, FRAMES, 0)
    assert telemetry.model_release == 2
    assert 0 < telemetry.infer_ms_p50 < 1000
    check_journal(journal_of(tmp_path / "journal"))
    assert [(one.release, one.state, one.desired) for one in reports(home)] == [
        (0, "active", 0),
        (0, "updating", 1),
        (1, "active", 1),
        (1, "updating", 2),
        (2, "active", 2),
    ]
    assert len(made) == FRAMES + 1


def test_reported_is_retained_and_told_at_every_connection(tmp_path: Path, street: Path) -> None:
    wish = publish(tmp_path, 1)
    with Broker.start(tmp_path) as broker, Web(tmp_path / "served") as web, Spool(tmp_path) as spool:
        before: dict[int, Callable[[], object]] = {}
        camera = Paced(open_camera(str(street)), before)
        with agent(tmp_path, camera, broker, web.url, spool) as (pipeline, updater, uplink):

            def lose_the_broker() -> None:
                broker.kill()
                wait_for(lambda: not uplink.connected)
                broker.restart()
                with ScriptedHome(broker) as home:
                    wait_for(lambda: is_reported(home, "active", 0), 20)
                    home.publish(TOPICS.desired, b"no wish")
                    home.publish(TOPICS.desired, b"x" * 9000)
                    wait_for(lambda: uplink.stats.wishes_malformed == 2)
                    home.publish(TOPICS.desired, encode_json(wish))
                    wait_for(lambda: pipeline.models.is_offered, 20)

            def see_it_retained() -> None:
                wait_for(lambda: updater.stats.swapped == 1)
                with ScriptedHome(broker) as home:
                    wait_for(lambda: is_reported(home, "active", 1), 20)
                with ScriptedHome(broker) as late:
                    wait_for(lambda: is_reported(late, "active", 1), 20)
                    assert [one.retain for one in late.on("reported")] == [True]

            before[5] = lambda: wait_for(lambda: uplink.connected)
            before[10] = lose_the_broker
            before[20] = see_it_retained
            pipeline.run(threading.Event(), frames=30)
    assert not before


def test_the_agent_as_a_person_starts_it(tmp_path: Path) -> None:
    """A first start on a camera takes a real model; a second one, on a film, has it from the first frame."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from tests.detectors import write_colour_bundle

    film = tmp_path / "film"
    film.mkdir()
    background = cv2.GaussianBlur(
        np.random.default_rng(1).integers(60, 190, (192, 320, 3), dtype=np.uint8), (0, 0), 2
    )
    for number in range(150):
        still = background.copy()
        still[100:130, 2 * number : 2 * number + 20] = (40, 40, 200)
        cv2.imwrite(str(film / f"{number:04d}.png"), still)
    wish = publish(tmp_path, 1, write_colour_bundle)
    command = [sys.executable, "-c", "from walt_edge.cli import main; main()", "run"]
    with Broker.start(tmp_path) as broker, ScriptedHome(broker) as home, Web(tmp_path / "served") as web:
        with Home(tmp_path / "home") as folder:
            device = folder.device()
        set_desired(BrokerConfig(broker.host, broker.port, ""), [DeviceTopics(device.site, device.device)], wish)
        words = ("--home", str(tmp_path / "home"), "--broker", broker.address, "--updates", web.url)
        probation = ("--probation-s", "1")
        trust = ("--trust", str(tmp_path / "served/root.json"))
        with RtspServer(film, loop=True) as server:
            process = subprocess.Popen([*command, "--rtsp", server.url, *words, *trust, *probation], cwd=ROOT)
            try:
                wait_for(lambda: is_reported(home, "active", 1), 30)
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
            finally:
                process.kill()
                process.wait()
        told = len(reports(home))
        again = [*command, "--input", str(film), *words, "--journal", str(tmp_path / "journal"), "--drain-s", "20"]
        subprocess.run(again, cwd=ROOT, check=True, timeout=60)
        wait_for(lambda: len(reports(home)) > told)
        assert reports(home)[-1] == Reported(release=1, sha256=wish.sha256, state="active", desired=1)
        telemetry = msgspec.json.decode(home.on("telemetry")[-1].payload, type=Telemetry)
        assert (telemetry.frames_processed, telemetry.model_release) == (150, 1)
        assert telemetry.infer_ms_p50 > 0
    lines = journal_of(tmp_path / "journal")
    assert len(lines) == 150
    pictured = [line for line in lines if "picture" in line]
    assert pictured
    assert all(line["model_release"] == 1 and line["prediction"]["file_name"] == line["picture"] for line in pictured)
