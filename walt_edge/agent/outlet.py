"""The way out of a lane: what is worth its bytes goes to the spool, and the uplink is told that something waits."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from walt_edge.agent.telemetry import Meter, Stage
from walt_edge.contract.messages import Moment, SpoolCounts, Telemetry
from walt_edge.contract.telemetry import Disk
from walt_edge.privacy.anonymiser import AnonymisedImage, SealedEnvelope
from walt_edge.selecting.sampling import FrameSampler, SamplingSettings
from walt_edge.selecting.selector import Selector
from walt_edge.spool.spool import SpoolError, SpoolFullError

LOG = logging.getLogger(__name__)

MANY_OBJECTS = 10
"""A frame with so many is as interesting as any."""


class Store(Protocol):
    """What an outlet wants of the spool."""

    def accept(self, sealed: SealedEnvelope) -> bool:
        """Takes an envelope; durable on return."""

    def counts(self) -> SpoolCounts:
        """Its counters."""


class Sender(Protocol):
    """What an outlet wants of the uplink."""

    def notify(self) -> None:
        """Something new is in the spool."""

    def send_telemetry(self, telemetry: Telemetry) -> None:
        """Publishes telemetry if there is a connection."""


class Outlet:
    """One camera's way out; used by its lane's thread.

    Args:
        spool: Where envelopes wait; shared by all cameras.
        uplink: Told of new ones.
        meter: The lane's.
        selector: Says which crops may use the line; shared by all cameras. None: all.
        sampler: Chooses full frames of this camera to send; None: none.
        folder: Where the spool lies, for home to know how much of its disk is free.
        quota_bytes: How much the spool may hold; 0: not told.

    Attributes:
        sampling: Other settings for the sampler, to be taken over before its next frame; set from any thread.
        trouble: Why the spool did not take the newest envelope; "" if it did.
    """

    def __init__(
        self,
        spool: Store,
        uplink: Sender,
        meter: Meter,
        selector: Selector | None = None,
        sampler: FrameSampler | None = None,
        folder: Path | None = None,
        quota_bytes: int = 0,
    ) -> None:
        self.sampling: SamplingSettings | None = None
        self._sampler = sampler
        self._selector = selector
        self._spool = spool
        self._uplink = uplink
        self._meter = meter
        self._folder = folder
        self._quota_bytes = quota_bytes
        self.trouble = ""

    def take(self, sealed: Sequence[SealedEnvelope]) -> None:
        """Spools what is worth it; what the disk does not take is counted and dropped, and the camera watched on."""
        admitted = [one for one in sealed if self._admits(one)]
        for one in admitted:
            with self._meter.timed(Stage.SPOOL):
                self._accept(one)
        if admitted:
            self._uplink.notify()

    def offer(self, image: AnonymisedImage, captured: Moment, objects: int) -> None:
        """Has the sampler consider a full frame.

        Args:
            image: The frame.
            captured: When.
            objects: How many are in it.
        """
        if self._sampler is None:
            return
        settings, self.sampling = self.sampling, None
        if settings is not None:
            self._sampler.configure(settings)
        with self._meter.timed(Stage.SELECT):
            sampled = self._sampler.offer(image, captured, objects / MANY_OBJECTS)
        if sampled is not None:
            self.take([sampled])

    def counts(self) -> SpoolCounts:
        """The spool's counters; raises SpoolError."""
        return self._spool.counts()

    def disk(self) -> Disk | None:
        """The disk below the spool; None where the spool lies on none."""
        if self._folder is None:
            return None
        try:
            free_bytes = shutil.disk_usage(self._folder).free
        except OSError:
            free_bytes = -1
        return Disk(free_bytes=free_bytes, quota_bytes=self._quota_bytes, trouble=bool(self.trouble))

    def tell(self, telemetry: Telemetry) -> None:
        """Publishes telemetry if there is a connection."""
        self._uplink.send_telemetry(telemetry)

    def _admits(self, sealed: SealedEnvelope) -> bool:
        if self._selector is None:
            return True
        with self._meter.timed(Stage.SELECT):
            admission = self._selector.admit(sealed)
        if admission.refusal is not None:
            self._meter.refused_by_reason[admission.refusal.value] += 1
        return admission.taken

    def _accept(self, sealed: SealedEnvelope) -> None:
        try:
            self._spool.accept(sealed)
        except SpoolError as error:
            self._meter.refused_by_reason["disk full" if isinstance(error, SpoolFullError) else "spool"] += 1
            if not self.trouble:
                LOG.error("%s; dropping what is new, and watching on", error)
            self.trouble = str(error)
        else:
            self.trouble = ""
