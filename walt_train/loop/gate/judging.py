"""The step that judges: lets programs evaluate and measure, collects what is known, asks the gate, writes the report.

Evidence that needs no evaluation comes first: a candidate that has seen what judges it is refused in a moment. Then
every holdout is looked at by the eyes without weights, by the champion and by the candidate, on the same frames, and
holdouts are checked once more: what changed while it judged has judged nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.files import write_whole
from walt_train.loop.children import StationError
from walt_train.loop.gate.evaluation import MOTION, GateError, read_evaluation
from walt_train.loop.gate.gate import Trial, evidence, export_findings, judge, refused
from walt_train.loop.gate.gather import answer_in, entrant_of, parity_of, provenance_of, versions_of
from walt_train.loop.gate.holdout import FILE_NAME as HOLDOUT
from walt_train.loop.gate.holdout import Holdout, HoldoutError, holdout_of, read_holdout
from walt_train.loop.gate.provenance import Provenance
from walt_train.loop.gate.rules import Rules
from walt_train.loop.gate.text import render
from walt_train.loop.gate.verdict import Cost, Entrant, Verdict, unjudged, write_verdict
from walt_train.loop.serve.attempt import Attempt
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import Jobs, StepName
from walt_train.loop.serve.programs import Programs
from walt_train.loop.serve.triggers.reading import devices_of
from walt_train.loop.store.store import Store

LOGGER = logging.getLogger(__name__)
_MEASURED = 3
"""How often two models are timed before one is called too slow: other work on the machine only adds to a time."""


@dataclass(frozen=True, slots=True)
class Judging:
    """How candidates are judged.

    Attributes:
        truths: Truth folders by camera.
        only_truths: Of the store's camera while there is one only.
        rules: What the gate asks for.
        publish_unjudged: Whether to publish where there is no truth to judge by.
    """

    truths: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    only_truths: Sequence[Path] = ()
    rules: Rules = field(default_factory=Rules)
    publish_unjudged: bool = False

    def folders(self, camera: str, cameras: Sequence[str]) -> Sequence[Path]:
        """What judges a camera's models; `cameras` are all that the store knows."""
        return self.truths.get(camera) or (self.only_truths if list(cameras) == [camera] else ())


@dataclass(frozen=True, slots=True)
class Sentence:
    """A verdict, and the `content_sha256` of what judged."""

    verdict: Verdict
    holdouts: tuple[str, ...] = ()


