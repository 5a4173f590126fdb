"""What each step does. Every step may be killed at any moment and begun again: it ends with the same files.

A step works in the generation's folder and leaves what it made whole or not at all; what it returns is written into
the table by its caller. Training goes on from its own state, export and evaluation are made again, and publishing
looks first whether these very bytes are released already.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from walt_edge.contract.bundle import Bundle
from walt_edge.contract.clipart import FILE_NAME, ClipArt, read_clipart
from walt_edge.contract.errors import WaltError
from walt_edge.contract.files import flush
from walt_edge.contract.labels import Label
from walt_train.loop.gate.judging import Court, Judging
from walt_train.loop.gate.verdict import Decision, Verdict
from walt_train.loop.lineage.made import (
    Record,
    exported,
    froze,
    judged,
    published,
    roles_in,
    trained,
    write_came,
)
from walt_train.loop.lineage.record import buried
from walt_train.loop.serve.attempt import Attempt, Watch
from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import Generation, Jobs, StepName
from walt_train.loop.serve.programs import Programs
from walt_train.loop.serve.rollout import Publisher
from walt_train.loop.serve.runners.local import LocalRunner
from walt_train.loop.serve.runners.runner import Runner
from walt_train.loop.serve.triggers.reading import devices_of
from walt_train.loop.serve.triggers.rules import Threshold
from walt_train.loop.store.store import Store
from walt_train.mining.records import EpochRecord, read_record

LOGGER = logging.getLogger(__name__)
_FAILURES_RESUMED = 2
_POSE_OBJECTS_MIN = Threshold().tracks


class StepError(WaltError):
    """A step cannot be done as it stands."""


class RefusedError(WaltError):
    """The gate does not let the candidate pass."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step gave: its result, a line for people, and what writes down where it came from."""

    result: Mapping[str, object]
    line: str = ""
    record: Record = lambda connection: None


