"""Plays the demo: starts the stations in order, waits for each to do its work, then asks them to stop and reports."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2

from walt_edge.contract.errors import UsageError
from walt_train.loop.children import Station, StationError, Stations, program
from walt_train.loop.demo.broker import HOST, start_broker
from walt_train.loop.demo.progress import Bars, JournalTail
from walt_train.loop.demo.tap import Tap
from walt_train.loop.report.evidence import JOURNAL_NAME, read_evidence
from walt_train.loop.report.figures import (
    Report,
    Source,
    crops_of,
    failing,
    gates_of,
    ledger_of,
    timings_of,
)
from walt_train.loop.report.page import write_report
from walt_train.loop.report.truth import Truth, judge
from walt_train.loop.store import Store

LOGGER = logging.getLogger(__name__)
MARKER = ".walt-demo"
_READY_S = 60.0
_RENDER_S = 480.0
_FINISH_S = 60.0
_POLL_S = 0.1
_FOLDER_FPS = 10.0
_STILLS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What to play.

    Attributes:
        out: Everything is written below it; an older demo there is replaced.
        video: A video file or folder of stills; None renders a street.
        seed: Of the rendered street.
        frames: How many frames to render.
        size: WxH of the rendered frames.
        watch_s: The camera is watched no longer than this, seconds.
        least_crops: Fewer stored crops are a failure.
    """

    out: Path
    video: Path | None = None
    seed: int = 1
    frames: int = 2400
    size: str = "640x360"
    watch_s: float = 270.0
    least_crops: int = 1


@dataclass(frozen=True, slots=True)
class Film:
    """What the camera plays: a file or folder, how many frames, how fast, how large."""

    path: Path
    frames: int
    fps: float
    resolution_wh: tuple[int, int]


