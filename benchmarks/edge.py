"""The whole agent on two cores: frames a second, their age, an idle street, memory, and recovery from faults.

    python -m benchmarks.edge --out docs/benchmarks/edge.json      (90 minutes, an hour of them for memory)
    python -m benchmarks.edge --only memory --minutes 60 --out docs/benchmarks/edge.json
    python -m benchmarks.edge --quick

With `--only` the other rows of the file stay as they were. Everything is real and on the same cores: `walt-edge run`
as a process with the packaged model, GStreamer's RTSP server playing a film that was encoded before, Mosquitto, and
`walt-loop ingest`. Figures are the agent's own (`/api/figures`), memory and processor time are the kernel's, over all
its processes (`benchmarks.edge_memory` says what is read off). The limit is measured in the same run: the model
alone, on a machine that does nothing else.

`--faces DIR` (a folder with a pulled face detector) measures the memory with it as well.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
from tqdm import tqdm

from benchmarks import faults
from benchmarks.edge_films import SIZE_WH, busy_film, still_film
from benchmarks.edge_memory import Course, Memory, watch
from benchmarks.report import Report, arguments
from walt_edge.camera import open_camera
from walt_edge.contract.errors import WaltError
from walt_edge.detector import Detector
from walt_edge.rtsp_server import RtspServer
from walt_edge.web.status import AgentFigures
from walt_train.loop.children import Stations, program
from walt_train.loop.demo.broker import HOST, free_port, start_broker

BUSY_FPS = 25.0  # more than two cores can watch
CALM_FPS = 5.0
LOOKS_PER_S = 5.0
WARM_FRAMES = 400
"""Watched until every buffer was full once, and the busiest moment of the film has passed."""
_FACES_S = 600.0
_PATIENCE_S = 120.0
_MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Spans:
    """How long each part is measured, seconds; a part of 0 is left out."""

    warm_up_s: float = 25
    busy_s: float = 60
    budget_s: float = 60
    calm_s: float = 60
    idle_s: float = 60
    slope_s: float = 3600
    faults: int = 14


QUICK = Spans(warm_up_s=2, busy_s=8, budget_s=0, calm_s=0, idle_s=0, slope_s=0, faults=0)


class Told(msgspec.Struct):
    """What `/api/figures` answers."""

    figures: AgentFigures


@dataclass(eq=False)
class Agent:
    """A running agent, its figures and what it takes of the machine."""

    pid: int
    port: int

    def figures(self) -> AgentFigures:
        """What it says of itself."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/api/figures", timeout=10) as answer:
            return msgspec.json.decode(answer.read(), type=Told).figures

    def processed(self) -> int:
        """Frames that were watched so far, all cameras."""
        return sum(lane.frames_processed for lane in self.figures().lanes)

    def cpu_s(self) -> float:
        """Processor time of its processes."""
        return sum(sum(one.cpu_times()[:2]) for one in self._processes())

    def crops(self) -> int:
        """Crops and plates that were taken for home so far."""
        return self.figures().spool.counts.accepted

    def _processes(self) -> list[psutil.Process]:
        own = psutil.Process(self.pid)
        return [own, *own.children(recursive=True)]


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--faces", type=Path, metavar="DIR", help="measure with the face detector in it as well")
    parser.add_argument(
        "--minutes", type=float, default=60, help="over which the memory's slope is taken (%(default)s)"
    )
    parser.add_argument("--only", choices=[_MEMORY], help="measure this alone, and leave the rest of --out as it is")
    args = parser.parse_args()
    spans = QUICK if args.quick else Spans(slope_s=60 * args.minutes)
    report = Report("edge", {"seed": args.seed, "size": "{}x{}".format(*SIZE_WH)})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        film, report.facts["film"] = busy_film(folder)
        if args.only is None:
            _measure_busy(report, folder, film, spans)
        if args.only is None and not args.quick:
            _measure_calm(report, folder, film, spans)
            _measure_idle(report, folder, film, spans)
            faults.measure(report, spans.faults, args.seed)
        if not args.quick:
            _measure_memory(report, folder, film, spans, args.faces)
    before = json.loads(args.out.read_text()) if args.only and args.out and args.out.is_file() else None
    report.finish(args.out)
    if before is not None:
        args.out.write_text(json.dumps(_merged(before, json.loads(args.out.read_text())), indent=1) + "\n")


