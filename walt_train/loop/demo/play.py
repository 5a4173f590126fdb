"""Plays the demo: starts the stations in order, waits for each to do its work, then asks them to stop and reports."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from walt_edge.contract.errors import UsageError
from walt_train.loop.children import Station, StationError, Stations, program
from walt_train.loop.demo.broker import HOST, start_broker
from walt_train.loop.demo.films import FPS, Film, Street, film_of, render
from walt_train.loop.demo.learn import School, Wish, composites_of, learning_of, open_school, train_and_export
from walt_train.loop.demo.progress import JournalTail
from walt_train.loop.demo.tap import Tap
from walt_train.loop.demo.watch import Watch, play
from walt_train.loop.report.evidence import Evidence, read_evidence
from walt_train.loop.report.figures import (
    Ledger,
    Report,
    Source,
    crops_of,
    failing,
    gates_of,
    has_enough,
    learning_gates,
    ledger_of,
    timings_of,
)
from walt_train.loop.report.learning import Learning
from walt_train.loop.report.page import NOTHING_LEARNED, Learned, picture_of, write_report
from walt_train.loop.report.truth import Match, Truth, judge
from walt_train.loop.store.store import Store

LOGGER = logging.getLogger(__name__)
MARKER = ".walt-demo"
TRUTH_FPS = 2
_READY_S = 60.0
_FINISH_S = 60.0
_LATER_S = 300.0
_BY_MODEL = 150
"""So many frames by the new model are enough to show what it sees."""


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What to play.

    Attributes:
        out: Everything is written below it; an older demo there is replaced.
        video: A video file or folder of stills; None renders a street.
        seed: Of the rendered street and of the training.
        frames: How many frames to render for the first watch.
        later_frames: Frames of the same street, later, for the second watch.
        truth_frames: Frames of that later time whose truth judges, two a second.
        size: WxH of the rendered frames.
        watch_s: The camera is watched no longer than this at first, seconds.
        least_crops: Fewer stored crops are a failure.
        least_tracks: Of fewer objects, too, where a model is trained.
        learns: Whether home trains a model and gives it back.
        recipe: Of the training.
        steps: Optimiser steps.
        gain: Points of mask IoU at γ = 0.5 that generation 1 must be better than generation 0.
    """

    out: Path
    video: Path | None = None
    seed: int = 5
    frames: int = 2400
    later_frames: int = 400
    truth_frames: int = 480
    size: str = "768x432"
    watch_s: float = 270.0
    least_crops: int = 1
    least_tracks: int = 1
    learns: bool = True
    recipe: str = "demo"
    steps: int = 800
    gain: float = 5.0


