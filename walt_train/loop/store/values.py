"""What goes into a store and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from walt_edge.contract.messages import Envelope


@dataclass(frozen=True, slots=True)
class Accepted:
    """A checked envelope on its way into the store; `held` is why it may not train yet, at most 64 characters."""

    id: str
    envelope: Envelope
    data: bytes
    held: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes that are no valid envelope: where they arrived, and why they were refused."""

    topic: str
    data: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An envelope read back, its hash checked."""

    id: str
    envelope: Envelope


class StoreCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What the store holds, and what it has met since it was made; `held` are those that may not train yet."""

    crops: int
    plates: int
    frames: int
    bytes: int
    duplicates: int
    rejected: int
    quarantined: int
    tombstones: int
    held: int = 0
