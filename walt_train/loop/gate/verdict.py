"""The gate's word as a file: everything that it was reached by, for people and for programs.

`verdict.json` holds the decision, each slice, the evidence against the candidate, the rules and the sha256 of
everybody who took part. What people read is a pure function of it (`walt_train.loop.gate.text`).
"""

from __future__ import annotations

import enum
from pathlib import Path

import msgspec

from walt_edge.contract.files import write_whole
from walt_train.loop.gate.evaluation import GateError
from walt_train.loop.gate.holdout import Source
from walt_train.loop.gate.rules import Rules

FILE_NAME = "verdict.json"


class Decision(enum.StrEnum):
    """What the gate says."""

    PASSED = "passed"
    REFUSED = "refused"
    UNJUDGED = "unjudged"


class Kind(enum.StrEnum):
    """What a finding is about."""

    LEAKED_FRAME = "leaked frame"
    LEAKED_TIME = "leaked time"
    LEAKED_SCENE = "leaked scene"
    LEAKED_TRACK = "leaked track"
    LEAKED_MARK = "leaked mark"
    LEAKED_DATA = "leaked data"
    UNKNOWN_DATA = "unknown data"
    MODEL_LABELS = "labels of a model"
    OWN_LABELS = "labels of its own"
    OWN_DEVICE = "its own device alone"
    PARITY = "export"
    LATENCY = "latency"
    MEMORY = "memory"
    HARM = "harm"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence against the candidate: each refuses it.

    Attributes:
        kind: What it is about.
        line: The evidence, one line for people.
        holdout: Name of the holdout that it concerns; "" where it is about none.
    """

    kind: Kind
    line: str
    holdout: str = ""


class Effect(enum.StrEnum):
    """What the candidate does in a slice, as far as its cases tell."""

    BETTER = "better"
    EVEN = "even"
    WORSE = "worse"
    TOO_FEW = "too few"


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the cases.

    Attributes:
        dimension: `all`, `source`, `camera`, `class` or `occlusion`.
        name: Of the part; small ones are joined with ` + `.
        cases: On which both were judged.
        objects: Physical objects that they show.
        candidate: Mean mask IoU x 100, misses 0.
        champion: The same of what had to be beaten.
        difference: candidate - champion, points.
        interval: Of the difference, paired, by object, as sure as many slices ask for; None with one object.
        decision: `worse` refuses, unless the eyes without weights had to be beaten.
    """

    dimension: str
    name: str
    cases: int
    objects: int
    candidate: float
    champion: float
    difference: float
    interval: tuple[float, float] | None
    decision: Effect


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a model costs on the machine that judged, one thread, as `walt_edge.update.trial` measures it.

    Attributes:
        latency_ms_p50: Median time of a golden picture.
        latency_ms_p99: 99th percentile.
        memory_mb: What it added to a process.
    """

    latency_ms_p50: float
    latency_ms_p99: float
    memory_mb: float


class Entrant(msgspec.Struct, frozen=True, kw_only=True):
    """Who is judged, or has to be beaten.

    Attributes:
        name: The model's.
        sha256: Of its bundle; "" of `motion`.
        cost: What it costs; None of `motion`, or where nothing was measured.
        limit_ms: The longest that it promised to take, 99th percentile; None where it promised nothing.
        limit_mb: The most memory that it promised to take.
    """

    name: str
    sha256: str = ""
    cost: Cost | None = None
    limit_ms: float | None = None
    limit_mb: float | None = None


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the bundle answers as the trained network did.

    Attributes:
        figures: The export's own comparison with torch, by name.
        checkpoint_sha256: That the bundle says it was made of.
        trained_sha256: Of the checkpoint that training left.
        foreign_golden: Golden pictures that are not the ones which training left.
        trouble: Why the bundle does not open, or does not repeat its golden answers, on this machine; "" if it does.
    """

    figures: dict[str, float]
    checkpoint_sha256: str
    trained_sha256: str
    foreign_golden: tuple[str, ...] = ()
    trouble: str = ""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A holdout that took part.

    Attributes:
        name: Its name.
        source: Where its truth comes from.
        content_sha256: Names every byte of it.
        frames: How many.
        cases: Of these, half hidden and more, on which both were judged.
        independent: Whether it is not of the devices which the model is for.
    """

    name: str
    source: Source
    content_sha256: str
    frames: int
    cases: int = 0
    independent: bool = False


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
        model: The candidate.
        champion: What it had to beat; None without truth.
        findings: The evidence against it.
        slices: Part by part.
        holdouts: That judged.
        parity: Of the export.
        rules: By which it was judged.
        versions: Of the programs, by name.
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
    model: Entrant | None = None
    champion: Entrant | None = None
    findings: tuple[Finding, ...] = ()
    slices: tuple[Slice, ...] = ()
    holdouts: tuple[Judged, ...] = ()
    parity: Parity | None = None
    rules: Rules | None = None
    versions: dict[str, str] = {}


def unjudged(why: str) -> Verdict:
    """The verdict where nothing can be told."""
    return Verdict(decision=Decision.UNJUDGED, line=f"unjudged: {why}")


def write_verdict(path: Path, verdict: Verdict) -> None:
    """Writes it whole or not at all; raises OSError."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(verdict), indent=1))


def read_verdict(path: Path) -> Verdict:
    """Reads a verdict, of older versions as well.

    Raises:
        GateError: Missing, or no verdict.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Verdict)
    except OSError as error:
        raise GateError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GateError(f"{path} is no verdict that this version reads ({error})") from error
