"""Which crops are meant, and in which order they are looked through.

The same choice is a page of the browser and what "reject all like this" means. Pages follow one another by the last
row seen and never by counting: the ten-thousandth costs as much as the first.
"""

from __future__ import annotations

import base64
import binascii
import enum
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from msgspec import Meta
from sqlalchemy import Column, ColumnElement, Connection, Row, and_, func, select, tuple_
from sqlalchemy.sql import operators
from sqlalchemy.sql.expression import UnaryExpression

from walt_edge.contract.errors import UsageError
from walt_edge.contract.labels import Label
from walt_edge.contract.topics import Kind
from walt_train.loop.labels.tables import not_rejected, rejections
from walt_train.loop.store.tables import envelopes

PAGE: Final = 48
PAGE_MOST: Final = 200
_ROW = envelopes.c


class Order(enum.StrEnum):
    """How crops follow one another."""

    NEWEST = "newest"
    LEAST_SURE = "least-sure"
    LARGEST = "largest"


State = Literal["", "free", "held", "rejected"]
"""Any; may train; waits for a person; was rejected."""

_COLUMNS: Final[dict[Order, tuple[Column[Any], bool]]] = {
    Order.NEWEST: (_ROW.captured_us, True),
    Order.LEAST_SURE: (_ROW.confidence, False),
    Order.LARGEST: (_ROW.area, True),
}
"""What they are ordered by, and whether the highest comes first."""


class Crops(msgspec.Struct, frozen=True, kw_only=True):
    """What is meant is what every given part of it means.

    Attributes:
        camera: The camera's name; "" = any.
        device: The device's; "" = any.
        boot: The boot of a track; tracks count within it.
        track: A track of that device and boot.
        label: The class.
        since_us: Captured then or later.
        until_us: Captured before.
        sure_from: Confidence that nothing hides a part of it, at least, 0..1.
        sure_to: At most.
        side_px: The longer side of its box, at least.
        state: Whether they train, wait, or were rejected.
        judging: Whether they judge and never train; None = either.
    """

    camera: str = ""
    device: str = ""
    boot: str = ""
    track: int | None = None
    label: Label | None = None
    since_us: int | None = None
    until_us: int | None = None
    sure_from: float | None = None
    sure_to: float | None = None
    side_px: float | None = None
    state: State = ""
    judging: bool | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether it is narrow enough to reject all of it: a track, or a camera between two times."""
        is_track = bool(self.device and self.boot) and self.track is not None
        return is_track or (bool(self.camera) and self.since_us is not None and self.until_us is not None)

    def where(self, *, in_order: bool = False) -> ColumnElement[bool]:
        """As a condition on the store's rows.

        Args:
            in_order: Whether SQLite shall go through the order's own index, rather than sort all of a camera.
        """
        # Said so, and not by the kind alone, a database knows that its indices of crops alone will do.
        parts: list[ColumnElement[bool]] = [_ROW.label.is_not(None), _ROW.kind == Kind.CROP.value]
        if self.camera:
            parts.append((_not_looked_up(_ROW.camera) if in_order else _ROW.camera) == self.camera)
        for column, value in ((_ROW.device, self.device), (_ROW.boot_id, self.boot)):
            if value:
                parts.append(column == value)
        if self.track is not None:
            parts.append(_ROW.track_id == self.track)
        if self.label is not None:
            parts.append(_ROW.label == int(self.label))
        if self.judging is not None:
            parts.append(_ROW.holdout if self.judging else ~_ROW.holdout)
        return and_(*parts, *self._ranges(), *self._states())

    def _ranges(self) -> list[ColumnElement[bool]]:
        parts: list[ColumnElement[bool]] = []
        if self.since_us is not None:
            parts.append(_ROW.captured_us >= self.since_us)
        if self.until_us is not None:
            parts.append(_ROW.captured_us < self.until_us)
        if self.sure_from is not None:
            parts.append(_ROW.confidence >= self.sure_from)
        if self.sure_to is not None:
            parts.append(_ROW.confidence <= self.sure_to)
        if self.side_px is not None:
            parts.append((_ROW.x1 - _ROW.x0 >= self.side_px) | (_ROW.y1 - _ROW.y0 >= self.side_px))
        return parts

    def _states(self) -> list[ColumnElement[bool]]:
        if self.state == "rejected":
            return [_ROW.id.in_(select(rejections.c.crop))]
        if self.state == "held":
            return [_ROW.held.is_not(None), not_rejected()]
        return [_ROW.held.is_(None), not_rejected()] if self.state == "free" else []


def _not_looked_up(column: Column[str]) -> ColumnElement[str]:
    """SQLite's word for a column that it shall compare, and not search an index for."""
    return UnaryExpression(column, operator=operators.custom_op("+"), type_=column.type)


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ends: the last row's values of the order's columns."""

    # No database holds larger ones.
    value: float | Annotated[int, Meta(ge=-(2**62), le=2**62)]
    camera: str
    id: str

    def __str__(self) -> str:
        """As a page's address carries it."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Self:
        """The inverse of `str`; raises UsageError for what was made up."""
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=cls)
        except (binascii.Error, ValueError, msgspec.DecodeError) as error:
            raise UsageError(f"'{text[:40]}' is no place in a list: begin at its first page") from error


def cameras_of(connection: Connection, where: ColumnElement[bool] | None = None) -> list[str]:
    """The names of cameras that something is stored of, sorted: from one to the next in the index, never by all rows.

    Args:
        connection: To the store's database.
        where: Of which there is something that this holds for.
    """
    first = select(func.min(_ROW.camera).label("camera")).cte("found", recursive=True)
    after = select(func.min(_ROW.camera)).where(_ROW.camera > first.c.camera).correlate(first).scalar_subquery()
    found = first.union_all(select(after).where(first.c.camera.is_not(None)))
    query = select(found.c.camera).where(found.c.camera.is_not(None))
    if where is not None:
        query = query.where(select(_ROW.id).where(_ROW.camera == found.c.camera, where).correlate(found).exists())
    return sorted(connection.scalars(query))


def page(
    connection: Connection,
    crops: Crops,
    order: Order = Order.NEWEST,
    after: Place | None = None,
    limit: int = PAGE,
) -> list[Row[Any]]:
    """Rows of the store, each with `rejected_by` (None of what was not), of one page.

    Args:
        connection: To the store's database.
        crops: Which.
        order: How they follow one another.
        after: The last row of the page before.
        limit: At most so many, 1..PAGE_MOST.
    """
    column, is_falling = _COLUMNS[order]
    columns = (column, _ROW.camera, _ROW.id)
    query = select(envelopes, rejections.c.by.label("rejected_by"), rejections.c.reason.label("rejected_reason"))
    query = query.outerjoin(rejections, rejections.c.crop == _ROW.id)
    # Without statistics it would sort all that a camera has. Newest first, the camera's own index is in order.
    is_open = crops.since_us is None and crops.until_us is None and not crops.device and crops.state != "rejected"
    in_order = connection.dialect.name == "sqlite" and is_open and order is not Order.NEWEST
    query = query.where(crops.where(in_order=in_order), column.is_not(None))
    if after is not None:
        here, there = tuple_(*columns), tuple_(after.value, after.camera, after.id)
        query = query.where(here < there if is_falling else here > there)
    falling = (one.desc() if is_falling else one.asc() for one in columns)
    return list(connection.execute(query.order_by(*falling).limit(min(max(limit, 1), PAGE_MOST))))


def place_of(row: Row[Any], order: Order) -> Place:
    """Where a row stands in an order."""
    return Place(getattr(row, _COLUMNS[order][0].name), row.camera, row.id)
