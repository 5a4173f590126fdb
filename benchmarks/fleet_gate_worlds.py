"""Holdouts and generations made up for the gate: per-case scores whose truth is known, and plants in what trained.

A generation is a champion's scores plus what it really changed, by object and by case, as two trainings of one recipe
differ: most objects by some points, one in seven by much. What an honest generation learned from is elsewhere and at
other hours than what judges; a planted one has seen it, made it, or is judged by its own device alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from walt_train.loop.gate.evaluation import Case, Evaluation, Figures
from walt_train.loop.gate.gate import Trial, judge
from walt_train.loop.gate.holdout import HeldFrame, Holdout, Scene, Source
from walt_train.loop.gate.provenance import Learnt, Provenance
from walt_train.loop.gate.verdict import Entrant, Verdict

CANDIDATE = Entrant(name="generation-2", sha256="c" * 64)
CHAMPION = Entrant(name="generation-1", sha256="a" * 64)
OWN, OTHER = "home/walt-own", "home/walt-other"
SEED = 7
_NOON_US = 1_795_000_000_000_000
_MINUTE_US = 60_000_000
_BANDS = ((0.0, 0.0, 0.35), (0.01, 0.1, 0.15), (0.1, 0.5, 0.3), (0.5, 0.9, 0.2))
_AREA = 4000
_COPIED = 100.0
_ALIKE = 0.85


@dataclass(frozen=True, slots=True)
class Seen:
    """A case: its truth, how well a network sees it that finds it (mask IoU x 100), and how often one misses it."""

    case: Case
    owner: int
    seen: float
    missed: float
    by_champion: bool


@dataclass(frozen=True, slots=True)
class World:
    """Three holdouts: a rendered street, frames that people drew, and objects that stood before another device."""

    held: tuple[tuple[Holdout, tuple[Seen, ...]], ...]

    @classmethod
    def of(cls, chance: np.random.Generator, objects: tuple[int, int, int] = (120, 40, 60)) -> World:
        """Draws one, with so many objects in each holdout."""
        places = (
            (Source.RENDERED, "rwalt-7", ()),
            (Source.HUMAN, "cam-1", (OWN,)),
            (Source.STATIONARY, "cam-2", (OTHER,)),
        )
        pairs = zip(places, objects, strict=True)
        return cls(tuple(_held(chance, *place, count) for place, count in pairs))


Effect = Callable[[Holdout, Case], float]
"""Points by which a generation really is better in a case."""


@dataclass(slots=True)
class Generation:
    """What is judged.

    Attributes:
        world: By what.
        effect: What it changed.
        noise: Standard deviation of what training by chance changes in an object, points.
        provenance: What it learned from.
        copied: Share of occluded cases whose truth is the candidate's own answer.
    """

    world: World
    effect: Effect
    noise: float = 6.0
    provenance: Provenance = field(default_factory=lambda: clean(np.random.default_rng(0)))
    copied: float = 0.0

    def judged(self, chance: np.random.Generator) -> Verdict:
        """By the gate, with this chance deciding what training did."""
        trials = [self._trial(chance, holdout, seen) for holdout, seen in self.world.held]
        return judge(CANDIDATE, CHAMPION, trials, self.provenance)

    def _trial(self, chance: np.random.Generator, holdout: Holdout, seen: tuple[Seen, ...]) -> Trial:
        owners = 1 + max(one.owner for one in seen)
        wild = chance.random(owners) < 1 / 7
        by_object = np.where(wild, chance.normal(0, 3 * self.noise, owners), chance.normal(0, self.noise, owners))
        scores = [
            one.seen + self.effect(holdout, one.case) + by_object[one.owner] + float(chance.normal(0, 6))
            if _finds(chance, one)
            else 0.0
            for one in seen
        ]
        if self.copied:
            scores = [
                _COPIED if one.case.occlusion >= 0.1 and chance.random() < self.copied else score
                for one, score in zip(seen, scores, strict=True)
            ]
        mine = [_scored(one.case, score) for one, score in zip(seen, scores, strict=True)]
        theirs = [_scored(one.case, one.seen if one.by_champion else 0.0) for one in seen]
        return Trial(holdout, _evaluation(holdout, CANDIDATE, mine), _evaluation(holdout, CHAMPION, theirs))


def clean(chance: np.random.Generator, crops: int = 200) -> Provenance:
    """Crops of the model's own camera, at hours of which nothing judges, and another rendered street."""
    learnt = tuple(
        Learnt(
            id=f"{number + 1:064x}",
            image_sha256=f"{number + 10_000:064x}",
            camera="cam-1",
            captured_us=_NOON_US - int(chance.integers(1, 10_000)) * _MINUTE_US - 2 * _MINUTE_US,
            track=f"{OWN}/boot/{number}",
        )
        for number in range(crops)
    )
    return Provenance(camera="cam-1", devices=(OWN,), learnt=learnt, scenes=(SEED + 1,), data=("d" * 64,))