class Court:
    """Judges generations.

    Args:
        store: Knows cameras and devices.
        home: Where generations lie.
        jobs: The table, to look up champions.
        programs: Who evaluates and measures.
        judging: By what.
    """

    def __init__(self, store: Store, home: Path, jobs: Jobs, programs: Programs, judging: Judging) -> None:
        self._store = store
        self._home = home
        self._jobs = jobs
        self._programs = programs
        self._judging = judging

    def judge(self, run: Attempt) -> Sentence:
        """Judges a generation and leaves `verdict.json` and `verdict.txt` in its folder.

        Raises:
            WaltError, OSError: Something could not be read, measured or written; it may be tried again.
        """
        camera = run.generation.camera
        folders = self._judging.folders(camera, self._store.cameras())
        if not folders:
            sentence = Sentence(unjudged(f"no truth for {camera} (--truth {camera}=DIR)"))
        else:
            sentence = self._by(run, folders)
        write_verdict(run.folder.verdict, sentence.verdict)
        write_whole(run.folder.verdict.with_suffix(".txt"), render(sentence.verdict).encode())
        return sentence

    def _by(self, run: Attempt, folders: Sequence[Path]) -> Sentence:
        now_us = time.time_ns() // 1000
        holdouts = [holdout_of(folder, now_us) for folder in folders]
        _check_distinct(holdouts)
        names = tuple(one.content_sha256 for one in holdouts)
        provenance, rules = self._provenance(run), self._judging.rules
        bundle, champion = Bundle.read(run.folder.bundle), self._champion(run)
        entrant = entrant_of(bundle, None)
        other = Entrant(name=MOTION) if champion is None else entrant_of(Bundle.read(champion), None)
        found = evidence(entrant, other, holdouts, provenance, rules)
        if found:
            return Sentence(refused(entrant, other, holdouts, found, rules), names)
        costs, trouble = self._costs(run, champion)
        parity = parity_of(bundle, run.folder.train, _trained_sha256(run), trouble)
        if trouble:
            found = tuple(export_findings(parity, rules))
            return Sentence(refused(entrant, other, holdouts, found, rules), names)
        trials = [
            self._compare(run, folder, holdout, champion, number)
            for number, (folder, holdout) in enumerate(zip(folders, holdouts, strict=True), 1)
        ]
        verdict = judge(
            msgspec.structs.replace(entrant, cost=costs[0]),
            msgspec.structs.replace(other, cost=costs[1]),
            trials,
            provenance,
            parity=parity,
            rules=rules,
            versions=versions_of(bundle),
        )
        return Sentence(verdict, names)

    def _provenance(self, run: Attempt) -> Provenance:
        camera = run.generation.camera
        devices = [f"{one.site}/{one.device}" for one in devices_of(self._store.engine, camera)]
        return provenance_of(run.folder.clipart, run.folder.train, camera=camera, devices=devices)

    def _champion(self, run: Attempt) -> Path | None:
        """The bundle of what has to be beaten."""
        champion = self._jobs.champion(run.generation.camera)
        return None if champion is None else Folder.of(self._home, champion).bundle

    def _compare(self, run: Attempt, truth: Path, holdout: Holdout, champion: Path | None, number: int) -> Trial:
        """Evaluates what has to be beaten and the candidate on one holdout."""
        baseline = self._evaluate(run, MOTION, MOTION, truth, number)
        if champion is not None:
            baseline = self._evaluate(run, "champion", str(champion), truth, number)
        candidate = self._evaluate(run, "candidate", str(run.folder.bundle), truth, number, baseline)
        if (truth / HOLDOUT).exists() and read_holdout(truth) != holdout:
            raise HoldoutError(f"{truth} was frozen anew while it judged: let it judge again")
        return Trial(holdout, read_evaluation(candidate), read_evaluation(baseline))

    def _evaluate(
        self, run: Attempt, who: str, model: str, truth: Path, number: int, against: Path | None = None
    ) -> Path:
        out, pictures = run.folder.report(who, number), run.folder.pictures(who, number)
        out.parent.mkdir(exist_ok=True)
        title = who if number == 1 else f"{who}-{number}"
        run.child(title, self._programs.evaluate(model, truth, out, against, pictures))
        return out

    def _costs(self, run: Attempt, champion: Path | None) -> tuple[tuple[Cost | None, Cost | None], str]:
        """What candidate and champion cost on this machine, in turns; and why the candidate does not open here."""
        rules = self._judging.rules
        mine, trouble = self._measure(run, "cost-candidate", run.folder.bundle)
        if mine is None or champion is None:
            return (mine, None), trouble
        other, other_trouble = self._measure(run, "cost-champion", champion)
        if other is None:
            LOGGER.warning("%s: the champion does not open here: %s", run.generation.title, other_trouble)
            return (mine, None), trouble
        for _ in range(_MEASURED - 1):
            if mine.latency_ms_p50 <= other.latency_ms_p50 * rules.latency_factor:
                break
            again, _ = self._measure(run, "cost-candidate", run.folder.bundle)
            mine = least(mine, again)
            again, _ = self._measure(run, "cost-champion", champion)
            other = least(other, again)
        return (mine, other), trouble

    def _measure(self, run: Attempt, title: str, bundle: Path) -> tuple[Cost | None, str]:
        """Costs of a bundle, or what is wrong with it.

        Raises:
            GateError: This machine lacks what it takes.
        """
        log = run.folder.log(title, run.generation.step(StepName.JUDGE).attempts)
        failure: StationError | None = None
        try:
            run.child(title, self._programs.measure(bundle))
        except StationError as error:
            failure = error
        answer = answer_in(log)
        if answer.measured is None and not answer.unfit:
            raise GateError(f"{bundle} cannot be measured here: {answer.lacking or failure}") from failure
        return answer.measured, answer.unfit


def least(one: Cost, other: Cost | None) -> Cost:
    """The smaller figures of two measurements of one model."""
    if other is None:
        return one
    return Cost(
        latency_ms_p50=min(one.latency_ms_p50, other.latency_ms_p50),
        latency_ms_p99=min(one.latency_ms_p99, other.latency_ms_p99),
        memory_mb=min(one.memory_mb, other.memory_mb),
    )


def _check_distinct(holdouts: Sequence[Holdout]) -> None:
    names = [one.name for one in holdouts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise HoldoutError(f"two holdouts are called {twice[0]}: give each its own name, and none twice")


def _trained_sha256(run: Attempt) -> str:
    return str(run.generation.step(StepName.TRAIN).result["sha256"])
