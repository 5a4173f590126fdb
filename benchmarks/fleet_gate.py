"""The gate before generations that look better and are not, and before honest ones.

    python -m benchmarks.fleet_gate --out docs/benchmarks/fleet_gate.json

Planted generations are ten points better by the measure, and have learned from what judges them, made its labels, or
are judged by their own device alone: all have to be refused, each for what was planted, and the same generation
without the plant passes. Honest ones are better, alike or worse by points that are known, some of them with harm that
one slice hides. At last a few real ones: a rendered street, really evaluated, with real files planted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.fleet_gate_real import real_generations
from benchmarks.fleet_gate_worlds import (
    CHAMPION,
    OWN,
    SEED,
    Generation,
    World,
    clean,
    everywhere,
    harming,
)
from benchmarks.report import Report, Row, arguments
from walt_train.loop.gate.holdout import HeldFrame, Holdout, Source
from walt_train.loop.gate.provenance import Learnt, Provenance
from walt_train.loop.gate.verdict import Decision, Kind

_US = 1_000_000
_BETTER = 10.0

Plant = Callable[[np.random.Generator, Generation], None]


def main() -> int:
    """Measures, prints a table, writes JSON."""
    args = arguments(__doc__).parse_args()
    report = Report("fleet_gate", {"seed": args.seed})
    with tempfile.TemporaryDirectory(prefix="walt-gate-") as folder:
        measure(report, args.quick, Path(folder), args.seed)
    report.finish(args.out)
    return 0 if all(row.met for row in report.rows) else 1


def rows(quick: bool, folder: Path) -> list[Row]:
    """All figures."""
    report = Report("fleet_gate")
    measure(report, quick, folder)
    return report.rows


def measure(report: Report, quick: bool, folder: Path, seed: int = 1) -> None:
    """Adds all figures to a report.

    Args:
        report: Gets them.
        quick: A few generations of each kind, and none that is really evaluated.
        folder: Empty; holds real files.
        seed: Of everything random.
    """
    began_s = time.monotonic()
    chance = np.random.default_rng(seed)
    _planted(report, chance, 1 if quick else 12)
    _honest(report, chance, 2 if quick else 40)
    _hidden_harm(report, chance, 1 if quick else 12)
    if not quick:
        _real(report, folder)
    report.add("it took", time.monotonic() - began_s, "s")


def _planted(report: Report, chance: np.random.Generator, each: int) -> None:
    """Better by the measure, each with one plant."""
    caught = named = total = clean_passed = 0
    for kind, plant in PLANTS:
        for _ in range(each):
            generation = Generation(World.of(chance), everywhere(_BETTER, chance), provenance=clean(chance))
            draws = int(chance.integers(2**32))
            clean_passed += generation.judged(np.random.default_rng(draws)).decision is Decision.PASSED
            plant(chance, generation)
            verdict = generation.judged(np.random.default_rng(draws))
            total += 1
            caught += verdict.decision is Decision.REFUSED
            named += kind in {one.kind for one in verdict.findings}
    report.add("planted generations, better by the measure", total, target=100 if each > 1 else None)
    report.add("  refused", 100 * caught / total, "%", target=100)
    report.add("  refused for what was planted", 100 * named / total, "%", target=100)
    report.add("  the same without the plant: passed", 100 * clean_passed / total, "%", target=90)


def _honest(report: Report, chance: np.random.Generator, each: int) -> None:
    """Better, alike and worse by known points everywhere."""
    for points, wanted in ((8.0, 90.0), (4.0, None), (2.0, None), (0.0, None), (-4.0, 100.0)):
        decided: list[Decision] = []
        harmed = 0
        for _ in range(each):
            verdict = Generation(World.of(chance), everywhere(points, chance)).judged(chance)
            decided.append(verdict.decision)
            harmed += any(one.kind is Kind.HARM for one in verdict.findings)
        passed = sum(one is Decision.PASSED for one in decided)
        name = f"honest, really {points:+g} points ({each}):"
        if points > 0:
            report.add(f"{name} passed", 100 * passed / each, "%", target=wanted)
            limit = 10.0 if points > 2 else None
            report.add("  refused for a slice by chance", 100 * harmed / each, "%", target=limit, better="lower")
        else:
            report.add(f"{name} refused", 100 * (each - passed) / each, "%", target=wanted)


def _hidden_harm(report: Report, chance: np.random.Generator, each: int) -> None:
    """Better by eight points but in what people drew, of which there is more or less."""
    for objects in (8, 16, 40, 80):
        for harm in (5.0, 10.0, 20.0):
            refused = 0
            for _ in range(each):
                world = World.of(chance, (120, objects, 60))
                effect = harming(8.0, harm, "source", Source.HUMAN.value)
                refused += Generation(world, effect).judged(chance).decision is Decision.REFUSED
            target = 90.0 if objects >= 40 and harm >= 10 else None
            what = f"harm of {harm:g} points hidden in a slice of {objects} objects ({each}): refused"
            report.add(what, 100 * refused / each, "%", target=target)


def _real(report: Report, folder: Path) -> None:
    """The packaged network against the eyes without weights, on a street that was really rendered."""
    for found in real_generations(folder):
        word = found.verdict.decision.value
        report.add(f"real: {found.what}: {word}, as it must be", float(found.is_right), target=1)


def _leaked_frame(chance: np.random.Generator, generation: Generation) -> None:
    frame = _frame(chance, _held(generation, Source.HUMAN))
    _learn(generation, Learnt(id="e" * 64, image_sha256=frame.sha256, camera="cam-9"))


def _leaked_crop(chance: np.random.Generator, generation: Generation) -> None:
    """The frame came in an envelope that mining was given."""
    _change_frame(chance, generation, crop="e" * 64)
    generation.provenance = msgspec.structs.replace(generation.provenance, given=("e" * 64,))


def _leaked_time(chance: np.random.Generator, generation: Generation) -> None:
    """A crop of the same camera, within a minute before or after."""
    frame = _frame(chance, _held(generation, Source.HUMAN))
    assert frame.captured_us is not None
    at_us = frame.captured_us + int(chance.integers(-60, 61)) * _US
    _learn(generation, Learnt(id="e" * 64, camera="cam-1", captured_us=at_us))


def _leaked_block(chance: np.random.Generator, generation: Generation) -> None:
    """A whole block of ten minutes trained, though it judges."""
    frame = _frame(chance, _held(generation, Source.STATIONARY))
    assert frame.captured_us is not None
    for number in range(60):
        at_us = frame.captured_us + (10 * number - 300) * _US
        _learn(generation, Learnt(id=f"{number:063x}e", camera="cam-2", captured_us=at_us))


def _leaked_track(chance: np.random.Generator, generation: Generation) -> None:
    _change_frame(chance, generation, tracks=(f"{OWN}/boot/77",))


def _leaked_scene(chance: np.random.Generator, generation: Generation) -> None:
    scenes = (*generation.provenance.scenes, SEED)
    generation.provenance = msgspec.structs.replace(generation.provenance, scenes=scenes)


def _leaked_mark(chance: np.random.Generator, generation: Generation) -> None:
    _learn(generation, Learnt(id="e" * 64, camera="cam-1", captured_us=1, holdout=True))


def _model_labels(chance: np.random.Generator, generation: Generation) -> None:
    _change(generation, Source.HUMAN, source=Source.MODEL)


def _champions_labels(chance: np.random.Generator, generation: Generation) -> None:
    _change(generation, Source.STATIONARY, made_by_sha256=CHAMPION.sha256)


def _copied_labels(chance: np.random.Generator, generation: Generation) -> None:
    """Said to be a person's; a fifth of the occluded objects and more are the model's own masks."""
    generation.copied = float(chance.uniform(0.2, 1.0))


def _own_device(chance: np.random.Generator, generation: Generation) -> None:
    [held] = [pair for pair in generation.world.held if pair[0].source is Source.STATIONARY]
    provenance: Provenance = msgspec.structs.replace(generation.provenance, devices=(OWN, *held[0].devices))
    generation.provenance = provenance
    generation.world = World((held,))


PLANTS: tuple[tuple[Kind, Plant], ...] = (
    (Kind.LEAKED_FRAME, _leaked_frame),
    (Kind.LEAKED_FRAME, _leaked_crop),
    (Kind.LEAKED_TIME, _leaked_time),
    (Kind.LEAKED_TIME, _leaked_block),
    (Kind.LEAKED_TRACK, _leaked_track),
    (Kind.LEAKED_SCENE, _leaked_scene),
    (Kind.LEAKED_MARK, _leaked_mark),
    (Kind.MODEL_LABELS, _model_labels),
    (Kind.MODEL_LABELS, _champions_labels),
    (Kind.OWN_LABELS, _copied_labels),
    (Kind.OWN_DEVICE, _own_device),
)


def _held(generation: Generation, source: Source) -> Holdout:
    return next(holdout for holdout, _ in generation.world.held if holdout.source is source)


def _frame(chance: np.random.Generator, holdout: Holdout) -> HeldFrame:
    return holdout.frames[int(chance.integers(len(holdout.frames)))]


def _learn(generation: Generation, crop: Learnt) -> None:
    learnt = (*generation.provenance.learnt, crop)
    generation.provenance = msgspec.structs.replace(generation.provenance, learnt=learnt)


def _change(generation: Generation, where: Source, **changes: object) -> None:
    def changed() -> Iterator[tuple[Holdout, tuple[object, ...]]]:
        for holdout, seen in generation.world.held:
            yield (msgspec.structs.replace(holdout, **changes) if holdout.source is where else holdout), seen

    generation.world = World(tuple(changed()))  # type: ignore[arg-type]


def _change_frame(chance: np.random.Generator, generation: Generation, **changes: object) -> None:
    holdout = _held(generation, Source.HUMAN)
    frame = _frame(chance, holdout)
    frames = tuple(msgspec.structs.replace(one, **changes) if one is frame else one for one in holdout.frames)
    _change(generation, Source.HUMAN, frames=frames)


if __name__ == "__main__":
    raise SystemExit(main())
