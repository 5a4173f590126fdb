"""One camera's lane: camera -> gate -> model -> watcher -> spool, frame by frame.

Bounded by construction: one frame is in work at a time, the camera keeps only its newest, and what the watcher seals
is on disk before the next frame is read. A step that fails stores and sends nothing, is counted, and the next frame
is read. The model, if there is one, looks at the same frame in memory; the heads of people whom it sees are covered
too, and what it sees goes to the page and the journal, never into mining, so that no model is ever taught by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from walt_edge.agent.eyes import Eyes, Seen
from walt_edge.agent.gating import StillGate
from walt_edge.agent.outlet import Outlet
from walt_edge.agent.showing import Showing
from walt_edge.agent.sight import Sight, Sights
from walt_edge.agent.telemetry import LaneFigures, Meter, Skip, Stage
from walt_edge.camera import Camera, CameraError, CameraTimeout, Frame
from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import Telemetry
from walt_edge.spool.spool import SpoolError
from walt_edge.update.holder import ModelHolder
from walt_edge.vision.drift import MovingCameraError

LOG = logging.getLogger(__name__)


class PipelineError(WaltError):
    """The agent cannot do its work."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """Times and limits of the loop.

    Attributes:
        read_timeout_s: How long to wait for a frame before looking whether to stop.
        quiet_warning_s: A camera silent for so long is worth a line in the log.
        telemetry_s: Between telemetry messages.
        failures_in_a_row: So many failing steps one after another end the lane.
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
        outlet: Where envelopes and telemetry go.
        meter: Counts and times.
        models: Where models are exchanged between two frames.
        sights: The model's eyes, if one may look.
        gate: Passes over still frames of a quiet street; None: every frame is watched.
        showing: Journal and page.
        settings: Times and limits.
    """

    camera: Camera
    eyes: Eyes
    outlet: Outlet
    meter: Meter
    models: ModelHolder = field(default_factory=ModelHolder)
    sights: Sights | None = None
    gate: StillGate | None = None
    showing: Showing = field(default_factory=Showing)
    settings: PipelineSettings = field(default_factory=PipelineSettings)

    def __post_init__(self) -> None:
        self._unreadable_in_a_row = 0
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
        """How the lane is doing at this moment."""
        return self.meter.report(
            self.camera.stats,
            self.outlet.counts(),
            objects_seen=self.eyes.objects_seen,
            crops_chosen=self.eyes.crops_chosen,
            rejected_by_reason=self.eyes.rejected_by_reason,
            model_release=self.models.release,
            lens=self.eyes.lens,
            disk=self.outlet.disk(),
        )

    def figures(self) -> LaneFigures:
        """The same for this device's own page; from any thread."""
        return self.meter.figures(
            self.camera.stats,
            objects_seen=self.eyes.objects_seen,
            crops_chosen=self.eyes.crops_chosen,
            rejected_by_reason=self.eyes.rejected_by_reason,
        )

    def _read_and_watch(self) -> bool:
        """One turn of the loop; False when the source has ended."""
        self.meter.turn()
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
        self.meter.received()
        if self.gate is not None and not self.gate.wants(frame):
            self.meter.skipped[Skip.GATED] += 1
            return True
        self._watch(frame)
        return True

    def _watch(self, frame: Frame) -> None:
        try:
            with self.meter.timed(Stage.STEP):
                self._step(frame)
        except MovingCameraError:
            raise  # No later frame will mend it: a person has to.
        except Exception as error:
            # The frame's boundary: nothing of it is kept, whatever went wrong, and the next one has its chance.
            if self.meter.failures_in_a_row == 0:
                LOG.exception("nothing is kept of frame %d", frame.index)
            self._note_failure(error)
            return
        self.meter.processed(frame.captured.monotonic_ns)

    def _step(self, frame: Frame) -> None:
        sight = self._look(frame)
        with self.meter.timed(Stage.WATCH):
            seen = self.eyes.step(frame, sight.look.instances if sight else None)
        if self.gate is not None:
            self.gate.note(busy=seen.is_busy)
        self._count(sight, seen)
        self._hand_on(frame, seen)

    def _hand_on(self, frame: Frame | None, seen: Seen) -> None:
        """What may leave: envelopes to the outlet, the picture of a moment ago to whoever looks."""
        self.outlet.take(seen.sealed)
        if seen.image is not None and seen.frame is not None:
            self.outlet.offer(seen.image, seen.frame.captured, len(seen.sightings))
        self.showing.show(frame, seen, self._sight_of(seen))

    def _sight_of(self, seen: Seen) -> Sight | None:
        """What the model made of the frame that may be shown."""
        if self.sights is None:
            return None
        if seen.frame is not None:
            return self.sights.of(seen.frame.index)
        if seen.is_learning:
            self.sights.forget()  # No frame waits: none of them will be shown.
        return None

    def _look(self, frame: Frame) -> Sight | None:
        if self.sights is None:
            return None
        return self.sights.look(frame, quiet=self.gate is not None and self.gate.is_quiet)

    def _count(self, sight: Sight | None, seen: Seen) -> None:
        """Objects now: by the model, or by motion where there is none."""
        if sight is not None:
            self.meter.objects_now = len(sight.objects)
            self.meter.hidden_now = sum(one.state in ("partly_hidden", "hidden") for one in sight.objects)
        elif self.models.current is None:
            self.meter.objects_now, self.meter.hidden_now = len(seen.sightings), 0

    def _finish(self) -> None:
        try:
            for seen in self.eyes.drain():
                self._hand_on(None, seen)
            sealed = self.eyes.finish()
        except Exception:
            self.meter.anonymiser_failures += 1
            LOG.exception("the last tracks are lost")
            return
        self.outlet.take(sealed)
        self.showing.note_sealed(sealed)

    def _note_failure(self, error: Exception) -> None:
        self.meter.failed()
        self.showing.clear()
        if self.meter.failures_in_a_row >= self.settings.failures_in_a_row:
            raise PipelineError(
                f"the last {self.meter.failures_in_a_row} frames could not be watched and anonymised, and nothing "
                f"was kept of them; the last cause: {error}"
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
            self.outlet.tell(self.telemetry())
        except SpoolError as error:
            LOG.error("no telemetry: %s", error)
