"""The gate: whether a candidate is good enough for the camera, told by truth that the loop did not make.

A pure function of two evaluations (`walt-train evaluate`). The measure is the mask IoU x 100 of objects of which at
least half is hidden (γ = 0.5): what the loop is for. The first generation has to beat the eyes without weights by a
margin; a later one has to beat the camera's champion surely: the 95 % interval of the paired difference lies above 0.
"""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec

from walt_edge.contract.errors import WaltError

GAMMA = 0.5
MOTION = "motion"
"""Name of generation 0 in an evaluation."""


class GateError(WaltError):
    """The evaluations cannot be read, or do not belong together."""


class Decision(enum.StrEnum):
    """What the gate says."""

    PASSED = "passed"
    REFUSED = "refused"
    UNJUDGED = "unjudged"


class Band(msgspec.Struct, frozen=True):
    """Of occlusion fractions, from `low` on."""

    low: float
    high: float


class Row(msgspec.Struct, frozen=True):
    """Mean IoU x 100 in a band; None without cases."""

    mask_iou: float | None
    box_iou: float | None = None
    cases: int = 0
    objects: int = 0


class Difference(msgspec.Struct, frozen=True):
    """The candidate minus the other one in a band, points; with its paired 95 % interval."""

    band: Band
    cases: int
    objects: int
    mask_points: float | None
    mask_interval: tuple[float, float] | None
    box_points: float | None = None
    box_interval: tuple[float, float] | None = None


class Figures(msgspec.Struct, frozen=True):
    """Rows by γ."""

    at_gamma: dict[float, Row]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate reads of `walt-train evaluate --out FILE.json`.

    Attributes:
        model: What was evaluated.
        data_sha256: Names the truth.
        result: Its figures.
        against: The model that `differences` are from, or "".
        differences: By band.
    """

    model: str
    data_sha256: str
    result: Figures
    against: str = ""
    differences: tuple[Difference, ...] = ()

    @property
    def mask_iou(self) -> float | None:
        """Mean mask IoU x 100 at γ = 0.5."""
        row = self.result.at_gamma.get(GAMMA)
        return row.mask_iou if row else None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate said, and why.

    Attributes:
        decision: Whether it may be published.
        line: The same for people, one line.
        against: What it had to beat: `motion`, or the champion's name; "" if there is no truth.
        needed_points: How much better it had to be.
        points: How much better it is; None if that cannot be told.
        interval: Paired 95 % interval of `points`.
        candidate: Its mask IoU x 100.
        baseline: The other one's.
        cases: On which both were judged.
        objects: That these cases show.
    """

    decision: Decision
    line: str
    against: str = ""
    needed_points: float = 0.0
    points: float | None = None
    interval: tuple[float, float] | None = None
    candidate: float | None = None
    baseline: float | None = None
    cases: int = 0
    objects: int = 0


def unjudged(why: str) -> Verdict:
    """The verdict where nothing can be told."""
    return Verdict(decision=Decision.UNJUDGED, line=f"unjudged: {why}")


def judge(candidate: Evaluation, baseline: Evaluation, *, gain: float) -> Verdict:
    """Compares a candidate with what it has to beat.

    Args:
        candidate: Its evaluation, with the differences from `baseline`.
        baseline: Of `motion`, or of the camera's champion.
        gain: Points that a first generation must be better than `motion`.

    Raises:
        GateError: The candidate was not compared with this baseline.
    """
    if candidate.data_sha256 != baseline.data_sha256 or candidate.against != baseline.model:
        raise GateError(
            f"{candidate.model} was compared with '{candidate.against}', expected {baseline.model} on the same truth"
        )
    found = next((one for one in candidate.differences if one.band.low == GAMMA), None)
    if found is None or found.mask_points is None:
        return unjudged(f"no object in the truth is hidden by half (γ={GAMMA:g})")
    is_first = baseline.model == MOTION
    if is_first:
        is_better, needed = found.mask_points >= gain, f"expected {gain:+g} or more"
    elif found.mask_interval is not None:
        is_better, needed = found.mask_interval[0] > 0, "expected an interval above 0"
    else:
        return unjudged(f"the truth's {found.cases} cases at γ={GAMMA:g} show one object, expected several")
    decision = Decision.PASSED if is_better else Decision.REFUSED
    return Verdict(
        decision=decision,
        line=f"{decision}: {_words(candidate, baseline, found)}; {needed}",
        against=baseline.model,
        needed_points=gain if is_first else 0.0,
        points=found.mask_points,
        interval=found.mask_interval,
        candidate=candidate.mask_iou,
        baseline=baseline.mask_iou,
        cases=found.cases,
        objects=found.objects,
    )


def read_evaluation(path: Path) -> Evaluation:
    """Reads what the gate needs of an evaluation.

    Raises:
        GateError: Missing, or no evaluation.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except OSError as error:
        raise GateError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise GateError(f"{path} is no evaluation that this version reads ({error})") from error


def _words(candidate: Evaluation, baseline: Evaluation, found: Difference) -> str:
    interval = "" if found.mask_interval is None else " [{:+.1f}, {:+.1f}]".format(*found.mask_interval)
    values = " against ".join("-" if one is None else f"{one:.1f}" for one in (candidate.mask_iou, baseline.mask_iou))
    return (
        f"mask IoU at γ={GAMMA:g} {values} of {baseline.model}, {found.mask_points:+.1f} points{interval} "
        f"on {found.cases} cases of {found.objects} objects"
    )