@dataclass(frozen=True, slots=True)
class Films:
    """What is watched first, and later; the folder whose truth judges, where it is known."""

    first: Film
    later: Film
    truth: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class FirstWatch:
    """What the first watch gave."""

    sent: int
    evidence: Evidence
    ledger: Ledger
    matches: list[Match]
    true_objects: int


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
            films = self._films(stations)
            with self._stages.stage("start"):
                broker, port = start_broker(stations, self._out / "broker")
                ingest = self._start_ingest(stations, port)
            with Tap(HOST, port) as tap:
                with self._stages.stage("watch"):
                    first = self._first_watch(stations, films, port, tap, [broker, ingest])
                learnt = None
                if self._config.learns and has_enough(
                    first.evidence, self._config.least_crops, self._config.least_tracks
                ):
                    learnt = self._learn(stations, films, port, tap, [broker, ingest])
                ingest.ask_to_stop()
                if ingest.wait(_FINISH_S) != 0:
                    raise ingest.failure()
            with self._stages.stage("report"):
                return self._report(films, first, learnt)

    def _films(self, stations: Stations) -> Films:
        config = self._config
        if config.video is not None:
            film = film_of(config.video)
            return Films(film, film, None)
        first = Street(self._out / "street", config.seed, config.size, 0, config.frames)
        with self._stages.stage("render"):
            film = render(stations, first, "render")
            if not config.learns:
                return Films(film, film, None)
            later = replace(
                first, folder=self._out / "later", begin_s=config.frames / FPS, frames=config.later_frames
            )
            # Frames that lie further apart show more objects: what judges has to be many things, not many pictures.
            truth = replace(later, folder=self._out / "truth", frames=config.truth_frames, fps=TRUTH_FPS)
            render(stations, truth, "render-truth")
            return Films(film, render(stations, later, "render-later"), truth.folder)

    @property
    def _store(self) -> Path:
        return self._out / "store"

    def _start_ingest(self, stations: Stations, port: int) -> Station:
        words = [program("walt-loop"), "ingest", "--broker", f"{HOST}:{port}", "--store", str(self._store)]
        ingest = stations.start("ingest", words)
        ingest.wait_for(lambda: "connected to" in ingest.said(), _READY_S, "connecting to the broker")
        return ingest

    def _watch(self, name: str, film: Film, port: int, at_most_s: float) -> Watch:
        out = self._out
        return Watch(name, film, False, at_most_s, out / "home", out / "journal" / name, f"{HOST}:{port}")

    def _first_watch(
        self, stations: Stations, films: Films, port: int, tap: Tap, others: list[Station]
    ) -> FirstWatch:
        watch = self._watch("first", films.first, port, self._config.watch_s)
        sent = play(stations, watch, tap, others)
        with Store(self._store) as store:
            evidence = read_evidence(watch.journal, store, tap.telemetry)
        annotations = self._out / "street" / "annotations.json"
        truth = Truth(annotations, films.first.fps) if self._config.video is None else None
        matches = [truth.match(clip) for clip in evidence.clips] if truth else []
        ledger = ledger_of(evidence, sent, tap.acknowledged, tap.rejected)
        return FirstWatch(sent, evidence, ledger, matches, truth.objects if truth else 0)

    def _learn(
        self, stations: Stations, films: Films, port: int, tap: Tap, others: list[Station]
    ) -> tuple[Learning, Learned]:
        """Home makes a generation; while it judges, the agent watches again, and takes what home publishes."""
        config, out = self._config, self._out
        wish = Wish(
            config.recipe,
            config.steps,
            config.seed,
            config.gain,
            config.least_crops,
            config.least_tracks,
            films.truth,
        )
        with self._stages.stage("train"):
            school = open_school(stations, self._store, out / "loop", f"{HOST}:{port}", wish)
            train_and_export(school, wish, others)
        later = None
        if not school.has_ended:
            with self._stages.stage("watch again"):
                later = self._watch_again(stations, films, port, tap, [*others, school.station], school)
        with self._stages.stage("compose"):
            sheet = composites_of(stations, school, out / "composites", config.seed)
        return learning_of(school, wish, later), Learned(later, picture_of(sheet))

    def _watch_again(
        self, stations: Stations, films: Films, port: int, tap: Tap, others: list[Station], school: School
    ) -> Evidence:
        words = ["--updates", school.url, "--trust", str(school.trust)]
        watch = replace(self._watch("later", films.later, port, _LATER_S), loops=True, words=words)

        def is_enough(journal: JournalTail) -> bool:
            return journal.frames_by_model >= _BY_MODEL or school.has_given_up

        play(stations, watch, tap, others, is_enough)
        with Store(self._store) as store:
            return read_evidence(watch.journal, store, tap.telemetry)

    def _report(self, films: Films, first: FirstWatch, learnt: tuple[Learning, Learned] | None) -> Report:
        config, evidence, ledger = self._config, first.evidence, first.ledger
        learning, learned = learnt or (None, NOTHING_LEARNED)
        gates = gates_of(ledger, config.least_crops)
        if config.learns:
            gates += learning_gates(evidence, learning, (config.least_crops, config.least_tracks))
        report = Report(
            source=Source(
                title=films.first.path.name if config.video else "A rendered street",
                rendered=config.video is None,
                frames_sent=first.sent,
                fps=films.first.fps,
                resolution_wh=films.first.resolution_wh,
            ),
            ledger=ledger,
            gates=gates,
            rejected_by_reason=evidence.rejected_objects(),
            refused_moments=evidence.refused_moments(),
            timings=timings_of(evidence),
            truth=judge(first.matches, first.true_objects) if config.video is None else None,
            crops=crops_of(evidence),
            stages_s={name: round(took_s, 1) for name, took_s in self._stages.took_s.items()},
            walt_version=_version(),
            anonymiser=evidence.clips[0].header.origin.anonymiser if evidence.clips else "",
            seed=config.seed if config.video is None else None,
            learning=learning,
        )
        write_report(self._out, report, evidence, first.matches, learned)
        return report


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


def _version() -> str:
    try:
        return version("walt-amodal")
    except PackageNotFoundError:
        return "unknown"