def _merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The older file with the newer one's rows about memory in place of its own."""
    kept = [row for row in before["rows"] if not row["what"].startswith(_MEMORY)]
    return {**before, "rows": [*kept, *now["rows"]], "run": {**before["run"], **now["run"]}}


def _measure_busy(report: Report, folder: Path, film: Path, spans: Spans) -> None:
    """As many frames as two cores can watch, and what the model alone would allow."""
    alone_ms = _model_alone_ms(film)
    report.add("limit: the model alone, a frame, median", alone_ms, "ms", better="lower")
    ways = {
        "every frame looked at": (0.0, 8.0, spans.busy_s),
        f"{LOOKS_PER_S:g} looks a second": (LOOKS_PER_S, 10.0, spans.budget_s),
    }
    for name, (looks, target, span_s) in ways.items():
        if not span_s:
            continue
        with running(folder, film, BUSY_FPS, spans, max_fps=looks) as agent:
            before, crops, began_s = agent.processed(), agent.crops(), time.monotonic()
            cpu_s = agent.cpu_s()
            _pass_time(span_s, name)
            took_s = time.monotonic() - began_s
            fps = (agent.processed() - before) / took_s
            report.add(f"busy street, {name}: frames watched", fps, "a second", target=target)
            report.add(f"busy street, {name}: objects", _objects(agent), "in a frame")
            report.add(f"busy street, {name}: crops leaving", (agent.crops() - crops) / took_s, "a second")
            report.add(f"busy street, {name}: processor", (agent.cpu_s() - cpu_s) / took_s, "cores", better="lower")
            _add_stages(report, f"busy street, {name}", agent)
            if not looks:
                report.add("the same, share of what the model alone allows", fps * alone_ms / 10, "%")


def _measure_calm(report: Report, folder: Path, film: Path, spans: Spans) -> None:
    """The age of frames where the camera gives no more than can be watched."""
    with running(folder, film, CALM_FPS, spans) as agent:
        _pass_time(spans.calm_s, "5 frames a second")
        [lane] = agent.figures().lanes
        report.add("5 frames a second: watched", lane.fps, "a second")
        report.add("5 frames a second: frame age, p50", lane.frame_age.p50_ms, "ms", better="lower")
        report.add("5 frames a second: frame age, p99", lane.frame_age.p99_ms, "ms", target=500, better="lower")


def _measure_idle(report: Report, folder: Path, film: Path, spans: Spans) -> None:
    """A street in which nothing happens, with a sensor's noise."""
    still = still_film(film, folder / "still.mp4")
    with running(folder, still, CALM_FPS, spans) as agent:
        before, began_s = agent.cpu_s(), time.monotonic()
        _pass_time(spans.idle_s, "idle street")
        share = (agent.cpu_s() - before) / (time.monotonic() - began_s)
        report.add("idle street, 5 frames a second: processor", 100 * share, "% of a core", target=10, better="lower")
        [lane] = agent.figures().lanes
        gated = lane.frames_skipped.get("gated", 0) / max(1, lane.frames_received)
        report.add("idle street: frames passed over by the gate", 100 * gated, "%")


def _measure_memory(report: Report, folder: Path, film: Path, spans: Spans, faces: Path | None) -> None:
    with running(folder, film, CALM_FPS, spans) as agent:
        report.add("memory, all processes (PSS)", Memory.of(agent.pid).pss, "MiB", target=400, better="lower")
        warm_up(agent)
        frames, crops = agent.processed(), agent.crops()
        course = watch(agent.pid, spans.slope_s)
        _add_course(report, course)
        what = f"memory over {course.minutes[-1]:.0f} minutes:"
        report.add(f"{what} frames watched meanwhile", agent.processed() - frames)
        report.add(f"{what} crops taken meanwhile", agent.crops() - crops)
    if faces is not None:
        with running(folder, film, CALM_FPS, spans, faces=faces) as agent:
            warm_up(agent)
            course = watch(agent.pid, min(_FACES_S, spans.slope_s))
            report.add("memory with the face detector (PSS)", course.most("pss"), "MiB", target=550, better="lower")
            slope = course.slope("written")
            report.add(
                "memory with the face detector: slope of what is written", slope, "MiB a minute", better="lower"
            )


