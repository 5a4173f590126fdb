"""When clips were seen, where a wall clock may be wrong or may have been set while the camera watched."""

from __future__ import annotations

from collections.abc import Sequence

from walt_edge.contract.messages import Clock, CropHeader, Moment


def believed_times(headers: Sequence[CropHeader]) -> list[int]:
    """Microseconds since 1970 of each clip: the wall clock where it was synchronised throughout a boot.

    In any other boot the monotonic clock, which nobody sets, moved to where the wall clock was last known best. So
    the order within a boot is always the true one, and only where a whole boot lies in time may be wrong.
    """
    boots: dict[tuple[str, str], list[Moment]] = {}
    for header in headers:
        boots.setdefault(_boot(header), []).append(header.captured)
    shifts = {boot: _shift(moments) for boot, moments in boots.items() if not all(map(_is_sure, moments))}
    return [
        header.captured.utc_us
        if _boot(header) not in shifts
        else header.captured.monotonic_ns // 1000 + shifts[_boot(header)]
        for header in headers
    ]


def _boot(header: CropHeader) -> tuple[str, str]:
    return header.origin.device, header.captured.boot_id


def _is_sure(moment: Moment) -> bool:
    return moment.clock is Clock.SYNCHRONISED


def _shift(moments: Sequence[Moment]) -> int:
    """Wall clock minus monotonic clock, microseconds, at the last synchronised moment, or the last of all."""
    best = max(moments, key=lambda moment: (_is_sure(moment), moment.monotonic_ns))
    return best.utc_us - best.monotonic_ns // 1000
