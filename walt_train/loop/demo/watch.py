"""An agent before the demo's camera: from the film's first frame until enough was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from walt_train.loop.children import Station, Stations, program
from walt_train.loop.demo.films import Film, start_camera
from walt_train.loop.demo.progress import Bars, JournalTail
from walt_train.loop.demo.tap import Tap
from walt_train.loop.report.evidence import JOURNAL_NAME

_FINISH_S = 60.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Watch:
    """One watch of the agent.

    Attributes:
        name: How its processes and its bar are called.
        film: What the camera plays.
        loops: Whether the camera begins again at the film's end.
        at_most_s: The watch is no longer than this, seconds.
        home: The agent's folder, the same for every watch.
        journal: Gets the agent's diary.
        broker: HOST:PORT.
        words: Further options of the agent.
    """

    name: str
    film: Film
    loops: bool
    at_most_s: float
    home: Path
    journal: Path
    broker: str
    words: Sequence[str] = field(default=())

    def agent(self, url: str) -> list[str]:
        """The agent's command line."""
        words = [program("walt-edge"), "run", "--rtsp", url, "--broker", self.broker, "--home", str(self.home)]
        words += ["--journal", str(self.journal), "--journal-every", "10", "--telemetry-s", "2"]
        # A film of minutes lies in one block of time: all of it would be held out, or none.
        words += ["--set", "frames.holdout_share=0"]
        return [*words, "--site", "demo", "--camera", "street", *self.words]


def play(
    stations: Stations,
    watch: Watch,
    tap: Tap,
    others: Sequence[Station],
    is_enough: Callable[[JournalTail], bool] = lambda _: False,
) -> int:
    """Plays the film before an agent until its end, until it is enough, or until the time is over.

    Returns:
        How many frames were played.

    Raises:
        StationError: The camera, the agent or another station ended and should not have.
    """
    camera, url = start_camera(stations, f"{watch.name}-camera", watch.film, loops=watch.loops)
    agent = stations.start(f"{watch.name}-agent", watch.agent(url))
    journal = JournalTail(watch.journal / JOURNAL_NAME)
    deadline = time.monotonic() + watch.at_most_s
    total = None if watch.loops else watch.film.frames
    with Bars() as bars:
        while camera.running and time.monotonic() < deadline and not is_enough(journal):
            for station in (agent, *others):
                if not station.running:
                    raise station.failure()
            bars.show("watched", _frames_so_far(journal, tap), total)
            bars.show("at home", tap.acknowledged, None, "envelope")
            time.sleep(_POLL_S)
        is_whole = not camera.running
        if is_whole and camera.status != 0:
            raise camera.failure()
        agent.ask_to_stop()
        if agent.wait(_FINISH_S) != 0:
            raise agent.failure()
        bars.show("at home", tap.acknowledged, None, "envelope")
    camera.end()
    return watch.film.frames if is_whole else _frames_so_far(journal, tap)


def _frames_so_far(journal: JournalTail, tap: Tap) -> int:
    """How far the film is: by the journal, and by telemetry while the agent learns its plate and writes none."""
    return max(journal.poll() + 1, tap.telemetry.frames_received if tap.telemetry else 0)
