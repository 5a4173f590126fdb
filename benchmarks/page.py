"""What the agent's page costs the device: memory, and processor time while nobody, one or several people look.

    python -m benchmarks.page --out docs/benchmarks/page.json

A drawn street of 640x384 with 10 objects at 5 frames a second, shown through the real server, anonymiser's image type
and amodal masks; viewers are processes of their own that ask as a browser does. Processor time of the serving process
alone, in shares of one core. Memory is the proportional set size (PSS) that serving adds to a process that has the
agent's own libraries already.
"""

from __future__ import annotations

import http.client
import itertools
import subprocess
import sys
import time
import timeit
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

import cv2
import msgspec
import numpy as np

from benchmarks.report import Report, arguments
from walt_edge.agent.telemetry import Meter, Stage
from walt_edge.camera import CameraStats
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.masks import PatchMask
from walt_edge.contract.messages import Clock, Moment
from walt_edge.privacy.anonymiser import Anonymiser
from walt_edge.web.board import LiveBoard
from walt_edge.web.processes import ProcessMeter
from walt_edge.web.settings import WebSettings
from walt_edge.web.status import AgentFigures, Health, LiveFrame, alive, ready

FRAME_WH = (640, 384)
OBJECTS = 10
FPS = 5
CAMERA = "gate"
MEMORY_MB = 35
_VIEWER = "import sys; from benchmarks.page import look; look(sys.argv[1], float(sys.argv[2]))"


class Street:
    """An agent view that shows one frame again and again under new times."""

    def __init__(self, seed: int) -> None:
        self.board = LiveBoard([CAMERA])
        self._meter = Meter("benchmark", CAMERA)
        self._frame = _frame(seed)

    def cameras(self) -> Sequence[str]:
        """Their names."""
        return self.board.cameras

    def live(self, camera: str) -> LiveFrame | None:
        """The newest frame."""
        return self.board.live(camera)

    def is_alive(self) -> Health:
        """As the agent answers."""
        return alive(self.figures().lanes)

    def is_ready(self) -> Health:
        """As the agent answers."""
        return ready(self.figures())

    def figures(self) -> AgentFigures:
        """As the agent answers, without its spool and uplink."""
        lane = self._meter.figures(CameraStats(), objects_seen=0, crops_chosen=0, rejected_by_reason={})
        return AgentFigures(site="s", device="d", version="0", anonymiser="1", lanes=(lane,))

    def play(self, seconds: float) -> None:
        """Shows frames at `FPS`, as a lane does."""
        for number in range(round(seconds * FPS)):
            self.step(number)
            time.sleep(1 / FPS)

    def step(self, number: int) -> None:
        """What a lane does for the page and the meter with one frame."""
        self._meter.turn()
        self._meter.received()
        for stage in Stage:
            self._meter.stages[stage].add(float(number))
        if self.board.is_watched(CAMERA):
            moment = msgspec.structs.replace(self._frame.captured, monotonic_ns=time.monotonic_ns())
            self.board.show(
                LiveFrame(
                    CAMERA,
                    self._frame.image,
                    moment,
                    instances=self._frame.instances,
                    track_ids=self._frame.track_ids,
                )
            )
        self._meter.processed(time.monotonic_ns())


def main() -> None:
    """Measures, prints a table, writes JSON."""
    args = arguments(__doc__).parse_args()
    seconds = 10.0 if args.quick else 30.0
    report = Report(
        "page", {"seed": args.seed, "objects": OBJECTS, "size": "640x384", "fps": FPS, "seconds": seconds}
    )
    street = Street(args.seed)
    lane_us = _lane_us(street)
    report.add("meter and page for a frame that nobody watches", lane_us, "µs", better="lower")
    before = _pss_mb()
    from walt_edge.web.server import WebServer

    with WebServer(street, WebSettings(port=0)) as server:
        quiet = _share(street, seconds, server.url, 0)
        served = _pss_mb()
        report.add("page served, nobody looks", quiet, "of a core", target=0.01, better="lower")
        for viewers in (1, 4):
            share = _share(street, seconds, server.url, viewers) - quiet
            report.add(f"page served, {viewers} look at 5 fps", share, "of a core", better="lower")
        report.add("memory that serving adds", served - before, "MB PSS", target=MEMORY_MB, better="lower")
        report.add(
            "memory that serving and viewers add", _pss_mb() - before, "MB PSS", target=MEMORY_MB, better="lower"
        )
        report.add("a scrape of /metrics", _scrape_ms(server.url), "ms", better="lower")
    report.finish(args.out)


