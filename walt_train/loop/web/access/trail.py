"""The record of what was done: who, what, of what, when, from where, and how it ended.

Rows are added and read, and let go by age alone; nothing here changes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import Connection, Engine, Select, delete, func, insert, select, text

from walt_train.loop.store.database import transaction
from walt_train.loop.web.access.tables import audit_log

KEPT_DAYS: Final = 400
"""Older entries are let go."""

OUTCOMES: Final = ("done", "refused", "failed")
_DETAIL_MAX: Final = 2000
_PAGE: Final = 500
_THIN_EVERY_US: Final = 3_600_000_000


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One entry.

    Attributes:
        id: Grows with time.
        at_us: When, microseconds UTC.
        who: The person's name; of a failed sign-in the name that was given; "" = nobody known.
        token: The id of the token that was used, or "".
        what: Such as `rollout.pause`.
        subject: What it was done to.
        detail: More of it, for people.
        address: From where; "" = on the machine itself.
        outcome: `done`, `refused` (it was not allowed) or `failed`.
    """

    id: int
    at_us: int
    who: str
    token: str
    what: str
    subject: str
    detail: str
    address: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted; "" and None = any.

    Attributes:
        who: That name.
        what: Begins so.
        outcome: That one.
        since_us: Not before.
        until_us: Before.
    """

    who: str = ""
    what: str = ""
    outcome: str = ""
    since_us: int | None = None
    until_us: int | None = None


class Trail:
    """The table; any number of processes share it.

    Args:
        engine: The store's database.
        clock: Microseconds UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock
        self._thinned_us = 0

    def note(
        self,
        who: str,
        what: str,
        subject: str,
        *,
        detail: str = "",
        token: str = "",
        address: str = "",
        outcome: str = "done",
    ) -> None:
        """Writes an entry; see `Line`. What is too long is cut, and what cannot be printed becomes a space."""
        now_us = self._clock()
        row: dict[str, object] = {"at_us": now_us, "who": _clean(who, 64), "token": token, "what": _clean(what, 64)}
        row |= {"subject": _clean(subject, 200), "detail": _clean(detail, _DETAIL_MAX), "outcome": outcome}
        row |= {"address": _clean(address, 64)}
        with transaction(self._engine) as connection:
            _in_turn(connection)
            newest = select(func.coalesce(func.max(audit_log.c.id), 0) + 1).scalar_subquery()
            connection.execute(insert(audit_log).values(row | {"id": newest}))
            if now_us - self._thinned_us > _THIN_EVERY_US:
                self._thinned_us = now_us
                old = audit_log.c.at_us < now_us - KEPT_DAYS * 86_400_000_000
                connection.execute(delete(audit_log).where(old))

    def newest(self, wanted: Filter, limit: int, before: int | None = None) -> list[Line]:
        """Entries, the newest first.

        Args:
            wanted: Which.
            limit: At most so many.
            before: Only those whose id is smaller: the last one of the page before.
        """
        query = _query(wanted).limit(limit)
        with self._engine.connect() as connection:
            rows = connection.execute(query if before is None else query.where(audit_log.c.id < before)).mappings()
            return [Line(**row) for row in rows]

    def each(self, wanted: Filter) -> Iterator[Line]:
        """Every entry, the newest first, a page of the database at a time."""
        before: int | None = None
        while page := self.newest(wanted, _PAGE, before):
            yield from page
            before = page[-1].id


def _in_turn(connection: Connection) -> None:
    """Entries get their numbers in the order in which they are there to be read; on SQLite that is so anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE audit_log IN SHARE ROW EXCLUSIVE MODE"))


def _query(wanted: Filter) -> Select[tuple[object, ...]]:
    query = select(audit_log).order_by(audit_log.c.id.desc())
    if wanted.who:
        query = query.where(audit_log.c.who == wanted.who)
    if wanted.what:
        query = query.where(audit_log.c.what.startswith(wanted.what, autoescape=True))
    if wanted.outcome:
        query = query.where(audit_log.c.outcome == wanted.outcome)
    if wanted.since_us is not None:
        query = query.where(audit_log.c.at_us >= wanted.since_us)
    if wanted.until_us is not None:
        query = query.where(audit_log.c.at_us < wanted.until_us)
    return query


def _clean(text: str, most: int) -> str:
    return "".join(one if one.isprintable() else " " for one in text[:most])
