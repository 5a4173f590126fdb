"""What an agent tells home of itself again and again: a small JSON message for each of its cameras.

Every field that came after the first version has a default that means "not told", so that an older device and an
older home go on understanding each other. Readers at home take it through `decode_telemetry`, which believes nothing.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from walt_edge.contract.errors import WaltError

MAX_TELEMETRY_BYTES: Final = 16 * 1024
MAX_REASONS: Final = 64
LENS_TILES: Final = 16
"""The plate is looked at in 4 x 4 tiles, row by row."""

# Databases hold signed 64-bit numbers; counters from home's own figures stay far below.
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Figure = Annotated[float, Meta(ge=0.0, le=1e12)]
# Written by software, read into logs and pages: no control characters.
_Word = Annotated[str, Meta(max_length=64, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]


class TelemetryError(WaltError):
    """A message is no telemetry, or says what cannot be."""


class SpoolCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Persisted with the spool; accepted = acked + dropped + rejected + depth, always."""

    accepted: _Count = 0
    acked: _Count = 0
    dropped: _Count = 0
    rejected: _Count = 0
    depth: _Count = 0
    bytes: _Count = 0


class Lens(msgspec.Struct, frozen=True, kw_only=True):
    """What the background tells of the lens and of the mount; objects and noise are not in the plate.

    Attributes:
        moves: How often the camera was found to stand elsewhere, since its lane began; 0 while nothing is known.
        shift_px: By how much at the last move, pixels of the frame.
        brightness: Mean of the plate, grey levels; -1 before there is a plate.
        detail: For each of `LENS_TILES` tiles, how much of its contrast is fine: 0 (dim, covered) and up. Comparable
            only with the same tile of the same view. () before there is a plate.
    """

    moves: _Count = 0
    shift_px: _Figure = 0.0
    brightness: Annotated[float, Meta(ge=-1.0, le=255.0)] = -1.0
    detail: Annotated[tuple[_Figure, ...], Meta(max_length=LENS_TILES)] = ()


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The device's disk.

    Attributes:
        free_bytes: Free on the spool's file system; -1 where nobody can tell.
        quota_bytes: How much the spool may hold; 0 where it was not told.
        trouble: Whether the spool did not take the newest envelope.
    """

    free_bytes: Annotated[int, Meta(ge=-1, le=2**62)] = -1
    quota_bytes: _Count = 0
    trouble: bool = False


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What the device shows at the broker.

    Attributes:
        days_left: Until it ends; negative afterwards.
        trouble: Whether the last attempt to renew it failed.
    """

    days_left: Annotated[float, Meta(ge=-1e6, le=1e6)]
    trouble: bool = False


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """How the agent is doing with one of its cameras. Counts are since its start; times in milliseconds.

    `model_release` is 0 and `infer_ms_p50` 0.0 while no model looks. `spool`, `disk`, `clock` and `boot_id` are the
    whole device's; `camera` is its name. `silence_s` is the time since the newest frame, -1 before the first;
    `failures_in_a_row` counts the newest frames of which nothing was kept. `clock` is "" and `lens` and `disk` are
    None where the device is older than these fields, and `certificate` also where it was never enrolled. `looks` are
    the frames that the model looked at, `scored` the instances it saw in them and `score_milli` the sum of their
    scores in thousandths: home has the mean of any stretch of time from two messages. All are 0 without a model.
    """

    boot_id: _Word
    utc_us: _Count
    uptime_s: _Figure
    frames_received: _Count
    frames_processed: _Count
    frames_skipped: _Count
    frame_age_ms_p50: _Figure
    frame_age_ms_p99: _Figure
    step_ms_p50: _Figure
    step_ms_p99: _Figure
    camera_reconnects: _Count
    anonymiser_failures: _Count
    objects_seen: _Count
    crops_chosen: _Count
    rejected_by_reason: Annotated[dict[_Word, _Count], Meta(max_length=MAX_REASONS)]
    spool: SpoolCounts
    model_release: Annotated[int, Meta(ge=0, le=2**62)] = 0
    infer_ms_p50: _Figure = 0.0
    camera: _Word = ""
    clock: Literal["", "synchronised", "unsynchronised"] = ""
    silence_s: Annotated[float, Meta(ge=-1.0, le=1e12)] = -1.0
    failures_in_a_row: _Count = 0
    lens: Lens | None = None
    disk: Disk | None = None
    certificate: Certificate | None = None
    looks: _Count = 0
    scored: _Count = 0
    score_milli: _Count = 0


def decode_telemetry(data: bytes) -> Telemetry:
    """Decodes telemetry and checks every number.

    Raises:
        TelemetryError: Too large, no JSON, a wrong type, or a number that cannot be.
    """
    if len(data) > MAX_TELEMETRY_BYTES:
        raise TelemetryError(f"telemetry of {len(data)} bytes is above the limit of {MAX_TELEMETRY_BYTES}")
    try:
        told = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TelemetryError(f"no telemetry: {error}") from error
    if told.lens is not None and len(told.lens.detail) not in (0, LENS_TILES):
        raise TelemetryError(f"no telemetry: {len(told.lens.detail)} tiles of the lens, expected {LENS_TILES}")
    return told


_DECODER: Final = msgspec.json.Decoder(Telemetry)
