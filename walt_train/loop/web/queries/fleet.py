"""Searching, sorting and paging through the fleet, and how its cameras did over the last day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Engine, select

from walt_train.loop.fleet.tables import fleet_samples
from walt_train.loop.web.queries.board import AlertRow, Row, View

PAGE: Final = 50
MOST_A_PAGE: Final = 500
SHOWN_ALERTS: Final = 4
_HOUR_S: Final = 3600
_SECOND: Final = 1_000_000
_HOURS: Final = 24

SORTS: Final[dict[str, tuple[str, Callable[[Row], Any]]]] = {
    "trouble": ("State", lambda row: 0),
    "name": ("Camera", lambda row: row.name),
    "frame": ("Last frame", lambda row: row.frame_us),
    "model": ("Model", lambda row: (row.release, row.model)),
    "crops": ("Crops", lambda row: -row.crops),
    "waiting": ("Waiting", lambda row: -row.waiting),
    "lens": ("Lens", lambda row: 2.0 if row.lens is None else row.lens),
}
"""What rows are sorted by: a word for people, and the key."""

STATES: Final = ("", "online", "offline", "trouble")


@dataclass(frozen=True, slots=True)
class Wish:
    """What of the fleet is wanted.

    Attributes:
        search: Words that all have to be in site/device/camera.
        state: One of `STATES`; "" for all.
        kind: Only where an alert of this kind is raised; "" for all.
        release: Only whose model has this release; -1 for all.
        sort: One of `SORTS`.
        is_reversed: Whether the last comes first.
        page: From 1 on.
        size: Rows a page.
    """

    search: str = ""
    state: str = ""
    kind: str = ""
    release: int = -1
    sort: str = "trouble"
    is_reversed: bool = False
    page: int = 1
    size: int = PAGE


@dataclass(frozen=True, slots=True)
class Page:
    """A page of rows, and how many there are in all; `wish` has the page's number as it could be given."""

    rows: tuple[Row, ...]
    count: int
    pages: int
    wish: Wish


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """Alerts of one kind: the words once, and the first of them."""

    kind: str
    level: str
    title: str
    remedy: str
    count: int
    first: tuple[AlertRow, ...]


def chosen(view: View, wish: Wish) -> list[Row]:
    """All rows that are wanted, sorted."""
    words = wish.search.lower().split()
    places = {alert.subject[1:] for alert in view.alerts if alert.subject.kind == wish.kind} if wish.kind else None
    rows = [row for row in view.rows if _is_wanted(view, row, wish, words, places)]
    if wish.sort == "trouble":
        rows.sort(key=view.level, reverse=not wish.is_reversed)
    else:
        rows.sort(key=SORTS[wish.sort][1], reverse=wish.is_reversed)
    return rows


def page_of(view: View, wish: Wish) -> Page:
    """The page that is wanted, or the last where there are fewer."""
    rows = chosen(view, wish)
    pages = max(1, -(-len(rows) // wish.size))
    number = min(max(1, wish.page), pages)
    some = rows[(number - 1) * wish.size : number * wish.size]
    return Page(tuple(some), len(rows), pages, replace(wish, page=number))


def after(view: View, wish: Wish, name: tuple[str, str, str] | None, limit: int) -> list[Row]:
    """At most `limit` rows that come after `name` by name."""
    rows = chosen(view, replace(wish, sort="name", is_reversed=False))
    return [row for row in rows if name is None or row.name > name][:limit]


def alert_groups(view: View, most: int = SHOWN_ALERTS) -> list[AlertGroup]:
    """The alerts by kind, the most urgent first."""
    kinds: dict[str, list[AlertRow]] = {}
    for alert in view.alerts:
        kinds.setdefault(alert.subject.kind, []).append(alert)
    return [
        AlertGroup(kind, some[0].level, some[0].title, some[0].remedy, len(some), tuple(some[:most]))
        for kind, some in kinds.items()
    ]


def watched_hours(engine: Engine, keys: Sequence[int], now_us: int) -> dict[int, list[float | None]]:
    """Frames watched in each of the last 24 whole hours, by camera; None where nothing was told."""
    hour_us = _HOUR_S * _SECOND
    end_us = now_us - now_us % hour_us
    first_us = end_us - _HOURS * hour_us
    table = fleet_samples.c
    query = select(table.key, table.at_us, table.frames_processed).where(
        table.key.in_(keys), table.tier == _HOUR_S, table.at_us >= first_us, table.at_us < end_us
    )
    found: dict[int, list[float | None]] = {key: [None] * _HOURS for key in keys}
    with engine.connect() as connection:
        for key, at_us, frames in connection.execute(query):
            found[key][(at_us - first_us) // hour_us] = float(frames)
    return found


def _is_wanted(
    view: View, row: Row, wish: Wish, words: Sequence[str], places: set[tuple[str, str, str]] | None
) -> bool:
    if wish.release >= 0 and row.release != wish.release:
        return False
    if wish.state == "trouble":
        if not view.level(row):
            return False
    elif wish.state and row.status != wish.state:
        return False
    if places is not None and not {row.name, (row.site, row.device, "")} & places:
        return False
    if not words:
        return True
    text = "/".join(row.name).lower()
    return all(word in text for word in words)
