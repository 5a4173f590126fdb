"""What home knows of each device and camera at this moment: bounded, and made of nothing but what they told.

Counters of an agent begin at 0 with every start, the spool's go on. What is kept of them is by how much they grew;
the last value lies in the state, which is written together with the growth, so that a listener that is killed and
begins again neither loses nor doubles any of it.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec

from walt_edge.contract.messages import Info, Reported
from walt_edge.contract.telemetry import SpoolCounts, Telemetry
from walt_train.loop.fleet.figures import COUNTERS, Bucket, bucket_of
from walt_train.loop.fleet.lens import Clearness

_SPOOL: Final = ("spool_accepted", "spool_dropped")
# One frame of a few says nothing about the rest.
_FAILURES_LEAST: Final = 3
# Between two messages; more is no counter's, and sums have to fit a database's numbers.
_GROWTH_MOST: Final = 10**9


class DeviceState(msgspec.Struct, kw_only=True):
    """One device; times are home's, microseconds UTC.

    Attributes:
        site: The site's name.
        device: The device id.
        heard_us: When its newest telemetry came; 0: never.
        status: `online` or `offline`; "" while neither was heard.
        status_us: When that was heard first.
        info: What it is.
        reported: What model it runs, and what became of the last one.
        reported_us: When that was heard first.
        acked_us: When its spool last had nothing waiting, or home took something of it.
        dropped_us: When its spool last dropped something; 0: never.
        skew_s: The device's clock less home's, seconds, as the newest telemetry came.
        told: Its newest telemetry, of any of its cameras: what is the whole device's is read from it.
    """

    site: str
    device: str
    heard_us: int = 0
    status: Literal["online", "offline", ""] = ""
    status_us: int = 0
    info: Info | None = None
    reported: Reported | None = None
    reported_us: int = 0
    acked_us: int = 0
    dropped_us: int = 0
    skew_s: float = 0.0
    told: Telemetry | None = None

    @property
    def newest_us(self) -> int:
        """When anything of it was heard."""
        return max(self.heard_us, self.status_us, self.reported_us)


class CameraState(msgspec.Struct, kw_only=True):
    """One camera; times are home's, microseconds UTC.

    Attributes:
        site: The site's name.
        device: The device id.
        camera: The camera's name; "" where a device does not name its only one.
        heard_us: When its newest telemetry came.
        told: That.
        frames_us: When its frames last grew.
        moved_us: When it was last found to stand elsewhere; 0: never.
        shift_px: By how much then.
        failing: Share of frames that were not anonymised between the two newest messages, 0..1.
        lens: What its picture looked like of old.
    """

    site: str
    device: str
    camera: str
    heard_us: int
    told: Telemetry
    frames_us: int
    moved_us: int = 0
    shift_px: float = 0.0
    failing: float = 0.0
    lens: Clearness = msgspec.field(default_factory=Clearness)

    @property
    def key(self) -> int:
        """Of its samples."""
        return camera_key(self.site, self.device, self.camera)


def camera_key(site: str, device: str, camera: str) -> int:
    """A number for a camera, the same wherever it is made: 62 bits of a hash.

    Two of 10,000 cameras share one with a chance of 1 in 10^11.
    """
    digest = hashlib.sha256("\0".join((site, device, camera)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def note_telemetry(device: DeviceState, told: Telemetry, received_us: int) -> None:
    """Takes over what telemetry says of the whole device."""
    before = device.told.spool if device.told is not None else told.spool
    spool = told.spool
    if spool.depth == 0 or spool.acked > before.acked or device.acked_us == 0:
        device.acked_us = received_us
    if spool.dropped > before.dropped:
        device.dropped_us = received_us
    device.skew_s = (told.utc_us - received_us) / 1e6
    device.heard_us, device.told = received_us, told


def note_camera(
    known: CameraState | None, who: tuple[str, str], told: Telemetry, received_us: int
) -> tuple[CameraState, Bucket[float]]:
    """The camera's new state, and the sample that the message makes.

    Args:
        known: Its state so far; None: it was never heard.
        who: Site and device.
        told: Its telemetry.
        received_us: Home's clock.
    """
    grown = _grown(known.told if known is not None else None, told)
    state = known or CameraState(
        site=who[0], device=who[1], camera=told.camera, heard_us=0, told=told, frames_us=received_us
    )
    if grown["frames_received"]:
        state.frames_us = received_us
    lens = told.lens
    if lens is not None and grown["moves"]:
        state.moved_us, state.shift_px = received_us, lens.shift_px
        state.lens = Clearness()
    frames = grown["frames_processed"] + grown["anonymiser_failures"]
    failures = grown["anonymiser_failures"]
    state.failing = failures / frames if failures >= _FAILURES_LEAST else 0.0
    elapsed_s = (received_us - state.heard_us) / 1e6 if state.heard_us else 0.0
    if lens is not None:
        state.lens = state.lens.seen(lens.detail, lens.brightness, elapsed_s, received_us)
    state.heard_us, state.told = received_us, told
    return state, _sample(state, grown, received_us)


def _sample(state: CameraState, grown: dict[str, int], received_us: int) -> Bucket[float]:
    told = state.told
    spreads = {
        "frame_age_ms_p50": told.frame_age_ms_p50,
        "frame_age_ms_p99": told.frame_age_ms_p99,
        "step_ms_p99": told.step_ms_p99,
        "infer_ms_p50": told.infer_ms_p50,
        "silence_s": silence_s(state),
        "skew_s": (told.utc_us - received_us) / 1e6,
        "spool_depth": float(told.spool.depth),
        "spool_bytes": float(told.spool.bytes),
    }
    ranges = {}
    if state.lens.clear_us == received_us:
        ranges["lens_clear"] = state.lens.clear
    if told.disk is not None and told.disk.free_bytes >= 0:
        ranges["disk_free_bytes"] = float(told.disk.free_bytes)
    return bucket_of(grown, spreads, ranges)


def silence_s(state: CameraState) -> float:
    """How long the camera had given no frame when it last told, seconds; by its frames where it does not say."""
    told = state.told
    if told.silence_s >= 0:
        return told.silence_s
    if told.frames_received == 0:
        return told.uptime_s
    return (state.heard_us - state.frames_us) / 1e6


def _grown(before: Telemetry | None, told: Telemetry) -> dict[str, int]:
    now = _counts(told)
    if before is None:
        # Since when it counts is not known: growth begins here.
        return dict.fromkeys(COUNTERS, 0)
    then = _counts(before)
    is_new_run = told.boot_id != before.boot_id or told.uptime_s < before.uptime_s
    grown = {}
    for name in COUNTERS:
        # A lane that opens its camera anew begins some at 0 within a run; the spool's outlive a run.
        begins_anew = now[name] < then[name] or (is_new_run and name not in _SPOOL)
        grown[name] = min(now[name] if begins_anew else now[name] - then[name], _GROWTH_MOST)
    grown["restarts"] = int(is_new_run)
    return grown


def _counts(told: Telemetry) -> dict[str, int]:
    spool: SpoolCounts = told.spool
    return {
        "frames_received": told.frames_received,
        "frames_processed": told.frames_processed,
        "frames_skipped": told.frames_skipped,
        "camera_reconnects": told.camera_reconnects,
        "anonymiser_failures": told.anonymiser_failures,
        "objects_seen": told.objects_seen,
        "crops_chosen": told.crops_chosen,
        "rejected": sum(told.rejected_by_reason.values()),
        "moves": told.lens.moves if told.lens is not None else 0,
        "spool_accepted": spool.accepted,
        "spool_dropped": spool.dropped,
        "restarts": 0,
        "looks": told.looks,
        "scored": told.scored,
        "score_milli": told.score_milli,
    }
