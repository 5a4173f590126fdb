"""The numbers of a report: what `report.json` holds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from walt_train.loop.report.evidence import Evidence
from walt_train.loop.report.learning import Learning, Swap
from walt_train.loop.report.truth import TruthReport

LEAST_STEPS = 300
_HINT = " (does anything move? learning the background alone takes some 15 s)"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What the camera played.

    Attributes:
        title: A name for people.
        rendered: Whether it is a rendered street, whose truth is known.
        frames_sent: Frames in the film that was played, as far as it was played.
        fps: Its frames a second.
        resolution_wh: Its frame size, pixels.
    """

    title: str
    rendered: bool
    frames_sent: int
    fps: float
    resolution_wh: tuple[int, int]


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Counts at every station, from the camera to the store."""

    frames_sent: int
    frames_received: int
    frames_watched: int
    frames_skipped: int
    objects_seen: int
    crops_chosen: int
    envelopes_accepted: int
    envelopes_acknowledged: int
    envelopes_dropped: int
    envelopes_rejected: int
    envelopes_waiting: int
    crops_stored: int
    plates_stored: int
    frames_stored: int
    bytes_stored: int
    resends_absorbed: int
    quarantined: int
    missing: int

    @property
    def balances(self) -> bool:
        """Accepted = acknowledged + dropped + rejected + waiting."""
        return self.envelopes_accepted == (
            self.envelopes_acknowledged + self.envelopes_dropped + self.envelopes_rejected + self.envelopes_waiting
        )

    @property
    def envelopes_stored(self) -> int:
        """Everything in the store."""
        return self.crops_stored + self.plates_stored + self.frames_stored


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds: one step of the watcher, and a frame's age at its end."""

    step_ms_p50: float
    step_ms_p99: float
    frame_age_ms_p50: float
    frame_age_ms_p99: float


class Gate(msgspec.Struct, frozen=True):
    """Whether a station did its work."""

    station: str
    passed: bool
    says: str