@dataclass(slots=True)
class Stages:
    """How long each stage took, seconds."""

    took_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage and says that it begins."""
        LOGGER.info("%s ...", name)
        start_s = time.monotonic()
        yield
        self.took_s[name] = time.monotonic() - start_s


class Demo:
    """One run of the demo.

    Args:
        config: What to play.
    """

    def __init__(self, config: DemoConfig) -> None:
        self._config = config
        self._out = config.out.resolve()
        self._stages = Stages()

    def run(self) -> Report:
        """Plays, and writes the report even where a station failed its gate.

        Raises:
            UsageError: The output folder holds something else, or the video is missing.
            StationError: A station could not do its work; no report can be made.
        """
        clear(self._out)
        with Stations(self._out / "logs") as stations:
            film = self._film(stations)
            with self._stages.stage("start"):
                broker, port = start_broker(stations, self._out / "broker")
                ingest = self._start_ingest(stations, port)
            with Tap(HOST, port) as tap:
                with self._stages.stage("watch"):
                    sent = self._watch(stations, film, port, tap, (broker, ingest))
                ingest.ask_to_stop()
                if ingest.wait(_FINISH_S) != 0:
                    raise ingest.failure()
        with self._stages.stage("report"):
            return self._report(film, tap, sent)

    def _film(self, stations: Stations) -> Film:
        if self._config.video is not None:
            return film_of(self._config.video)
        with self._stages.stage("render"):
            return film_of(self._render(stations))

    def _render(self, stations: Stations) -> Path:
        """Renders a street; returns its video."""
        config, street = self._config, self._out / "street"
        video = street / "street.mp4"
        words = [program("walt-train"), "rwalt", "--seed", str(config.seed), "--frames", str(config.frames)]
        words += ["--size", config.size, "--light", "day", "--out", str(street), "--video", str(video)]
        renderer = stations.start("render", words)
        images = street / "images"
        with Bars() as bars:

            def is_done() -> bool:
                bars.show("rendered", sum(1 for _ in images.glob("*.*")) if images.is_dir() else 0, config.frames)
                return not renderer.running

            renderer.wait_for(is_done, _RENDER_S, "rendering")
        if renderer.status != 0 or not video.is_file():
            raise renderer.failure()
        return video

    def _start_ingest(self, stations: Stations, port: int) -> Station:
        words = [program("walt-loop"), "ingest", "--broker", f"{HOST}:{port}", "--store", str(self._out / "store")]
        ingest = stations.start("ingest", words)
        ingest.wait_for(lambda: "connected to" in ingest.said(), _READY_S, "connecting to the broker")
        return ingest

    def _watch(self, stations: Stations, film: Film, port: int, tap: Tap, helpers: tuple[Station, ...]) -> int:
        """Camera and agent, until the film ends or the time is over; returns how many frames were played."""
        camera, url = start_camera(stations, film)
        agent = stations.start("agent", self._agent_words(url, port))
        journal = JournalTail(self._out / "journal" / JOURNAL_NAME)
        deadline = time.monotonic() + self._config.watch_s
        with Bars() as bars:
            while camera.running and time.monotonic() < deadline:
                for station in (agent, *helpers):
                    if not station.running:
                        raise station.failure()
                bars.show("watched", _frames_so_far(journal, tap), film.frames)
                bars.show("at home", tap.acknowledged, None, "envelope")
                time.sleep(_POLL_S)
            is_whole = not camera.running
            if is_whole and camera.status != 0:
                raise camera.failure()
            agent.ask_to_stop()
            if agent.wait(_FINISH_S) != 0:
                raise agent.failure()
            bars.show("at home", tap.acknowledged, None, "envelope")
        return film.frames if is_whole else _frames_so_far(journal, tap)

    def _agent_words(self, url: str, port: int) -> list[str]:
        words = [program("walt-edge"), "run", "--rtsp", url, "--broker", f"{HOST}:{port}"]
        words += ["--home", str(self._out / "home"), "--journal", str(self._out / "journal")]
        return [*words, "--journal-every", "10", "--telemetry-s", "2", "--site", "demo", "--camera", "street"]

    def _report(self, film: Film, tap: Tap, sent: int) -> Report:
        config = self._config
        with Store(self._out / "store") as store:
            evidence = read_evidence(self._out / "journal", store, tap.telemetry)
        annotations = self._out / "street" / "annotations.json"
        truth = Truth(annotations, film.fps) if config.video is None else None
        matches = [truth.match(clip) for clip in evidence.clips] if truth else []
        ledger = ledger_of(evidence, sent, tap.acknowledged, tap.rejected)
        report = Report(
            source=Source(
                title=film.path.name if config.video else "A rendered street",
                rendered=config.video is None,
                frames_sent=sent,
                fps=film.fps,
                resolution_wh=film.resolution_wh,
            ),
            ledger=ledger,
            gates=gates_of(ledger, config.least_crops),
            rejected_by_reason=evidence.rejected_objects(),
            refused_moments=evidence.refused_moments(),
            timings=timings_of(evidence),
            truth=judge(matches, truth.objects) if truth else None,
            crops=crops_of(evidence),
            stages_s={name: round(took_s, 1) for name, took_s in self._stages.took_s.items()},
            walt_version=_version(),
            anonymiser=evidence.clips[0].header.origin.anonymiser if evidence.clips else "",
            seed=config.seed if config.video is None else None,
        )
        write_report(self._out, report, evidence, matches)
        return report


def _frames_so_far(journal: JournalTail, tap: Tap) -> int:
    """How far the film is: by the journal, and by telemetry while the agent learns its plate and writes none."""
    return max(journal.poll() + 1, tap.telemetry.frames_received if tap.telemetry else 0)


def start_camera(stations: Stations, film: Film) -> tuple[Station, str]:
    """Starts the camera server on a free port; returns it and its URL."""
    words = [program("walt-edge"), "camera", "--input", str(film.path), "--port", "0", "--once"]
    camera = stations.start("camera", words)
    camera.wait_for(lambda: _url(camera) is not None, _READY_S, "starting")
    url = _url(camera)
    assert url is not None
    return camera, url


def film_of(path: Path) -> Film:
    """Looks at a video or folder of stills.

    Raises:
        UsageError: There is nothing to play.
    """
    if path.is_dir():
        stills = sorted(still for still in path.iterdir() if still.suffix.lower() in _STILLS)
        first = cv2.imread(str(stills[0])) if stills else None
        if first is None:
            raise UsageError(
                f"{path} holds no stills ({', '.join(_STILLS)}) that can be read: give a video or a folder"
            )
        return Film(path, len(stills), _FOLDER_FPS, (first.shape[1], first.shape[0]))
    if not path.is_file():
        raise UsageError(f"{path} does not exist: give a video file or a folder of stills")
    video = cv2.VideoCapture(str(path))
    frames, fps = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), float(video.get(cv2.CAP_PROP_FPS))
    size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    video.release()
    if frames < 1 or fps <= 0:
        raise UsageError(f"{path} is not a video that can be read: convert it to MP4")
    return Film(path, frames, fps, size)


def clear(out: Path) -> None:
    """Makes the folder, or empties it if it holds an older demo.

    Raises:
        UsageError: It holds something else, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: give another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise UsageError(f"{out} holds something that is no demo of ours: give another --out")
    try:
        if out.is_dir():
            for child in out.iterdir():
                if child.name != MARKER:
                    shutil.rmtree(child) if child.is_dir() else child.unlink()
        (out / "logs").mkdir(parents=True)
        (out / MARKER).touch()
    except OSError as error:
        raise UsageError(f"cannot write in {out}: {error.strerror}; give another --out") from error


def check(report: Report) -> None:
    """Raises StationError, in one line, if a station did not do its work."""
    failures = failing(report.gates)
    if failures:
        raise StationError(failures)


def _url(camera: Station) -> str | None:
    found = re.search(r"^rtsp://\S+$", camera.said(), re.MULTILINE)
    return found.group(0) if found else None


def _version() -> str:
    try:
        return version("walt-amodal")
    except PackageNotFoundError:
        return "unknown"