def look(url: str, seconds: float) -> None:
    """Asks as the page does, for frames at 5 a second and for figures every two."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    end_s = time.monotonic() + seconds
    for turn in itertools.count():
        if time.monotonic() > end_s:
            return
        for path in (f"/live/{CAMERA}", *(["/api/figures"] if turn % (2 * FPS) == 0 else [])):
            connection.request("GET", path)
            connection.getresponse().read()
        time.sleep(1 / FPS)


def _share(street: Street, seconds: float, url: str, viewers: int) -> float:
    """Processor time of this process over wall time, while so many look."""
    with ExitStack() as stack:
        for _ in range(viewers):
            viewer = subprocess.Popen([sys.executable, "-c", _VIEWER, url, str(seconds + 3)])
            stack.callback(viewer.wait)
        street.play(2)  # Until they are there.
        start_s, cpu_s = time.monotonic(), time.process_time()
        street.play(seconds)
        return (time.process_time() - cpu_s) / (time.monotonic() - start_s)


def _lane_us(street: Street) -> float:
    return 1e6 * min(timeit.repeat(lambda: street.step(1), number=1000, repeat=20)) / 1000


def _scrape_ms(url: str) -> float:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)

    def scrape() -> None:
        connection.request("GET", "/metrics")
        connection.getresponse().read()

    return 1e3 * min(timeit.repeat(scrape, number=1, repeat=30))


def _pss_mb() -> float:
    return ProcessMeter(kept_s=0.0).read().pss_bytes / 1e6


def _frame(seed: int) -> LiveFrame:
    width, height = FRAME_WH
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (height // 8, width // 8, 3), dtype=np.uint8)
    bgr = np.asarray(cv2.resize(coarse, FRAME_WH, interpolation=cv2.INTER_CUBIC), np.uint8)
    wholes = [_body(rng) for _ in range(OBJECTS)]
    plain = AmodalInstances.of_masks(FRAME_WH, [1] * OBJECTS, [0.9] * OBJECTS, wholes)
    front = tuple(PatchMask(one.x, one.y, one.mask & (np.arange(one.mask.shape[1]) < 20)) for one in wholes)
    boxes, labels, scores = plain.boxes_xyxy, plain.labels, plain.scores
    instances = AmodalInstances(FRAME_WH, boxes, labels, scores, plain.amodal, front, plain.occluded)
    image = Anonymiser()(bgr, (), np.zeros((height, width), bool))
    moment = Moment(utc_us=0, boot_id="benchmark", monotonic_ns=0, clock=Clock.SYNCHRONISED, media_time_s=0.0)
    return LiveFrame(CAMERA, image, moment, instances=instances, track_ids=tuple(range(OBJECTS)))


def _body(rng: np.random.Generator) -> PatchMask:
    """A blob with a rough edge, about 50x110 pixels."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, (110, 50)), (0, 0), 4) * 6
    rows, columns = np.mgrid[0:110, 0:50]
    inside = ((rows - 55) / 52) ** 2 + ((columns - 25) / 22) ** 2 + 0.25 * noise < 1
    return PatchMask(int(rng.integers(0, 590)), int(rng.integers(0, 274)), np.asarray(inside, bool))


if __name__ == "__main__":
    main()
