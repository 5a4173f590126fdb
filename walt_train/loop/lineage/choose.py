"""Which of what the store holds is meant: crops, cameras, devices, an interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, false, or_, select, true

from walt_edge.contract.errors import UsageError
from walt_edge.contract.messages import Clock
from walt_edge.contract.topics import DeviceTopics
from walt_train.loop.lineage import graph
from walt_train.loop.store.tables import envelopes

_LEAST_DIGITS = 8


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What is meant is what every given part of it means; nothing given means nothing.

    Attributes:
        crops: Ids of any of these.
        cameras: Of any of these.
        devices: Of any of these, SITE/DEVICE.
        since_us: Captured then or later.
        until_us: Captured before.
    """

    crops: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    since_us: int | None = None
    until_us: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is given."""
        return self == Choice()

    @property
    def is_crops_alone(self) -> bool:
        """Whether crops are named and nothing else."""
        return bool(self.crops) and self == Choice(crops=self.crops)

    @property
    def is_cameras_alone(self) -> bool:
        """Whether cameras are named and nothing else."""
        return bool(self.cameras) and self == Choice(cameras=self.cameras)

    def where(self) -> ColumnElement[bool]:
        """As a condition on the store's rows; crops are left to `chosen`, of which there may be many."""
        if self.is_empty:
            return false()
        parts: list[ColumnElement[bool]] = [true()]
        if self.cameras:
            parts.append(envelopes.c.camera.in_(self.cameras))
        if self.devices:
            parts.append(or_(*(_is_of(DeviceTopics.parse(text)) for text in self.devices)))
        if self.since_us is not None or self.until_us is not None:
            # A clock that nobody had set tells nothing: then it counts when home got it.
            parts.append(or_(self._within(envelopes.c.captured_us), _UNSET & self._within(envelopes.c.received_us)))
        return and_(*parts)

    def _within(self, column: Any) -> ColumnElement[bool]:
        parts: list[ColumnElement[bool]] = [true()]
        if self.since_us is not None:
            parts.append(column >= self.since_us)
        if self.until_us is not None:
            parts.append(column < self.until_us)
        return and_(*parts)


_UNSET = envelopes.c.clock != Clock.SYNCHRONISED.value


def _is_of(device: DeviceTopics) -> ColumnElement[bool]:
    return (envelopes.c.site == device.site) & (envelopes.c.device == device.device)


class Chosen(msgspec.Struct, frozen=True):
    """What the store holds of it.

    Attributes:
        id: Of the envelope.
        kind: Its kind.
        camera: Its camera.
        bytes: Its size.
    """

    id: str
    kind: str
    camera: str
    bytes: int


def chosen(connection: Connection, choice: Choice) -> list[Chosen]:
    """What is meant and stored, by camera and time."""
    columns = (envelopes.c.id, envelopes.c.kind, envelopes.c.camera, envelopes.c.bytes)
    query = select(*columns).where(choice.where()).order_by(envelopes.c.camera, envelopes.c.captured_us)
    wanted = frozenset(choice.crops)
    rows = (Chosen(*row) for row in connection.execute(query.execution_options(yield_per=1000)))
    return [row for row in rows if not wanted or row.id in wanted]


def whole_ids(connection: Connection, prefixes: Sequence[str]) -> tuple[str, ...]:
    """Whole ids of crops that are stored, frozen or deleted.

    Raises:
        UsageError: One is no id, is unknown, or can mean several.
    """
    found = []
    for prefix in prefixes:
        if len(prefix) < _LEAST_DIGITS or len(prefix) > 64 or set(prefix) - set("0123456789abcdef"):
            raise UsageError(f"--crop '{prefix[:80]}' is no id: give {_LEAST_DIGITS} to 64 of 0-9 a-f")
        matches = [one for one in graph.find(connection, prefix) if graph.artifact(connection, one) is None]
        if len(matches) != 1:
            some = ", ".join(one[:20] for one in matches[:4])
            raise UsageError(
                f"--crop {prefix} can mean {len(matches)} crops ({some}): give more digits"
                if matches
                else f"--crop {prefix}: no such crop was ever stored here; walt-loop trace looks for it"
            )
        found.append(matches[0])
    return tuple(found)
