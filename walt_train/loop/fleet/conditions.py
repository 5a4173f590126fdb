"""What is bad, what is well and what nobody can tell: one function for each kind of alert.

Bad and well are apart (hysteresis): between them an alert that is raised stays, and one that is not does not come.
What cannot be told says nothing either way: while a device is away nobody knows whether its lens is clean.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from walt_train.loop.fleet.rules import Rules
from walt_train.loop.fleet.state import CameraState, DeviceState, silence_s

_SECOND: Final = 1_000_000
_DAY_S: Final = 86_400
_MB: Final = 1 << 20


class Level(enum.IntEnum):
    """How urgent; the greater the more."""

    WARNING = 1
    URGENT = 2


class Verdict(enum.Enum):
    """Of one condition at one moment."""

    BAD = "bad"
    BETWEEN = "between"
    WELL = "well"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reading:
    """One condition at one moment; `detail` says in a few words what was found, where it is bad."""

    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Home:
    """What home knows of itself.

    Attributes:
        listening_us: Since when the broker's messages come; None: they do not.
        free_bytes: Free on the disk of the store; None where it lies on none.
        expires_us: When certificates end, by (site, device); those that are not named are not known.
    """

    listening_us: int | None
    free_bytes: int | None = None
    expires_us: Mapping[tuple[str, str], int] = field(default_factory=dict)


_WELL: Final = Reading(Verdict.WELL)
_UNKNOWN: Final = Reading(Verdict.UNKNOWN)


def is_stale(heard_us: int, home: Home, now_us: int, rules: Rules) -> bool:
    """Whether telemetry is older than it may be; what came before we listened is not held against it."""
    if home.listening_us is None:
        return False
    return now_us - max(heard_us, home.listening_us) > rules.offline.stale_s * _SECOND


def is_present(device: DeviceState, home: Home, now_us: int, rules: Rules) -> bool:
    """Whether a device is there, as far as anybody can tell at this moment."""
    return device.status != "offline" and not (device.status == "" and is_stale(device.heard_us, home, now_us, rules))


def _is_fresh(heard_us: int, home: Home, now_us: int, rules: Rules) -> bool:
    """Whether something was heard since we listen, and lately."""
    if home.listening_us is None or heard_us < home.listening_us:
        return False
    return now_us - heard_us <= rules.offline.stale_s * _SECOND


def _offline(device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    if home.listening_us is None:
        return _UNKNOWN
    if device.status == "offline":
        return Reading(Verdict.BAD, f"said goodbye or was lost {_ago(device.status_us, now_us)}")
    if device.status == "" and is_stale(device.heard_us, home, now_us, rules):
        return Reading(Verdict.BAD, f"last heard {_ago(device.heard_us, now_us)}")
    return _WELL


def _silent(camera: CameraState, device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    if home.listening_us is None or not is_present(device, home, now_us, rules):
        return _UNKNOWN
    if is_stale(camera.heard_us, home, now_us, rules):
        return Reading(
            Verdict.BAD, f"its device is there and says nothing of it, last {_ago(camera.heard_us, now_us)}"
        )
    if not _is_fresh(camera.heard_us, home, now_us, rules):
        return _UNKNOWN
    silent_s = silence_s(camera)
    if silent_s > rules.silent_camera.silence_s:
        return Reading(Verdict.BAD, f"no frame for {_span(silent_s)}")
    return _WELL


def _dirty(camera: CameraState, device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    lens, rule = camera.lens, rules.dirty_lens
    if lens.clear_us != camera.heard_us or not _is_fresh(camera.heard_us, home, now_us, rules):
        return _UNKNOWN  # Night, or still learning.
    if lens.clear < rule.below:
        return Reading(Verdict.BAD, f"the worst quarter of the picture shows {lens.clear:.0%} of what it used to")
    return _WELL if lens.clear > rule.above else Reading(Verdict.BETWEEN)


def _moved(camera: CameraState, device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    if camera.moved_us and now_us - camera.moved_us < rules.moved_camera.quiet_s * _SECOND:
        return Reading(Verdict.BAD, f"moved by {camera.shift_px:.0f} px")
    return _WELL


def _anonymiser(camera: CameraState, device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    rule = rules.anonymiser
    if not _is_fresh(camera.heard_us, home, now_us, rules):
        return _UNKNOWN
    if camera.told.failures_in_a_row >= rule.in_a_row:
        return Reading(Verdict.BAD, f"the last {camera.told.failures_in_a_row} frames could not be anonymised")
    if camera.failing > rule.share:
        return Reading(Verdict.BAD, f"{camera.failing:.1%} of the frames could not be anonymised")
    return _WELL


def _disk(device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    told = device.told.disk if device.told is not None else None
    if told is None or not _is_fresh(device.heard_us, home, now_us, rules):
        return _UNKNOWN
    if told.trouble:
        return Reading(Verdict.BAD, "its spool did not take the newest crop")
    return _room(told.free_bytes, rules.disk.free_mb, rules.disk.clear_mb)


def _clock(device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    if device.told is None or not _is_fresh(device.heard_us, home, now_us, rules):
        return _UNKNOWN
    if abs(device.skew_s) > rules.clock.skew_s:
        return Reading(
            Verdict.BAD, f"{_span(abs(device.skew_s))} {'ahead of' if device.skew_s > 0 else 'behind'} home"
        )
    if device.told.clock == "unsynchronised":
        return Reading(Verdict.BAD, "nothing sets it")
    return _WELL


def _spool(device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    if device.told is None or home.listening_us is None or not _is_fresh(device.heard_us, home, now_us, rules):
        return _UNKNOWN
    spool, unacked_us = device.told.spool, rules.spool.unacked_s * _SECOND
    if device.dropped_us and now_us - device.dropped_us < unacked_us:
        return Reading(Verdict.BAD, f"full: {spool.dropped} crops dropped so far")
    if spool.depth and now_us - max(device.acked_us, home.listening_us) > unacked_us:
        return Reading(
            Verdict.BAD, f"{spool.depth} crops wait, and home took none since {_ago(device.acked_us, now_us)}"
        )
    return _WELL


def _model(device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    told = device.reported
    if told is None:
        return _UNKNOWN
    if told.state == "refused":
        why = f": {told.reason}" if told.reason else ""
        return Reading(Verdict.BAD, f"stays with release {told.release}, refused {told.desired}{why}"[:300])
    if told.state == "updating" and now_us - device.reported_us > rules.model.updating_s * _SECOND:
        return Reading(Verdict.BAD, f"release {told.desired} is on its way since {_ago(device.reported_us, now_us)}")
    return _WELL


def _certificate(device: DeviceState, home: Home, now_us: int, rules: Rules) -> Reading:
    ends_us = home.expires_us.get((device.site, device.device))
    if ends_us is None:
        return _UNKNOWN
    left_days = (ends_us - now_us) / _SECOND / _DAY_S
    if left_days > rules.certificate.days:
        return _WELL
    return Reading(Verdict.BAD, f"ends in {left_days:.0f} days" if left_days > 0 else "has ended")


def _home_disk(home: Home, now_us: int, rules: Rules) -> Reading:
    free_bytes = -1 if home.free_bytes is None else home.free_bytes
    return _room(free_bytes, rules.home_disk.free_mb, rules.home_disk.clear_mb)


def _broker(home: Home, now_us: int, rules: Rules) -> Reading:
    return Reading(Verdict.BAD, "no device is heard") if home.listening_us is None else _WELL


def _room(free_bytes: int, low_mb: float, high_mb: float) -> Reading:
    if free_bytes < 0:
        return _UNKNOWN
    if free_bytes < low_mb * _MB:
        return Reading(Verdict.BAD, f"{free_bytes / _MB:.0f} MB free")
    return _WELL if free_bytes > high_mb * _MB else Reading(Verdict.BETWEEN)


def _span(seconds: float) -> str:
    for length, word in ((_DAY_S, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {word}"
    return f"{seconds:.0f} s"


def _ago(then_us: int, now_us: int) -> str:
    return f"{_span(max(0, now_us - then_us) / _SECOND)} ago" if then_us else "never"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of alert: how urgent it is, what it is called, and what a person does about it."""

    level: Level
    title: str
    remedy: str