def _add_course(report: Report, course: Course) -> None:
    """Held to the target is the slope of what the agent has written: the others move with other processes."""
    minutes, half = course.minutes[-1], course.minutes[-1] / 2
    what = f"memory over {minutes:.0f} minutes:"
    unit = "MiB a minute"
    report.add(f"{what} slope of what is written", course.slope("written"), unit, target=1, better="lower")
    report.add(
        f"{what} the same, in their second half", course.slope("written", from_minute=half), unit, better="lower"
    )
    report.add(f"{what} slope of USS", course.slope("uss"), unit, better="lower")
    report.add(f"{what} slope of PSS", course.slope("pss"), unit, better="lower")
    report.add(f"{what} most (PSS)", course.most("pss"), "MiB", target=400, better="lower")
    report.add(f"{what} most that was written", course.most("written"), "MiB", better="lower")


def warm_up(agent: Agent, frames: int = WARM_FRAMES) -> None:
    """Waits until it has watched so many frames: buffers fill with content, not with time."""
    deadline = time.monotonic() + _PATIENCE_S + frames
    with tqdm(total=frames, desc="warm-up", unit="frame", leave=False, disable=None) as bar:
        while (seen := agent.processed()) < frames:
            if time.monotonic() > deadline:
                raise WaltError(f"only {seen} of {frames} frames were watched in time: free the processor")
            bar.update(seen - bar.n)
            time.sleep(0.5)


def _model_alone_ms(film: Path) -> float:
    detector = Detector.load()
    times = []
    with open_camera(str(film)) as camera:
        for _ in range(60):
            frame = camera.read(1)
            assert frame is not None
            began_s = time.perf_counter()
            detector.predict(frame.bgr)
            times.append(1e3 * (time.perf_counter() - began_s))
    return float(np.median(times[10:]))


def _add_stages(report: Report, what: str, agent: Agent) -> None:
    [lane] = agent.figures().lanes
    report.add(f"{what}: frame age, p99", lane.frame_age.p99_ms, "ms", better="lower")
    for name, spread in lane.stages.items():
        report.add(f"{what}: {name}, p50", spread.p50_ms, "ms", better="lower")


def _objects(agent: Agent) -> float:
    """In the frames of some seconds."""
    counts = []
    for _ in range(20):
        counts.append(sum(lane.objects_now for lane in agent.figures().lanes))
        time.sleep(0.3)
    return float(np.mean(counts))


@contextmanager
def running(
    folder: Path,
    film: Path,
    fps: float,
    spans: Spans,
    *,
    max_fps: float = 0.0,
    faces: Path | None = None,
    command: Sequence[str] = (),
) -> Iterator[Agent]:
    """An agent that watches the film in a loop and has learned its background, with all that belongs to it.

    Args:
        folder: For what they write.
        film: What the camera shows.
        fps: How fast.
        spans: Of these, how long to warm up.
        max_fps: Looks of the model a second; 0: every frame.
        faces: A folder with a face detector.
        command: What is started in the place of `walt-edge`.
    """
    port = free_port()
    with (
        tempfile.TemporaryDirectory(dir=folder) as home,
        RtspServer(film, fps=fps, loop=True) as server,
        Stations(Path(home)) as stations,
    ):
        _, broker = start_broker(stations, Path(home) / "broker")
        address = f"{HOST}:{broker}"
        stations.start("ingest", [program("walt-loop"), "ingest", "--broker", address, "--store", f"{home}/store"])
        told = {
            "WALT_EDGE_WEB__PORT": str(port),
            "WALT_EDGE_INFERENCE__MODEL": "general",
            "WALT_EDGE_PRIVACY__FACES": str(faces) if faces else "off",
            **({"WALT_EDGE_INFERENCE__MAX_FPS": str(max_fps)} if max_fps else {}),
            "XDG_CONFIG_HOME": f"{home}/config",
        }
        words = ["env", *(f"{key}={value}" for key, value in told.items())]
        words += [*(command or [program("walt-edge")]), "run"]
        options = ["--rtsp", server.url, "--broker", address, "--home", f"{home}/agent"]
        station = stations.start("agent", [*words, *options])
        agent = Agent(station.pid, port)
        station.wait_for(lambda: _watches(agent), _PATIENCE_S, "learning the background")
        _pass_time(spans.warm_up_s, "warm-up")
        yield agent
        assert station.running, station.last_words()


def _watches(agent: Agent) -> bool:
    try:
        return agent.figures().lanes[0].objects_seen > 0 or agent.processed() > 100
    except OSError:
        return False


def _pass_time(span_s: float, what: str) -> None:
    for _ in tqdm(range(round(span_s * 4)), desc=what, leave=False, disable=None):
        time.sleep(0.25)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    main()
