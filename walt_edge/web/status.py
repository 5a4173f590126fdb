"""What the page asks the agent: the one protocol between them, and the values that go through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec

from walt_edge.agent.telemetry import LaneFigures
from walt_edge.contract.instances import AmodalInstances
from walt_edge.contract.labels import Label
from walt_edge.contract.messages import Moment, SpoolCounts
from walt_edge.privacy.anonymiser import AnonymisedImage
from walt_edge.vision.sightings import Sighting

TURN_LIMIT_S: Final = 30.0
SILENCE_LIMIT_S: Final = 15.0
FAILURES_LIMIT: Final = 5


@dataclass(frozen=True, slots=True)
class Carried:
    """A tracked object that this frame does not show: hidden, and expected here.

    Attributes:
        track_id: Its track.
        label: Its class.
        box_xyxy: Where it is expected, half-open pixels in the frame.
        spread_px: How unsure that is: one standard deviation of its centre.
    """

    track_id: int
    label: Label
    box_xyxy: tuple[float, float, float, float]
    spread_px: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """What may be shown of one frame. Its only pixels are anonymised ones; everything else is outlines and words.

    Attributes:
        camera: The camera's name.
        image: The frame.
        captured: When.
        sightings: What the eyes made of it.
        instances: What the model made of it, or None where none looked.
        track_ids: The tracks of `instances`, in their order, -1 for none; empty where nobody tracks.
        carried: Tracked objects that are hidden altogether.
    """

    camera: str
    image: AnonymisedImage
    captured: Moment
    sightings: tuple[Sighting, ...] = ()
    instances: AmodalInstances | None = None
    track_ids: tuple[int, ...] = ()
    carried: tuple[Carried, ...] = ()

    @property
    def number(self) -> int:
        """Tells a camera's frames apart and grows with time: microseconds, exact in a browser for centuries."""
        return self.captured.monotonic_ns // 1000


class Health(NamedTuple):
    """An answer for a watchdog.

    Attributes:
        is_well: Whether all is as it should be.
        reasons: Why not, one line each.
    """

    is_well: bool
    reasons: Sequence[str] = ()


class SpoolFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The spool.

    Attributes:
        counts: Its counters; accepted = acked + dropped + rejected + depth.
        quota_bytes: How much it may hold; 0 where unknown.
        trouble: Why it takes nothing at the moment, or "".
    """

    counts: SpoolCounts = SpoolCounts()
    quota_bytes: int = 0
    trouble: str = ""


class UplinkFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The connection home.

    Attributes:
        broker: Where it goes, without credentials; "" where there is none.
        is_connected: Whether it stands.
        connects: How often it was made.
        sent: Envelopes published, resent ones included.
        resent: Of these, the ones that home had not acknowledged in time.
    """

    broker: str = ""
    is_connected: bool = False
    connects: int = 0
    sent: int = 0
    resent: int = 0


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The model that looks.

    Attributes:
        release: Its number; 0 = none, the eyes without weights.
        name: Of its bundle, or "".
        runtime: What runs it (`onnx-cpu`, `tensorrt` ...), or "".
        is_on_probation: New here, and not yet committed.
        state: As reported home: `active`, `updating`, `refused`; "" where nobody updates.
        reason: Why it was refused.
    """

    release: int = 0
    name: str = ""
    runtime: str = ""
    is_on_probation: bool = False
    state: str = ""
    reason: str = ""


class UpdateFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What brings models from home; counts are since the start.

    Attributes:
        state: As reported home: `active`, `updating`, `refused`; "" before the first report.
        release: The release that home last asked for; 0 = none.
        attempts: Times that the agent tried to take one.
        outcomes: What came of them, by the names of `walt_edge.update.settings.UpdateStats`.
        fetched_bytes: Received for it, metadata included.
    """

    state: str = ""
    release: int = 0
    attempts: int = 0
    outcomes: dict[str, int] = {}
    fetched_bytes: int = 0


class SelectorFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What chooses the crops that may use the line.

    Attributes:
        price: What a crop's value has to exceed; 0 while all fits.
        hour_spent_bytes: Of the present hour's budget.
        hour_budget_bytes: What an hour may use.
        day_spent_bytes: Of the present day's budget.
        day_budget_bytes: What a day may use.
    """

    price: float = 0.0
    hour_spent_bytes: int = 0
    hour_budget_bytes: int = 0
    day_spent_bytes: int = 0
    day_budget_bytes: int = 0


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent takes of the device, its child processes included.

    Attributes:
        processes: How many.
        pss_bytes: Their memory, what they share counted once.
        cpu_s: Processor time since their start.
        cpu_cores: Processor cores in use lately; 1.0 is one whole core.
    """

    processes: int = 0
    pss_bytes: int = 0
    cpu_s: float = 0.0
    cpu_cores: float = 0.0


class AgentFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page and the metrics say in numbers.

    Attributes:
        site: The site's name.
        device: The device's id.
        version: Of this software.
        anonymiser: Version and reach of the anonymiser (`1 faces=head-only`).
        uptime_s: Since the agent's start.
        lanes: One for each camera.
        spool: The spool.
        uplink: The connection home.
        model: The model.
        updates: What brings models from home; None where nothing does.
        selector: What chooses crops.
        process: Memory and processor.
    """

    site: str
    device: str
    version: str
    anonymiser: str
    uptime_s: float = 0.0
    lanes: tuple[LaneFigures, ...] = ()
    spool: SpoolFigures = SpoolFigures()
    uplink: UplinkFigures = UplinkFigures()
    model: ModelFigures = ModelFigures()
    updates: UpdateFigures | None = None
    selector: SelectorFigures = SelectorFigures()
    process: ProcessFigures = ProcessFigures()


class AgentView(Protocol):
    """What the page asks. Called from the page's thread; every answer comes at once, from memory."""

    def cameras(self) -> Sequence[str]:
        """The cameras' names."""

    def live(self, camera: str) -> LiveFrame | None:
        """The newest frame of a camera, or None if there is none yet or no such camera."""

    def is_alive(self) -> Health:
        """Whether the process does its work; what is not alive is worth a restart."""

    def is_ready(self) -> Health:
        """Whether frames come, are anonymised, and can be kept."""

    def figures(self) -> AgentFigures:
        """All figures."""


def alive(lanes: Sequence[LaneFigures], turn_limit_s: float = TURN_LIMIT_S) -> Health:
    """Whether every lane's loop still comes round.

    Args:
        lanes: Those that have not ended.
        turn_limit_s: A loop that takes longer for one turn hangs.
    """
    reasons = [
        f"camera {lane.camera}: its loop has not come round for {lane.since_turn_s:.0f} s"
        for lane in lanes
        if lane.since_turn_s > turn_limit_s
    ]
    return Health(not reasons, reasons)


def ready(figures: AgentFigures, silence_limit_s: float = SILENCE_LIMIT_S) -> Health:
    """Whether frames come, are anonymised and can be kept; every reason why not.

    Args:
        figures: The agent's.
        silence_limit_s: A camera that gave no frame for longer is not there.
    """
    reasons = [reason for lane in figures.lanes for reason in _lane_reasons(lane, silence_limit_s)]
    if not figures.lanes:
        reasons.append("no camera is watched")
    if figures.spool.trouble:
        reasons.append(f"spool: {figures.spool.trouble}")
    return Health(not reasons, reasons)


def _lane_reasons(lane: LaneFigures, silence_limit_s: float) -> list[str]:
    reasons = []
    if lane.since_frame_s < 0:
        reasons.append(f"camera {lane.camera}: no frame yet")
    elif lane.since_frame_s > silence_limit_s:
        reasons.append(f"camera {lane.camera}: no frame for {lane.since_frame_s:.0f} s")
    if lane.failures_in_a_row >= FAILURES_LIMIT:
        reasons.append(
            f"camera {lane.camera}: the anonymiser failed on the last {lane.failures_in_a_row} frames, "
            "nothing was kept of them"
        )
    return reasons
