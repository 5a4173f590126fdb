"""What the closed loop did: one generation, its training, its verdict on truth it did not make, and its swap."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from walt_train.loop.gate.evaluation import GateError, read_evaluation
from walt_train.loop.report.evidence import Evidence, ReportError

Interval = tuple[float, float]
_CURVE_POINTS = 160
_GAMMAS = (0.01, 0.5)
_HIDDEN_MAX = 0.9
_Kind = TypeVar("_Kind")


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Generation 0 and the newer one on the same objects of later time.

    Attributes:
        gamma: Objects hidden from this fraction on, up to 0.9.
        what: `box` or `mask`.
        cases: Objects in frames.
        objects: Physical objects among them.
        before: Mean IoU x 100 of generation 0, misses 0.
        after: Of the newer one.
        gain: after - before, points.
        gain_95: Its 95 % interval, paired, by physical object; None with fewer than two objects.
    """

    gamma: float
    what: Literal["box", "mask"]
    cases: int
    objects: int
    before: float
    after: float
    gain: float
    gain_95: Interval | None


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's change from its eyes without weights to the new model.

    Attributes:
        release: What runs at the end; 0 = no model.
        frames_before: Frames watched before it, the plate known.
        frames_after: Frames that the new model looked at.
        frames_lost: Frames between the last one before and the first one after.
    """

    release: int
    frames_before: int
    frames_after: int
    frames_lost: int


class Point(msgspec.Struct, frozen=True):
    """A point of the loss curve."""

    step: int
    loss: float


class Learning(msgspec.Struct, frozen=True, kw_only=True):
    """One generation, as the report tells it.

    Attributes:
        generation: Its number.
        crops: Clip art that it was made of.
        tracks: Objects that this shows.
        steps: Optimiser steps.
        recipe: Name of the recipe.
        parameters: Weights.
        gflops: For one frame with all candidates.
        score_threshold: From which on an instance counts.
        verdict: The gate's.
        says: Why, one line.
        compared: The table; empty where no truth is known.
        curve: Of the training loss.
        took_s: Seconds for each step.
        swap: On the device; None if no model was published.
    """

    generation: int
    crops: int
    tracks: int
    steps: int
    recipe: str
    parameters: int
    gflops: float
    score_threshold: float
    verdict: Literal["passed", "refused", "unjudged", "failed"]
    says: str
    compared: list[Compared]
    curve: list[Point]
    took_s: dict[str, float]
    swap: Swap | None


def compared(before: Path, after: Path) -> list[Compared]:
    """The table of two evaluations, the second made `--against` the first.

    Raises:
        ReportError: One is missing or malformed.
    """
    try:
        first, second = read_evaluation(before), read_evaluation(after)
    except GateError as error:
        raise ReportError(str(error)) from error
    rows = []
    for gamma in _GAMMAS:
        old, new = first.result.at_gamma[gamma], second.result.at_gamma[gamma]
        found = next(
            (one for one in second.differences if one.band.low == gamma and one.band.high == _HIDDEN_MAX), None
        )
        for what in ("box", "mask"):
            was, now = getattr(old, f"{what}_iou"), getattr(new, f"{what}_iou")
            if was is None or now is None:
                continue
            rows.append(
                Compared(
                    gamma=gamma,
                    what="box" if what == "box" else "mask",
                    cases=new.cases,
                    objects=new.objects,
                    before=was,
                    after=now,
                    gain=now - was,
                    gain_95=getattr(found, f"{what}_interval") if found else None,
                )
            )
    return rows


def curve(path: Path) -> list[Point]:
    """The training loss, averaged to a number of points that a picture can show; raises ReportError."""
    points = _read(path, list[Point])
    width = max(1, -(-len(points) // _CURVE_POINTS))
    parts = [points[start : start + width] for start in range(0, len(points), width)]
    return [Point(part[len(part) // 2].step, sum(one.loss for one in part) / len(part)) for part in parts]


def swap_of(evidence: Evidence) -> Swap:
    """What the second watch's journal tells of the swap; while the plate is learned there is nothing to lose."""
    frames = [line for line in evidence.frames if not line.warm_up]
    after = [line for line in frames if line.model_release > 0]
    before = [line for line in frames if line.model_release == 0]
    lost = 0
    if after and before and after[0].frame is not None:
        last = max(
            (line.frame for line in before if line.frame is not None and line.frame < after[0].frame), default=None
        )
        lost = 0 if last is None else after[0].frame - last - 1
    return Swap(
        release=frames[-1].model_release if frames else 0,
        frames_before=len(before),
        frames_after=len(after),
        frames_lost=lost,
    )


def curve_path(points: list[Point], width: float, height: float) -> str:
    """The curve as the `points` of an SVG polyline; from zero to the largest loss."""
    if len(points) < 2:
        return ""
    first, last = points[0].step, points[-1].step
    top = max(point.loss for point in points) or 1.0
    return " ".join(
        f"{width * (point.step - first) / max(1, last - first):.1f},{height * (1 - point.loss / top):.1f}"
        for point in points
    )


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ReportError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ReportError(f"{path} is malformed: {error}") from error
