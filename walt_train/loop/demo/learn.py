"""Home during the demo: `walt-loop serve` makes a generation of what the first watch brought, and gives it back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from walt_train.loop.children import Station, Stations, program
from walt_train.loop.demo.progress import Bars
from walt_train.loop.gate.verdict import Verdict
from walt_train.loop.report.evidence import Evidence, ReportError
from walt_train.loop.report.learning import Learning, compared, curve, swap_of
from walt_train.loop.serve.folder import GENERATIONS, Folder, Progress, read_progress
from walt_train.loop.serve.jobs import ENDED, State, StepName

CAMERA = "street"
_LEARN_S = 900.0
_READY_S = 60.0
_URL = re.compile(r"https?://[^\s,;]+")
_US = 1e-6


@dataclass(frozen=True, slots=True)
class Wish:
    """What home is asked for.

    Attributes:
        recipe: Of the training.
        steps: Optimiser steps.
        seed: Of the training.
        gain: Points that the gate asks for.
        least_crops: Of clip art, before it begins.
        least_tracks: Objects that these show.
        truth: Folder that judges; None where no truth is known.
    """

    recipe: str
    steps: int
    seed: int
    gain: float
    least_crops: int
    least_tracks: int
    truth: Path | None


@dataclass(frozen=True, slots=True)
class School:
    """The first generation of the demo's camera.

    Attributes:
        station: `walt-loop serve`.
        folder: Where the generation lies.
        url: Where agents fetch bundles.
        trust: The root of trust for agents.
    """

    station: Station
    folder: Folder
    url: str
    trust: Path

    def progress(self) -> Progress | None:
        """How far it is; None before it has begun."""
        return read_progress(self.folder.progress)

    def state(self, name: StepName) -> State:
        """Of one step."""
        progress = self.progress()
        steps = progress.steps if progress else ()
        return next((one.state for one in steps if one.name is name), State.PENDING)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        progress = self.progress()
        return progress is not None and progress.state in ENDED

    @property
    def has_given_up(self) -> bool:
        """Whether it has ended and nothing was published."""
        return self.has_ended and self.state(StepName.PUBLISH) is not State.DONE


def open_school(stations: Stations, store: Path, home: Path, broker: str, wish: Wish) -> School:
    """Starts `walt-loop serve` and waits until agents can fetch from it.

    Raises:
        StationError: It does not come up.
    """
    words = [program("walt-loop"), "serve", "--store", str(store), "--home", str(home), "--broker", broker]
    words += ["--http", "127.0.0.1:0", "--recipe", wish.recipe, "--steps", str(wish.steps), "--seed", str(wish.seed)]
    words += ["--gain", str(wish.gain), "--min-crops", str(wish.least_crops), "--min-tracks", str(wish.least_tracks)]
    words += ["--publish-unjudged"] if wish.truth is None else ["--truth", str(wish.truth)]
    station = stations.start("serve", words)
    station.wait_for(lambda: _URL.search(station.said()) is not None, _READY_S, "starting")
    found = _URL.search(station.said())
    assert found is not None
    return School(
        station, Folder(home / GENERATIONS / CAMERA / "1"), found.group(0), home / "repository" / "root.json"
    )


def train_and_export(school: School, wish: Wish, others: Sequence[Station]) -> None:
    """Waits, with a bar, until there is a bundle, or nothing more to wait for.

    Raises:
        StationError: `serve` or another station ended, or the time is over.
    """
    with Bars() as bars:

        def is_done() -> bool:
            for station in others:
                if not station.running:
                    raise station.failure()
            progress = school.progress()
            bars.show("trained", progress.trained_steps if progress else 0, wish.steps, "step")
            return school.state(StepName.EXPORT) is State.DONE or school.has_ended

        school.station.wait_for(is_done, _LEARN_S, "training")


def composites_of(stations: Stations, school: School, out: Path, seed: int) -> Path:
    """Draws a sheet of composites out of the generation's clip art; returns the picture's path."""
    words = [program("walt-train"), "compose", "--clipart", str(school.folder.clipart), "--count", "6"]
    station = stations.start("compose", [*words, "--seed", str(seed), "--out", str(out)])
    if station.wait(120.0) != 0:
        raise station.failure()
    return out / "preview.png"


def learning_of(school: School, wish: Wish, later: Evidence | None) -> Learning:
    """What the report tells of it.

    Raises:
        ReportError: A file that the generation should have left is missing or malformed.
    """
    progress = school.progress()
    if progress is None:
        raise ReportError(f"no generation was begun in {school.folder.root}: see {school.station.log}")
    verdict = _verdict(school.folder, progress)
    reports = school.folder.report("motion"), school.folder.report("candidate")
    crops, tracks = _clips(school.folder)
    is_trained = (school.folder.train / "manifest.json").is_file()
    manifest = _manifest(school.folder) if is_trained else _Manifest()
    return Learning(
        generation=progress.number,
        crops=crops,
        tracks=tracks,
        steps=progress.trained_steps,
        recipe=wish.recipe,
        parameters=manifest.parameters,
        gflops=manifest.gflops,
        score_threshold=manifest.score_threshold,
        verdict=verdict.decision.value if verdict else "failed",
        says=verdict.line if verdict else progress.reason,
        compared=compared(*reports) if all(path.is_file() for path in reports) else [],
        curve=curve(school.folder.train / "curves.json") if is_trained else [],
        took_s=_took_s(progress),
        swap=swap_of(later) if later else None,
    )


class _Manifest(msgspec.Struct, frozen=True):
    parameters: int = 0
    gflops: float = 0.0
    score_threshold: float = 0.0


class _Header(msgspec.Struct, frozen=True):
    track_id: int


class _Clip(msgspec.Struct, frozen=True):
    header: _Header


class _ClipArt(msgspec.Struct, frozen=True):
    clips: list[_Clip]


def _manifest(folder: Folder) -> _Manifest:
    return msgspec.json.decode((folder.train / "manifest.json").read_bytes(), type=_Manifest)


def _clips(folder: Folder) -> tuple[int, int]:
    """Crops, and objects that they show."""
    try:
        found = msgspec.json.decode((folder.clipart / "clipart.json").read_bytes(), type=_ClipArt)
    except FileNotFoundError:
        return 0, 0
    return len(found.clips), len({clip.header.track_id for clip in found.clips})


def _verdict(folder: Folder, progress: Progress) -> Verdict | None:
    """The gate's word, if it was asked."""
    judged = next(one for one in progress.steps if one.name is StepName.JUDGE)
    if judged.state is not State.DONE:
        return None
    return msgspec.json.decode(folder.verdict.read_bytes(), type=Verdict)


def _took_s(progress: Progress) -> dict[str, float]:
    return {
        one.name.value: round((one.ended_us - one.started_us) * _US, 1)
        for one in progress.steps
        if one.started_us is not None and one.ended_us is not None
    }
