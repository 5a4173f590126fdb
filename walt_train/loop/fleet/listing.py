"""The fleet as a person reads it: alerts first, the most urgent on top, each with what to do; then all devices."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from walt_train.loop.fleet.conditions import KINDS, Level
from walt_train.loop.fleet.judging import Alert, Subject
from walt_train.loop.fleet.keeping import Snapshot
from walt_train.loop.fleet.state import CameraState, DeviceState, silence_s

_SECOND: Final = 1_000_000
_QUIET_S: Final = 120.0


def sorted_alerts(snapshot: Snapshot) -> list[tuple[Subject, Alert]]:
    """Those that are raised: the most urgent first, then the oldest."""
    order = {name: place for place, name in enumerate(KINDS)}
    raised = [(subject, alert) for subject, alert in snapshot.alerts.items() if alert.state == "raised"]
    return sorted(
        raised, key=lambda one: (-_level(one[0]), one[1].since_us, order.get(one[0].kind, len(order)), one[0])
    )


def render(snapshot: Snapshot, now_us: int) -> str:
    """The tables, as lines."""
    lines = [_headline(snapshot, now_us), ""]
    for subject, alert in sorted_alerts(snapshot):
        kind = KINDS[subject.kind]
        lines.append(f"{kind.level.name:<8}{_place(subject) or 'home'}: {kind.title} ({alert.detail})")
        lines.append(f"{'':<8}since {_at(alert.since_us)}: {kind.remedy}")
    if len(lines) > 2:
        lines.append("")
    lines += _table(_rows(snapshot, now_us))
    return "\n".join(lines) + "\n"


def as_json(snapshot: Snapshot, now_us: int) -> dict[str, Any]:
    """The same for programs; times are microseconds UTC."""
    return {
        "at_us": now_us,
        "judged_us": snapshot.judged_us,
        "listening_us": snapshot.listening_us,
        "alerts": [
            {
                **subject._asdict(),
                "level": KINDS[subject.kind].level.name.lower(),
                "title": KINDS[subject.kind].title,
                "detail": alert.detail,
                "remedy": KINDS[subject.kind].remedy,
                "since_us": alert.since_us,
            }
            for subject, alert in sorted_alerts(snapshot)
        ],
        "devices": list(snapshot.devices.values()),
        "cameras": list(snapshot.cameras.values()),
    }


def _headline(snapshot: Snapshot, now_us: int) -> str:
    devices, cameras = len(snapshot.devices), len(snapshot.cameras)
    online = sum(device.status == "online" for device in snapshot.devices.values())
    head = f"{devices} devices, {online} online; {cameras} cameras"
    age_s = (now_us - snapshot.judged_us) / _SECOND
    if not snapshot.judged_us:
        return f"{head}. Nobody has listened yet: start walt-loop ingest or walt-loop fleet watch"
    if age_s > _QUIET_S:
        return f"{head}. Nobody listens since {_at(snapshot.judged_us)}: what follows is of then"
    if snapshot.listening_us is None:
        return f"{head}. The broker is not heard: what follows is of before"
    raised = len(sorted_alerts(snapshot))
    return f"{head}; {raised} alerts" if raised else f"{head}; all is well"


def _rows(snapshot: Snapshot, now_us: int) -> list[tuple[str, ...]]:
    troubled = {subject[1:]: _level(subject) for subject, _ in sorted_alerts(snapshot)[::-1]}
    rows: list[tuple[int, tuple[str, ...]]] = []
    of_device: dict[tuple[str, str], list[CameraState]] = {}
    for camera in snapshot.cameras.values():
        of_device.setdefault((camera.site, camera.device), []).append(camera)
    for who, device in snapshot.devices.items():
        cameras: Sequence[CameraState | None] = of_device.get(who) or [None]
        for one in cameras:
            name = one.camera if one is not None else ""
            level = max(troubled.get((*who, name), 0), troubled.get((*who, ""), 0))
            rows.append((-level, _row(device, one, now_us)))
    return [_HEAD, *(row for _, row in sorted(rows))]


_HEAD: Final = ("DEVICE", "CAMERA", "STATE", "HEARD", "LAST FRAME", "WATCHED", "CROPS", "WAITING", "MODEL", "LENS")


def _row(device: DeviceState, camera: CameraState | None, now_us: int) -> tuple[str, ...]:
    told = camera.told if camera is not None else None
    reported = device.reported
    model = (
        "-" if reported is None else f"{reported.release}{'' if reported.state == 'active' else ' ' + reported.state}"
    )
    if camera is None or told is None:
        return (f"{device.site}/{device.device}", "-", device.status or "?", "never", "-", "-", "-", "-", model, "-")
    lens = f"{camera.lens.clear:.0%}" if camera.lens.clear_us else "learning"
    return (
        f"{device.site}/{device.device}",
        camera.camera or "-",
        device.status or "?",
        f"{(now_us - camera.heard_us) / _SECOND:.0f} s ago",
        f"{silence_s(camera):.0f} s before",
        f"{told.frames_processed}",
        f"{told.crops_chosen}",
        f"{told.spool.depth}",
        model,
        lens,
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def is_urgent(subject: Subject) -> bool:
    """Whether somebody should look now."""
    return _level(subject) >= Level.URGENT


def _level(subject: Subject) -> int:
    kind = KINDS.get(subject.kind)
    return int(kind.level) if kind is not None else int(Level.WARNING)


def _place(subject: Subject) -> str:
    return "/".join(word for word in subject[1:] if word)


def _at(time_us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time_us / _SECOND))
