"""Devices that say what a test wants: messages as the edge sends them, and the state that they leave."""

from __future__ import annotations

from typing import Any

import msgspec

from walt_edge.contract.messages import Reported, Status
from walt_edge.contract.telemetry import LENS_TILES, Disk, Lens, SpoolCounts, Telemetry
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.fleet.conditions import Home
from walt_train.loop.fleet.fleet import Fleet, Outcome
from walt_train.loop.fleet.judging import Alert, History, Judgement, Subject, judge
from walt_train.loop.fleet.rules import Rules

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
BEGIN = 1_700_000_000 * SECOND
DETAIL = tuple(0.05 + 0.01 * tile for tile in range(LENS_TILES))


def telemetry(**changes: Any) -> Telemetry:
    told = Telemetry(
        boot_id="boot-1",
        utc_us=BEGIN,
        uptime_s=100.0,
        frames_received=1000,
        frames_processed=900,
        frames_skipped=100,
        frame_age_ms_p50=40.0,
        frame_age_ms_p99=90.0,
        step_ms_p50=30.0,
        step_ms_p99=80.0,
        camera_reconnects=0,
        anonymiser_failures=0,
        objects_seen=30,
        crops_chosen=10,
        rejected_by_reason={"border": 7},
        spool=SpoolCounts(accepted=10, acked=10),
        camera="gate",
        clock="synchronised",
        silence_s=0.1,
        lens=Lens(brightness=120.0, detail=DETAIL),
        disk=Disk(free_bytes=8 << 30, quota_bytes=1 << 30),
    )
    return msgspec.structs.replace(told, **changes)


class Device:
    """One device with one camera, at home's own time unless its clock is off.

    Attributes:
        told: What it says next; change it as the test goes.
    """

    def __init__(self, fleet: Fleet, site: str = "yard", name: str = "walt-1", began_us: int = BEGIN) -> None:
        self.topics = DeviceTopics(site, name)
        self.told = telemetry()
        self.off_us = 0
        self._fleet = fleet
        self._began_us = began_us

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.topics.site, self.topics.device, self.told.camera)

    def speaks_to(self, fleet: Fleet) -> None:
        """Home has begun anew."""
        self._fleet = fleet

    def says(self, now_us: int, **changes: Any) -> Outcome:
        """Telemetry with its frames counted on, at 10 a second since the last."""
        self.told = msgspec.structs.replace(self.told, **changes)
        timed = msgspec.structs.replace(
            self.told, utc_us=now_us + self.off_us, uptime_s=max(0.0, (now_us - self._began_us) / SECOND)
        )
        return self._fleet.take(self.topics.telemetry, msgspec.json.encode(timed), now_us)

    def watches(self, now_us: int, frames: int = 300, **changes: Any) -> Outcome:
        told = self.told
        return self.says(
            now_us,
            frames_received=told.frames_received + frames,
            frames_processed=told.frames_processed + frames,
            **changes,
        )

    def restarts(self, now_us: int, **changes: Any) -> None:
        """The agent begins anew: its own counters are 0."""
        self._began_us = now_us
        zero = dict.fromkeys(
            ("frames_received", "frames_processed", "frames_skipped", "objects_seen", "crops_chosen",
             "anonymiser_failures", "camera_reconnects"), 0
        )  # fmt: skip
        self.told = msgspec.structs.replace(self.told, rejected_by_reason={}, **zero, **changes)

    def status(self, state: str, now_us: int) -> Outcome:
        said = Status(state=state, boot_id="boot-1")  # type: ignore[arg-type]
        return self._fleet.take(self.topics.status, msgspec.json.encode(said), now_us)

    def reports(self, reported: Reported, now_us: int) -> Outcome:
        return self._fleet.take(self.topics.reported, msgspec.json.encode(reported), now_us)


class Court:
    """Judges a fleet again and again, as the watch does, and keeps the record."""

    def __init__(self, fleet: Fleet, rules: Rules | None = None, listening_us: int | None = BEGIN) -> None:
        self.fleet = fleet
        self.rules = rules or Rules()
        self.home = Home(listening_us)
        self.alerts: dict[Subject, Alert] = {}
        self.record: list[tuple[int, str, Subject, str]] = []

    def sits(self, now_us: int) -> Judgement:
        history = History(self.fleet.devices, self.fleet.cameras, self.home)
        found = judge(history, self.alerts, now_us, self.rules)
        for subject in found.raised:
            self.record.append((now_us, "raised", subject, found.alerts[subject].detail))
        for subject, why in found.cleared:
            self.record.append((now_us, "cleared", subject, why))
        self.alerts = dict(found.alerts)
        return found

    def story(self, kind: str) -> list[str]:
        """What became of one kind, in order."""
        return [what for _, what, subject, _ in self.record if subject.kind == kind]

    def detail(self, kind: str) -> str:
        """The newest of one kind."""
        return next(why for _, _, subject, why in reversed(self.record) if subject.kind == kind)
