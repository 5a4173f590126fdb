"""The agent's stages, wired: camera -> watcher -> spool -> uplink, and the model beside them.

Bounded by construction: one frame is in work at a time, the camera keeps only its newest, and what the watcher seals
is on disk before the next frame is read. A step that fails stores and sends nothing, is counted, and the next frame
is read. The model, if there is one, looks at the same frame in memory; what it sees goes into the journal and
never into mining, so that no model is ever taught by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from walt_edge.camera import Camera, CameraError, CameraTimeout, Frame
from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import SpoolCounts, Telemetry
from walt_edge.journal import Journal
from walt_edge.privacy import AnonymisedImage, SealedEnvelope
from walt_edge.spool import SpoolError, SpoolFullError
from walt_edge.telemetry import Meter
from walt_edge.update.holder import Look, ModelHolder
from walt_edge.vision.drift import MovingCameraError
from walt_edge.vision.sightings import Sighting

LOG = logging.getLogger(__name__)


class PipelineError(WaltError):
    """The agent cannot do its work."""


class Seen(Protocol):
    """What one step gives."""

    @property
    def image(self) -> AnonymisedImage | None:
        """The frame, anonymised; None while the plate is being learned."""

    @property
    def sightings(self) -> Sequence[Sighting]:
        """All objects in it."""

    @property
    def sealed(self) -> Sequence[SealedEnvelope]:
        """What is to be sent home."""


class Eyes(Protocol):
    """What turns frames into sealed envelopes: the watcher."""

    @property
    def objects_seen(self) -> int:
        """Tracks so far."""

    @property
    def crops_chosen(self) -> int:
        """Crops sealed so far."""

    @property
    def rejected_by_reason(self) -> Mapping[str, int]:
        """Objects that were not chosen, by reason."""

    def step(self, frame: Frame) -> Seen:
        """Watches one frame."""

    def finish(self) -> Sequence[SealedEnvelope]:
        """Ends all tracks; what they had left to give."""


class Store(Protocol):
    """What the pipeline wants of the spool."""

    def accept(self, sealed: SealedEnvelope) -> bool:
        """Takes an envelope; durable on return."""

    def counts(self) -> SpoolCounts:
        """Its counters."""


class Sender(Protocol):
    """What the pipeline wants of the uplink."""

    def notify(self) -> None:
        """Something new is in the spool."""

    def send_telemetry(self, telemetry: Telemetry) -> None:
        """Publishes telemetry if there is a connection."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """Times and limits of the loop.

    Attributes:
        read_timeout_s: How long to wait for a frame before looking whether to stop.
        quiet_warning_s: A camera silent for so long is worth a line in the log.
        telemetry_s: Between telemetry messages.
        failures_in_a_row: So many failing steps one after another end the agent.
        unreadable_in_a_row: So many frames one after another that the source cannot give end it too.
    """

    read_timeout_s: float = 1.0
    quiet_warning_s: float = 10.0
    telemetry_s: float = 30.0
    failures_in_a_row: int = 100
    unreadable_in_a_row: int = 10


@dataclass(eq=False)
class Pipeline:
    """Runs the stages in the calling thread.

    Attributes:
        camera: Where frames come from.
        eyes: The watcher.
        spool: Where envelopes go.
        uplink: Told of new envelopes, and takes telemetry.
        meter: Counts and times.
        journal: A diary, if wanted.
        models: Where the current model is asked for, frame by frame.
        settings: Times and limits.
    """

    camera: Camera
    eyes: Eyes
    spool: Store
    uplink: Sender
    meter: Meter
    journal: Journal | None = None
    models: ModelHolder = field(default_factory=ModelHolder)
    settings: PipelineSettings = field(default_factory=PipelineSettings)

    def __post_init__(self) -> None:
        self._failures_in_a_row = 0
        self._unreadable_in_a_row = 0
        self._is_spool_refusing = False
        self._heard_s = self._told_s = time.monotonic()

    def run(self, stop: threading.Event, frames: int | None = None) -> None:
        """Watches until `stop` is set, the source ends, or `frames` were processed; then finishes all tracks.

        Raises:
            CameraError: The source cannot be read; what was seen before is in the spool.
            MovingCameraError: The camera does not stand still.
            PipelineError: Too many steps in a row failed.
        """
        try:
            while not stop.is_set() and (frames is None or self.meter.frames_processed < frames):
                if not self._read_and_watch():
                    break
                self._tell(self.settings.telemetry_s)
        finally:
            self._finish()
            self._tell(0.0)

    def telemetry(self) -> Telemetry:
        """How the agent is doing at this moment."""
        return self.meter.report(
            self.camera.stats,
            self.spool.counts(),
            objects_seen=self.eyes.objects_seen,
            crops_chosen=self.eyes.crops_chosen,
            rejected_by_reason=self.eyes.rejected_by_reason,
            model_release=self.models.release,
        )

    def _read_and_watch(self) -> bool:
        """One turn of the loop; False when the source has ended."""
        self.models.exchange()
        try:
            frame = self.camera.read(self.settings.read_timeout_s)
        except CameraTimeout as error:
            self._note_silence(error)
            return True
        except CameraError as error:
            self._note_unreadable(error)
            return True
        if frame is None:
            return False
        self._heard_s = time.monotonic()
        self._unreadable_in_a_row = 0
        self._watch(frame)
        return True

    def _watch(self, frame: Frame) -> None:
        start_s = time.monotonic()
        try:
            seen = self.eyes.step(frame)
        except MovingCameraError:
            raise  # No later frame will mend it: a person has to.
        except Exception as error:
            # The frame's boundary: nothing of it is kept, whatever went wrong, and the next one has its chance.
            if self._failures_in_a_row == 0:
                LOG.exception("nothing is kept of frame %d", frame.index)
            self._note_failure(error)
            return
        self._failures_in_a_row = 0
        end_s = time.monotonic()
        self.meter.frames_processed += 1
        self.meter.step_ms.add(1e3 * (end_s - start_s))
        self.meter.frame_age_ms.add(1e3 * end_s - frame.captured.monotonic_ns / 1e6)
        self._store(seen.sealed)
        look = self._look(frame, seen.image)
        if self.journal is not None:
            self.journal.write(frame, seen.image, seen.sightings, seen.sealed, look)

    def _look(self, frame: Frame, image: AnonymisedImage | None) -> Look | None:
        # Raw pixels, which stay in memory: what it gives holds none, and where nobody knows what moves, the
        # anonymised frame is filled altogether. Of a frame that the anonymiser has not passed nothing is kept.
        look = self.models.look(frame.bgr) if image is not None else None
        if look is not None:
            self.meter.infer_ms.add(look.took_ms)
        return look

    def _store(self, sealed: Sequence[SealedEnvelope]) -> None:
        for one in sealed:
            try:
                self.spool.accept(one)
            except SpoolError as error:
                self.meter.refused_by_reason["disk full" if isinstance(error, SpoolFullError) else "spool"] += 1
                if not self._is_spool_refusing:
                    LOG.error("%s; dropping what is new, and watching on", error)
                self._is_spool_refusing = True
            else:
                self._is_spool_refusing = False
        if sealed:
            self.uplink.notify()

    def _finish(self) -> None:
        try:
            sealed = self.eyes.finish()
        except Exception:
            self.meter.anonymiser_failures += 1
            LOG.exception("the last tracks are lost")
            return
        self._store(sealed)
        if self.journal is not None:
            self.journal.note_sealed(sealed)

    def _note_failure(self, error: Exception) -> None:
        self.meter.anonymiser_failures += 1
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self.settings.failures_in_a_row:
            raise PipelineError(
                f"the last {self._failures_in_a_row} frames could not be watched and anonymised, and nothing was "
                f"kept of them; the last cause: {error}"
            ) from error

    def _note_unreadable(self, error: CameraError) -> None:
        """One bad picture is passed over; a source that gives nothing else is an error."""
        self._unreadable_in_a_row += 1
        if self._unreadable_in_a_row >= self.settings.unreadable_in_a_row:
            raise error
        LOG.warning("passed over: %s", error)

    def _note_silence(self, error: CameraTimeout) -> None:
        silent_s = time.monotonic() - self._heard_s
        if silent_s > self.settings.quiet_warning_s:
            LOG.warning("no frame for %.0f s; still trying: %s", silent_s, error)
            self._heard_s = time.monotonic()

    def _tell(self, after_s: float) -> None:
        """Sends telemetry if the last was that long ago."""
        if time.monotonic() - self._told_s < after_s:
            return
        self._told_s = time.monotonic()
        try:
            self.uplink.send_telemetry(self.telemetry())
        except SpoolError as error:
            LOG.error("no telemetry: %s", error)
