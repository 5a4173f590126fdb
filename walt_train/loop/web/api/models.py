"""What the API gives and takes; times are microseconds UTC since 1970.

The same models check what the server says and what the client reads. A reader ignores fields that it does not know,
so that a newer home and an older client go on understanding each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Micros = Annotated[int, Field(description="microseconds UTC since 1970")]
Cursor = Annotated[str | None, Field(description="asks for the next page; null: this was the last")]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of an envelope's bytes")]


class Model(BaseModel):
    """What all of them are: frozen, and made of whatever has their attributes."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Problem(Model):
    """An error (RFC 9457): `detail` names the cause, and the remedy after it."""

    title: str
    status: int
    detail: str


class Me(Model):
    """Who asks: the person, the role that counts for this request, and the token's id."""

    name: str
    role: Literal["viewer", "operator", "admin"]
    token: str


class Fleet(Model):
    """The fleet in a few figures; `quiet` says why they may be old, "" where they are not."""

    devices: int
    online: int
    cameras: int
    alerts: int
    judged_us: Micros
    quiet: str


class Alert(Model):
    """Something that is wrong now, with its remedy."""

    kind: str
    site: str
    device: str
    camera: str
    level: str
    title: str
    detail: str
    remedy: str
    since_us: Micros


class Alerts(Model):
    """A page of alerts, the most urgent first."""

    items: tuple[Alert, ...]
    next: Cursor


class Camera(Model):
    """A camera as it was heard last; see `walt_train.loop.web.queries.board.Row`."""

    site: str
    device: str
    camera: str
    status: str
    level: Literal["", "warning", "urgent"]
    heard_us: Micros
    frame_us: Micros
    frames: int
    crops: int
    waiting: int
    release: int
    model: str
    reason: str
    lens: float | None
    brightness: float
    frame_age_ms: float
    version: str


class Cameras(Model):
    """A page of cameras, by site, device and name."""

    items: tuple[Camera, ...]
    next: Cursor


class CameraDetail(Model):
    """One camera: as it was heard last (null: its device is not heard), what is wrong, and what it waits for."""

    camera: str
    now: Camera | None
    alerts: tuple[Alert, ...]
    waits: str
    generations: int
    newest_release: int


class Moment(Model):
    """What a stretch of time held of a camera; see `walt_train.loop.web.queries.camera.Moment`."""

    at_us: Micros
    span_s: int
    watched: float
    crops: int
    objects: int
    age_ms: float
    age_ms_most: float
    waiting: float
    lens: float | None
    failures: int


class History(Model):
    """A camera's figures over a span."""

    camera: str
    span: Literal["hour", "day", "week", "year"]
    items: tuple[Moment, ...]


class Verdict(Model):
    """What the gate said of a generation: mask IoU x 100 of what is half hidden, and what it had to beat."""

    camera: str
    number: int
    decision: str
    line: str
    candidate: float | None
    baseline: float | None
    against: str
    points: float | None
    interval: tuple[float, float] | None
    ended_us: Micros


class Verdicts(Model):
    """A camera's verdicts, the oldest first."""

    items: tuple[Verdict, ...]


class Crop(Model):
    """A stored crop, plate or frame, by its row; its picture is at `/pictures/KIND/ID.jpg`."""

    id: Id
    kind: Literal["crop", "plate", "frame"]
    site: str
    device: str
    camera: str
    captured_us: Micros
    received_us: Micros
    bytes: int
    holdout: bool
    label: str | None
    track: int | None
    confidence: float | None
    box_xyxy: tuple[float, float, float, float] | None
    held: str | None
    rejected: bool


class Crops(Model):
    """A page of what is stored of a camera, the newest first."""

    items: tuple[Crop, ...]
    next: Cursor


class Step(Model):
    """One step of a generation."""

    name: str
    state: str
    attempts: int
    failures: int
    started_us: Micros | None
    ended_us: Micros | None
    result: dict[str, Any]
    reason: str


class Run(Model):
    """One training of a camera's model, and what became of it."""

    camera: str
    number: int
    state: str
    why: str
    reason: str
    recipe: str
    seed: int
    training_steps: int | None
    crops: int
    tracks: int
    clipart_sha256: str
    created_us: Micros
    ended_us: Micros | None
    steps: tuple[Step, ...]


class Runs(Model):
    """A page of trainings, the newest first."""

    items: tuple[Run, ...]
    next: Cursor


class RolloutBrief(Model):
    """A rollout without its devices: how many were told, of how many."""

    id: int
    release: int
    name: str
    camera: str
    generation: int
    state: str
    detail: str
    by: str
    created_us: Micros
    ended_us: Micros | None
    told: int
    members: int


class Rollouts(Model):
    """A page of rollouts, the newest first."""

    items: tuple[RolloutBrief, ...]
    next: Cursor


class Stage(Model):
    """A stage of a rollout: its devices, of them told, of them running the release."""

    name: str
    members: int
    told: int
    running: int


class Finding(Model):
    """One comparison of those that were told with those that were not."""

    signal: str
    verdict: str
    ratio: float
    limit: float
    line: str


class Event(Model):
    """Something that happened to a rollout."""

    at_us: Micros
    by: str
    what: str
    detail: str


class Rollout(RolloutBrief):
    """A rollout with its stages, what was found at the last look, and its history, the oldest first."""

    sha256: str
    stage: str
    stages: tuple[Stage, ...]
    findings: tuple[Finding, ...]
    events: tuple[Event, ...]


class Member(Model):
    """A device of a rollout; null: not yet."""

    site: str
    device: str
    cohort: str
    outside: bool
    told_us: Micros | None
    running_us: Micros | None
    before_release: int
    undone_us: Micros | None


class Members(Model):
    """A page of a rollout's devices, by site and name."""

    items: tuple[Member, ...]
    next: Cursor


class Reason(Model):
    """Why somebody does something; it is shown in the history."""

    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str, Field(max_length=300)] = ""


class Entry(Model):
    """An entry of the record of what was done."""

    id: int
    at_us: Micros
    who: str
    token: str
    what: str
    subject: str
    detail: str
    address: str
    outcome: str


class Audit(Model):
    """A page of the record, the newest first."""

    items: tuple[Entry, ...]
    next: Cursor
