"""When a frame was captured, and how far the wall clock can be believed."""

from __future__ import annotations

import ctypes
import functools
import time
import uuid
from pathlib import Path

from walt_edge.contract.messages import Clock, Moment

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 256  # struct timex is 208 bytes on 64-bit Linux and smaller elsewhere
_CLOCK_CHECK_S = 10.0


@functools.cache
def boot_id() -> str:
    """The kernel's id of this boot; where there is none, one that is random per process."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def clock_state() -> Clock:
    """Whether the kernel holds the wall clock to be set by a time source; unsynchronised where it cannot tell."""
    return _clock_state(int(time.monotonic() / _CLOCK_CHECK_S))


@functools.lru_cache(maxsize=1)
def _clock_state(epoch: int) -> Clock:
    """Asks once per `epoch`: the state changes rarely, and is wanted for every frame."""
    try:
        # A zeroed struct asks (modes = 0) and changes nothing; anybody may.
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return Clock.UNSYNCHRONISED
    return Clock.SYNCHRONISED if 0 <= state < _TIME_ERROR else Clock.UNSYNCHRONISED


def live_moment(media_time_s: float, monotonic_ns: int | None = None) -> Moment:
    """The moment of a frame that arrived at `monotonic_ns` (default: now), by this device's clocks."""
    now_ns = time.monotonic_ns()
    arrived_ns = now_ns if monotonic_ns is None else monotonic_ns
    return Moment(
        utc_us=max(0, (time.time_ns() - (now_ns - arrived_ns)) // 1000),
        boot_id=boot_id(),
        monotonic_ns=arrived_ns,
        clock=clock_state(),
        media_time_s=media_time_s,
    )