class Workshop:
    """Does the steps of generations.

    Args:
        store: Where clip art comes from.
        home: Where generations lie.
        jobs: The table, to look up champions.
        programs: Who trains, exports and evaluates.
        publisher: Who releases.
        judging: How candidates are judged.
        runner: Where programs run; here by default.
    """

    def __init__(
        self,
        store: Store,
        home: Path,
        jobs: Jobs,
        programs: Programs,
        publisher: Publisher,
        judging: Judging,
        runner: Runner | None = None,
    ) -> None:
        self._store = store
        self._home = home
        self._jobs = jobs
        self._programs = programs
        self._publisher = publisher
        self._judging = judging
        self._runner = runner or LocalRunner()
        self._court = Court(store, home, jobs, programs, judging)

    def do(self, name: StepName, generation: Generation, watch: Watch) -> Outcome:
        """Does one step.

        Raises:
            RefusedError: The gate did not let it pass.
            WaltError, OSError: It failed; it may be tried again.
        """
        folder = Folder.of(self._home, generation)
        run = Attempt(name, generation, folder, self._home, watch, self._runner, self._jobs)
        run.folder.root.mkdir(parents=True, exist_ok=True)
        steps: dict[StepName, Callable[[Attempt], Outcome]] = {
            StepName.CLIPART: self._clipart,
            StepName.TRAIN: self._train,
            StepName.EXPORT: self._export,
            StepName.JUDGE: self._judge,
            StepName.PUBLISH: self._publish,
        }
        return steps[name](run)

    def _clipart(self, run: Attempt) -> Outcome:
        """Freezes the camera's clip art, mined once more at home; held-out crops are not among it."""
        final, partial = run.folder.clipart, run.folder.partial
        if final.is_dir() and self._is_buried(final):
            LOGGER.warning("%s: something of its clip art was deleted: it is frozen anew", run.generation.title)
            shutil.rmtree(final)
        if not final.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
            chosen = self._mine(run, partial)
            for path in [*chosen.rglob("*"), chosen]:
                flush(path)
            chosen.rename(final)
            flush(final.parent)
        shutil.rmtree(partial, ignore_errors=True)
        clipart = read_clipart(final)
        labels = sorted({clip.header.label for clip in clipart.clips})
        if len(labels) < len(Label):
            missing = " and ".join(label.title for label in Label if label not in labels)
            LOGGER.warning("%s: no %s in its clip art, so it will know none", run.generation.title, missing)
        result = _clipart_result(final, clipart, labels)
        return Outcome(result, record=froze(run.maker, result["sha256"], final, roles_in(final, clipart)))

    def _is_buried(self, frozen: Path) -> bool:
        """Whether something that was frozen has been deleted since."""
        with self._store.engine.connect() as connection:
            return bool(buried(connection, list(roles_in(frozen, read_clipart(frozen)))))

    def _mine(self, run: Attempt, partial: Path) -> Path:
        """What came over the wire by poses of the camera, objects counted once; returns the folder to train on."""
        camera = run.generation.camera
        came = self._store.export_clipart(partial / "came", camera, holdout=False)
        if not came.clips or not came.plates:
            raise StepError(
                f"{len(came.clips)} crops and {len(came.plates)} plates of {camera}: "
                "expected some of both; let the camera watch on"
            )
        mined = partial / "mined"
        run.child("mine", self._programs.mine(partial / "came", mined))
        epochs = read_record(mined).epochs
        present = present_pose(epochs)
        if len(epochs) > 1:
            LOGGER.warning(
                "%s: the camera has stood in %d poses; %d of %d crops are of the one that it trains for",
                *(run.generation.title, len(epochs), present.clips, sum(epoch.clips for epoch in epochs)),
            )
        write_came(mined / present.folder, came)
        return mined / present.folder

    def _train(self, run: Attempt) -> Outcome:
        """Trains, going on where it was; what failed twice is begun anew."""
        if run.generation.step(StepName.TRAIN).failures >= _FAILURES_RESUMED and run.folder.train.exists():
            # A state of an older program, or a damaged one, would stop every attempt alike.
            LOGGER.warning("%s: training begins anew", run.generation.title)
            shutil.rmtree(run.folder.train)
        run.draw(self._programs)
        checkpoint = run.folder.train / "checkpoint.pt"
        words = self._programs.fit(run.folder.clipart, run.folder.train, run.generation)
        run.child("train", words, is_heavy=True)
        sha256 = _sha256(checkpoint)
        record = trained(run.maker, run.generation.clipart_sha256, sha256, checkpoint)
        return Outcome({"checkpoint": str(checkpoint.relative_to(run.folder.root)), "sha256": sha256}, record=record)

    def _export(self, run: Attempt) -> Outcome:
        words = self._programs.export(run.folder.train / "checkpoint.pt", run.folder.bundle)
        run.child("export", words, is_heavy=True)
        bundle = Bundle.read(run.folder.bundle)
        name, checkpoint = bundle.manifest.name, run.generation.step(StepName.TRAIN).result["sha256"]
        record = exported(run.maker, checkpoint, bundle.sha256, name, run.folder.bundle)
        return Outcome({"bundle": run.folder.bundle.name, "sha256": bundle.sha256, "name": name}, record=record)

    def _judge(self, run: Attempt) -> Outcome:
        """Has the gate judge it, and writes down by which holdouts."""
        sentence = self._court.judge(run)
        bundle = run.generation.step(StepName.EXPORT).result["sha256"]
        records = [judged(run.maker, bundle, truth, run.folder.verdict) for truth in sentence.holdouts or ("",)]

        def record(connection: Connection) -> None:
            for one in records:
                one(connection)

        return Outcome(msgspec.to_builtins(sentence.verdict), sentence.verdict.line, record)

    def _publish(self, run: Attempt) -> Outcome:
        """Releases what the gate let pass, once."""
        verdict = msgspec.convert(run.generation.step(StepName.JUDGE).result, Verdict)
        is_asked = verdict.decision is Decision.UNJUDGED and self._judging.publish_unjudged
        if verdict.decision is not Decision.PASSED and not is_asked:
            hint = "; --publish-unjudged publishes it all the same" * (verdict.decision is Decision.UNJUDGED)
            raise RefusedError(f"{verdict.line}{hint}")
        if is_asked:
            LOGGER.warning("%s: %s; published as asked", run.generation.title, verdict.line)
        _check_judged(run)
        devices = devices_of(self._store.engine, run.generation.camera)
        # A worker that lost its lease while it slept must not release what another one is releasing.
        self._jobs.renew(run.generation)
        release = self._publisher.publish(run.folder.bundle, devices, run.generation)
        names = [f"{device.site}/{device.device}" for device in devices]
        result = {"release": release.number, "target": release.target, "sha256": release.sha256, "devices": names}
        # The rollout notes whom it tells, when it does.
        record = published(run.maker, release.sha256, release.number, release.target, ())
        return Outcome(result, f"release {release.number} for {', '.join(names)[:200]}", record)


def present_pose(epochs: Sequence[EpochRecord]) -> EpochRecord:
    """Where the camera stands now; while it has seen too little there, where it has seen most."""
    enough = [epoch for epoch in epochs if epoch.objects >= _POSE_OBJECTS_MIN]
    return max(enough, key=lambda epoch: epoch.until_us) if enough else max(epochs, key=lambda epoch: epoch.objects)


def _check_judged(run: Attempt) -> None:
    """What is signed has to be, byte for byte, what was exported and judged."""
    judged = run.generation.step(StepName.EXPORT).result["sha256"]
    found = Bundle.read(run.folder.bundle).sha256
    if found != judged:
        raise StepError(
            f"{run.folder.bundle} has sha256 {found[:12]}..., the one that was judged {judged[:12]}...: "
            "restore it, or leave it to the next generation"
        )


def _clipart_result(folder: Path, clipart: ClipArt, labels: list[Label]) -> dict[str, Any]:
    return {
        "sha256": _sha256(folder / FILE_NAME),
        "crops": len(clipart.clips),
        "plates": len(clipart.plates),
        "labels": [label.title for label in labels],
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