class StoredCrop(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the gallery."""

    id: str
    label: str
    score: float
    unoccluded_confidence: float
    track_id: int
    media_time_s: float
    box_xyxy: tuple[float, float, float, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`report.json`.

    Attributes:
        source: What the camera played.
        ledger: Counts at every station.
        gates: Whether each station did its work.
        rejected_by_reason: Objects that were never chosen.
        refused_moments: Objects in single frames that were not taken as whole.
        timings: How fast, or None if no telemetry arrived.
        truth: The truth's verdict, or None for a camera whose truth nobody knows.
        crops: What was stored.
        stages_s: How long each stage of the demo took, seconds.
        walt_version: Of this program.
        anonymiser: Version and reach.
        seed: Of a rendered street.
        learning: What the closed loop did; None if it was not asked to.
    """

    source: Source
    ledger: Ledger
    gates: list[Gate]
    rejected_by_reason: dict[str, int]
    refused_moments: dict[str, int]
    timings: Timings | None
    truth: TruthReport | None
    crops: list[StoredCrop]
    stages_s: dict[str, float]
    walt_version: str
    anonymiser: str
    seed: int | None = None
    learning: Learning | None = None
    version: int = 1

    @property
    def failures(self) -> list[Gate]:
        """The gates that were not passed."""
        return [gate for gate in self.gates if not gate.passed]


def ledger_of(evidence: Evidence, frames_sent: int, acknowledged: int, rejected: int) -> Ledger:
    """Adds up what the stations say.

    Args:
        evidence: What they left.
        frames_sent: Frames that the camera played.
        acknowledged: Envelopes that home's own answers call stored or duplicate.
        rejected: Envelopes that they call rejected.
    """
    said, counts = evidence.telemetry, evidence.counts
    spool = said.spool if said else None
    accepted = spool.accepted if spool else len(evidence.sealed_ids)
    dropped = spool.dropped if spool else 0
    return Ledger(
        frames_sent=frames_sent,
        frames_received=said.frames_received if said else len(evidence.frames),
        frames_watched=said.frames_processed if said else len(evidence.frames),
        frames_skipped=said.frames_skipped if said else 0,
        objects_seen=said.objects_seen if said else len(evidence.paths()),
        crops_chosen=said.crops_chosen if said else len(evidence.sealed_ids),
        envelopes_accepted=accepted,
        envelopes_acknowledged=acknowledged,
        envelopes_dropped=dropped,
        envelopes_rejected=rejected,
        envelopes_waiting=max(0, accepted - acknowledged - dropped - rejected),
        crops_stored=counts.crops,
        plates_stored=counts.plates,
        frames_stored=counts.frames,
        bytes_stored=counts.bytes,
        resends_absorbed=counts.duplicates,
        quarantined=counts.quarantined,
        missing=len(evidence.missing_ids),
    )


def timings_of(evidence: Evidence) -> Timings | None:
    """The agent's own times, if its telemetry arrived."""
    said = evidence.telemetry
    if said is None:
        return None
    return Timings(
        step_ms_p50=said.step_ms_p50,
        step_ms_p99=said.step_ms_p99,
        frame_age_ms_p50=said.frame_age_ms_p50,
        frame_age_ms_p99=said.frame_age_ms_p99,
    )


def crops_of(evidence: Evidence) -> list[StoredCrop]:
    """The stored crops, in order of capture."""
    return [
        StoredCrop(
            id=clip.id,
            label=clip.header.label.title,
            score=clip.header.score,
            unoccluded_confidence=clip.header.unoccluded_confidence,
            track_id=clip.header.track_id,
            media_time_s=clip.header.captured.media_time_s,
            box_xyxy=clip.header.box_xyxy,
        )
        for clip in evidence.clips
    ]


def gates_of(ledger: Ledger, least_crops: int) -> list[Gate]:
    """Judges whether each station did its work."""
    watched, sent = ledger.frames_watched, ledger.frames_sent
    return [
        Gate("camera", sent > 0, f"sent {sent} frames"),
        Gate("agent", watched >= max(1, sent // 10), f"watched {watched} of {sent} frames"),
        Gate(
            "watcher",
            ledger.objects_seen > 0,
            f"saw {ledger.objects_seen} objects in {watched} frames{_HINT if ledger.objects_seen == 0 else ''}",
        ),
        Gate(
            "choice",
            ledger.crops_chosen >= least_crops,
            f"chose {ledger.crops_chosen} crops of {least_crops} or more",
        ),
        Gate(
            "spool",
            ledger.balances
            and not (ledger.envelopes_dropped or ledger.envelopes_rejected or ledger.envelopes_waiting),
            f"accepted {ledger.envelopes_accepted}, acknowledged {ledger.envelopes_acknowledged}, "
            f"dropped {ledger.envelopes_dropped}, rejected {ledger.envelopes_rejected}, "
            f"waiting {ledger.envelopes_waiting}",
        ),
        Gate("ingest", ledger.quarantined == 0, f"quarantined {ledger.quarantined}"),
        Gate(
            "store",
            ledger.missing == 0 and ledger.crops_stored >= least_crops,
            f"holds {ledger.crops_stored} crops; {ledger.missing} of what was sealed are missing",
        ),
        Gate("plate", ledger.plates_stored > 0, f"{ledger.plates_stored} plates arrived"),
    ]


def has_enough(evidence: Evidence, least_crops: int, least_tracks: int) -> bool:
    """Whether the stored clip art is enough to train on."""
    return len(evidence.clips) >= least_crops and evidence.tracks_stored >= least_tracks


def learning_gates(evidence: Evidence, learning: Learning | None, least: tuple[int, int]) -> list[Gate]:
    """Judges whether the loop closed.

    Args:
        evidence: What the first watch left.
        learning: What home made of it; None if it did not begin.
        least: Crops, and tracks of them, that home asks for.
    """
    crops, tracks = len(evidence.clips), evidence.tracks_stored
    gates = [
        Gate(
            "clip art",
            has_enough(evidence, *least),
            f"{crops} crops of {tracks} objects, expected {least[0]} of {least[1]} or more",
        )
    ]
    if learning is None:
        return gates
    swap = learning.swap
    return [
        *gates,
        Gate("training", learning.steps >= LEAST_STEPS, f"{learning.steps} steps of {LEAST_STEPS} or more"),
        Gate("gate", learning.verdict in ("passed", "unjudged"), learning.says),
        Gate("swap", swap is not None and swap.release > 0, _swap_says(swap)),
    ]


def _swap_says(swap: Swap | None) -> str:
    if swap is None:
        return "nothing was published"
    if swap.release == 0:
        return f"the agent runs no model after {swap.frames_before} frames; its log says why"
    return f"release {swap.release} runs; {swap.frames_lost} frames lost at the change"


def failing(gates: Sequence[Gate]) -> str:
    """One line that names the stations that did not do their work; empty if all did."""
    return "; ".join(f"{gate.station}: {gate.says}" for gate in gates if not gate.passed)
