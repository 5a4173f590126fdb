"""How the agent is doing, in numbers that a person can act on: ages, times and reasons, not only means."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from walt_edge.camera import CameraStats
from walt_edge.contract.messages import SpoolCounts, Telemetry

_SAMPLES = 1024


@dataclass(slots=True)
class Times:
    """The newest samples of one duration, milliseconds."""

    _samples: deque[float] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    def add(self, milliseconds: float) -> None:
        """Takes a sample."""
        self._samples.append(milliseconds)

    def percentile(self, percent: float) -> float:
        """A percentile of the samples held; 0 without any."""
        return float(np.percentile(np.asarray(self._samples), percent)) if self._samples else 0.0


@dataclass(slots=True)
class Meter:
    """What the pipeline counts by itself.

    Attributes:
        boot_id: Of this boot.
        started_s: Monotonic time of the start.
        frames_processed: Frames that were watched and anonymised.
        anonymiser_failures: Frames of which nothing was kept because a step failed.
        refused_by_reason: Envelopes that the spool did not take, by reason.
        frame_age_ms: From a frame's capture to the end of its step.
        step_ms: One step of the watcher.
        infer_ms: One look of the model.
    """

    boot_id: str
    started_s: float = field(default_factory=time.monotonic)
    frames_processed: int = 0
    anonymiser_failures: int = 0
    refused_by_reason: Counter[str] = field(default_factory=Counter)
    frame_age_ms: Times = field(default_factory=Times)
    step_ms: Times = field(default_factory=Times)
    infer_ms: Times = field(default_factory=Times)

    def report(
        self,
        camera: CameraStats,
        spool: SpoolCounts,
        *,
        objects_seen: int,
        crops_chosen: int,
        rejected_by_reason: Mapping[str, int],
        model_release: int = 0,
    ) -> Telemetry:
        """The message for home; counts are since the start."""
        return Telemetry(
            boot_id=self.boot_id,
            utc_us=time.time_ns() // 1000,
            uptime_s=time.monotonic() - self.started_s,
            frames_received=camera.frames_received,
            frames_processed=self.frames_processed,
            frames_skipped=camera.frames_skipped,
            frame_age_ms_p50=self.frame_age_ms.percentile(50),
            frame_age_ms_p99=self.frame_age_ms.percentile(99),
            step_ms_p50=self.step_ms.percentile(50),
            step_ms_p99=self.step_ms.percentile(99),
            camera_reconnects=camera.reconnects,
            anonymiser_failures=self.anonymiser_failures,
            objects_seen=objects_seen,
            crops_chosen=crops_chosen,
            rejected_by_reason={
                str(reason): count for reason, count in (self.refused_by_reason + Counter(rejected_by_reason)).items()
            },
            spool=spool,
            model_release=model_release,
            infer_ms_p50=self.infer_ms.percentile(50) if model_release else 0.0,
        )