def everywhere(points: float, chance: np.random.Generator, unlike: float = 1.5) -> Effect:
    """Better by about so many points, in each part of the cases a little otherwise."""
    by_part = {key: float(chance.normal(points, unlike)) for key in _parts()}

    def effect(holdout: Holdout, case: Case) -> float:
        return by_part[(holdout.source.value, case.label, _band(case))]

    return effect


def harming(points: float, harm: float, dimension: str, name: str) -> Effect:
    """Better by `points` but in one slice, where it is worse by `harm`."""

    def effect(holdout: Holdout, case: Case) -> float:
        part = {"source": holdout.source.value, "class": str(case.label), "occlusion": str(_band(case))}[dimension]
        return -harm if part == name else points

    return effect


def _parts() -> list[tuple[str, int, int]]:
    return [(source.value, label, band) for source in Source for label in (1, 2) for band in range(len(_BANDS))]


def _band(case: Case) -> int:
    return max(place for place, (low, _, _) in enumerate(_BANDS) if case.occlusion >= low)


def _held(
    chance: np.random.Generator, source: Source, camera: str, devices: tuple[str, ...], objects: int
) -> tuple[Holdout, tuple[Seen, ...]]:
    """Objects that pass one after another, each in some frames, a frame every two minutes."""
    seen: list[Seen] = []
    frames = max(20, objects // 2)
    for owner in range(objects):
        label = 1 if chance.random() < 0.6 else 2
        begin, ability = int(chance.integers(0, frames)), float(chance.normal(75, 10))
        for step in range(int(chance.integers(1, 10))):
            low, high, _ = _BANDS[int(chance.choice(len(_BANDS), p=[share for *_, share in _BANDS]))]
            occlusion = float(chance.uniform(low, high))
            case = Case(
                image=f"images/{(begin + step) % frames}.jpg",
                place=owner,
                object=f"{camera}/{owner}",
                label=label,
                amodal_area=_AREA,
                visible_area=round(_AREA * (1 - occlusion)),
            )
            missed = 0.05 + 0.4 * occlusion
            score = ability - 45 * occlusion + float(chance.normal(0, 6))
            seen.append(Seen(case, owner, score, missed, chance.random() >= missed))
    held = tuple(
        HeldFrame(
            file=f"images/{number}.jpg",
            sha256=hashlib.sha256(f"{source} {number}".encode()).hexdigest(),
            camera=camera,
            captured_us=None if source is Source.RENDERED else _NOON_US + 2 * number * _MINUTE_US,
        )
        for number in range(frames)
    )
    holdout = Holdout(
        name=f"{source.value}-{camera}",
        source=source,
        cameras=(camera,),
        devices=devices,
        frames=held,
        annotations_sha256="b" * 64,
        scene=Scene(seed=SEED) if source is Source.RENDERED else None,
        made_by="somebody",
    )
    return msgspec.structs.replace(holdout, content_sha256=holdout.named()), tuple(seen)


def _finds(chance: np.random.Generator, one: Seen) -> bool:
    """Two trainings miss much the same, and each as often as the other."""
    again = _ALIKE if not one.by_champion else (1 - _ALIKE) * one.missed / (1 - one.missed)
    return bool(chance.random() >= again)


def _scored(case: Case, score: float) -> Case:
    iou = 1.0 if score == _COPIED else min(0.93, max(0.0, score / 100))
    return msgspec.structs.replace(case, box_iou=iou, mask_iou=iou)


def _evaluation(holdout: Holdout, entrant: Entrant, cases: list[Case]) -> Evaluation:
    figures = Figures(at_gamma={}, cases=tuple(cases), frames=len(holdout.frames))
    data = holdout.annotations_sha256 + holdout.name
    return Evaluation(model=entrant.name, model_sha256=entrant.sha256, data_sha256=data, result=figures)