KINDS: Final = {
    "home_disk": Kind(
        Level.URGENT, "home's disk is nearly full", "free space where the store lies; until then nothing is stored"
    ),
    "broker": Kind(
        Level.URGENT, "home does not hear the broker", "start the broker, or check its address, certificates and ACL"
    ),
    "anonymiser": Kind(
        Level.URGENT,
        "frames cannot be anonymised",
        "nothing leaks, and nothing is kept: read the agent's log for the cause, restart or roll back the agent",
    ),
    "offline": Kind(Level.URGENT, "the device is away", "check its power and network, then `walt-edge doctor` on it"),
    "silent_camera": Kind(
        Level.URGENT,
        "the camera gives no frames",
        "check the camera's power, cable and address; `walt-edge doctor` on the device says what it can reach",
    ),
    "spool": Kind(
        Level.URGENT,
        "crops do not come home",
        "check that `walt-loop ingest` runs and that the device may publish; raise spool.quota_mb if it is full",
    ),
    "disk": Kind(
        Level.URGENT, "the device's disk is nearly full", "free space on the device, or lower spool.quota_mb there"
    ),
    "certificate": Kind(
        Level.WARNING, "the device's certificate ends", "renew it before then, or the broker will refuse the device"
    ),
    "model": Kind(
        Level.WARNING,
        "the device does not take its model",
        "read the reason; publish another release or undo this one",
    ),
    "moved_camera": Kind(
        Level.WARNING,
        "the camera stands elsewhere",
        "fasten its mount; its background is learned anew by itself, and its model may have to be trained anew",
    ),
    "clock": Kind(
        Level.WARNING,
        "the device's clock is wrong",
        "give the device a time source it can reach (NTP): its crops enter no split by time until then",
    ),
    "dirty_lens": Kind(
        Level.WARNING, "the lens is dirty", "clean the lens and its cover; look for webs, drops and fog"
    ),
}
"""By their names in the rules, the most urgent first."""

OF_CAMERA: Final[Mapping[str, Callable[[CameraState, DeviceState, Home, int, Rules], Reading]]] = {
    "silent_camera": _silent,
    "dirty_lens": _dirty,
    "moved_camera": _moved,
    "anonymiser": _anonymiser,
}
OF_DEVICE: Final[Mapping[str, Callable[[DeviceState, Home, int, Rules], Reading]]] = {
    "offline": _offline,
    "disk": _disk,
    "clock": _clock,
    "spool": _spool,
    "model": _model,
    "certificate": _certificate,
}
OF_HOME: Final[Mapping[str, Callable[[Home, int, Rules], Reading]]] = {"home_disk": _home_disk, "broker": _broker}

assert {*OF_CAMERA, *OF_DEVICE, *OF_HOME} == set(KINDS)
