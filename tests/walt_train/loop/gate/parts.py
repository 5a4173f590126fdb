"""Holdouts, evaluations and entrants made up for the gate, which needs no files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from walt_train.loop.gate.evaluation import MOTION, Case, Evaluation, Figures
from walt_train.loop.gate.gate import Trial
from walt_train.loop.gate.holdout import HeldFrame, Holdout, Scene, Source
from walt_train.loop.gate.provenance import Learnt, Provenance
from walt_train.loop.gate.verdict import Cost, Entrant

CANDIDATE = Entrant(name="demo-2", sha256="c" * 64)
CHAMPION = Entrant(name="demo-1", sha256="a" * 64)
EYES = Entrant(name=MOTION)
OWN = "home/walt-own"
HOUR_US = 3_600_000_000
NOON_US = 1_790_000_000_000_000

Score = Callable[[int], float]


def holdout(name: str = "street", source: Source = Source.RENDERED, *, objects: int = 24, **changes: Any) -> Holdout:
    """One frame for each object, an hour apart."""
    rendered = source is Source.RENDERED
    camera = "rwalt-7" if rendered else "cam-1"
    frames = tuple(
        HeldFrame(
            file=f"images/{number}.jpg",
            sha256=f"{number:064x}",
            camera=camera,
            captured_us=None if rendered else NOON_US + number * HOUR_US,
        )
        for number in range(objects)
    )
    made = Holdout(
        name=name,
        source=source,
        cameras=(camera,),
        devices=() if rendered else (OWN,),
        frames=frames,
        annotations_sha256="b" * 64,
        scene=Scene(seed=7) if rendered else None,
        made_by="rwalt 1" if rendered else "anna",
        content_sha256=(name.encode().hex() + "0" * 64)[:64],
    )
    return msgspec.structs.replace(made, **changes)


def evaluation(held: Holdout, entrant: Entrant, score: Score, occlusion: Score = lambda _: 0.6) -> Evaluation:
    """One object a frame; `score` tells its mask IoU x 100, `occlusion` how much of it is hidden."""
    cases = tuple(
        Case(
            image=frame.file,
            place=0,
            object=f"{frame.camera}/{number}",
            label=1 + number % 2,
            amodal_area=2000,
            visible_area=round(2000 * (1 - occlusion(number))),
            box_iou=score(number) / 100,
            mask_iou=score(number) / 100,
        )
        for number, frame in enumerate(held.frames)
    )
    figures = Figures(at_gamma={}, cases=cases, frames=len(held.frames))
    return Evaluation(
        model=entrant.name, model_sha256=entrant.sha256, data_sha256=f"data of {held.name}", result=figures
    )


def jitter(number: int, points: float = 6.0) -> float:
    """Zero on the mean over 24 numbers in a row."""
    return points * ((number * 7 % 24) / 11.5 - 1)


def trial(
    held: Holdout,
    gain: float | Score = 6.0,
    *,
    champion: Entrant = CHAMPION,
    candidate: Entrant = CANDIDATE,
    occlusion: Score = lambda _: 0.6,
) -> Trial:
    """A candidate that is better by so many points, give or take some."""
    more: Score = gain if callable(gain) else lambda _: gain
    return Trial(
        held,
        evaluation(held, candidate, lambda number: 50 + more(number) + jitter(number), occlusion),
        evaluation(held, champion, lambda _: 50, occlusion),
    )


def provenance(learnt: Sequence[Learnt] = (), **changes: Any) -> Provenance:
    """Of a model of cam-1 on the device OWN."""
    made = Provenance(camera="cam-1", devices=(OWN,), learnt=tuple(learnt))
    return msgspec.structs.replace(made, **changes)


def learnt(number: int = 0, **changes: Any) -> Learnt:
    """A crop of cam-1, taken half an hour after the holdout's frame of that number."""
    made = Learnt(
        id=f"{1000 + number:064x}",
        image_sha256=f"{2000 + number:064x}",
        camera="cam-1",
        captured_us=NOON_US + number * HOUR_US + HOUR_US // 2,
        track=f"{OWN}/boot/{number}",
    )
    return msgspec.structs.replace(made, **changes)


def cost(ms: float = 10.0, mb: float = 50.0) -> Cost:
    """What a model costs."""
    return Cost(latency_ms_p50=ms, latency_ms_p99=1.2 * ms, memory_mb=mb)
