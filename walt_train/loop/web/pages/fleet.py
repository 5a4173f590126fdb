"""The fleet: what is wrong first, each with its remedy, then every camera with its state of now."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup

from walt_train.loop.fleet.conditions import KINDS
from walt_train.loop.web.access.guard import Viewer
from walt_train.loop.web.charts import sparkline
from walt_train.loop.web.pages.asked import address, camera_path, fleet_wish, view_of
from walt_train.loop.web.queries.board import Row, View
from walt_train.loop.web.queries.fleet import SORTS, Wish, alert_groups, page_of, watched_hours
from walt_train.loop.web.render import render
from walt_train.loop.web.site import site_of

router = APIRouter()
_PATH: Final = "/fleet"
_NUMBERS: Final = ("crops", "waiting", "lens")


@router.get(_PATH)
def fleet(request: Request, person: Viewer) -> Response:
    """The page."""
    return render(request, "fleet.html", **_values(request))


@router.get(f"{_PATH}/part")
def part(request: Request, person: Viewer) -> Response:
    """What of the page changes, for the script that asks for it again."""
    return render(request, "fleet_part.html", **_values(request))


def _values(request: Request) -> dict[str, Any]:
    site, view, wish = site_of(request), view_of(request), fleet_wish(request)
    page, now_us = page_of(view, wish), site.clock()
    hours = watched_hours(site.engine, [row.key for row in page.rows if row.key], now_us)
    doubled = _doubled(view)
    asked = _asked(page.wish)
    return {
        "totals": view.totals(),
        "quiet": view.quiet(now_us),
        "groups": alert_groups(view),
        "alerts": len(view.alerts),
        "kinds": {name: kind.title for name, kind in KINDS.items()},
        "rows": [_cells(view, row, hours, doubled) for row in page.rows],
        "heads": _heads(page.wish, asked),
        "page": page,
        "wish": page.wish,
        "part": address(f"{_PATH}/part", asked),
        "to": {n: address(_PATH, asked, page=n) for n in _neighbours(page.wish.page, page.pages)},
        "releases": sorted({row.release for row in view.rows}),
        "is_narrowed": bool(wish.search or wish.state or wish.kind or wish.release >= 0),
        "path_of": camera_path,
    }


def _asked(wish: Wish) -> dict[str, object]:
    return {
        "q": wish.search,
        "state": wish.state,
        "kind": wish.kind,
        "release": wish.release if wish.release >= 0 else "",
        "sort": "" if wish.sort == "trouble" else wish.sort,
        "order": "reverse" if wish.is_reversed else "",
        "page": wish.page if wish.page > 1 else "",
    }


def _cells(view: View, row: Row, hours: dict[int, list[float | None]], doubled: set[str]) -> dict[str, Any]:
    where = (row.site, row.device) if row.camera in doubled else ("", "")
    return {
        "row": row,
        "level": ("", "warning", "urgent")[view.level(row)],
        "href": camera_path(row.camera, *where) if row.camera else "",
        "spark": _spark(row, hours),
    }


def _spark(row: Row, hours: dict[int, list[float | None]]) -> Markup:
    return sparkline(hours.get(row.key, []), "frames watched in each of the last 24 hours")


def _doubled(view: View) -> set[str]:
    """Names that more than one device tells of."""
    names = [row.camera for row in view.rows if row.camera]
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def _heads(wish: Wish, asked: dict[str, object]) -> list[dict[str, Any]]:
    """What the table can be sorted by; asked once more, it is turned round."""
    heads = []
    for name, (title, _) in SORTS.items():
        is_here = name == wish.sort
        order = "reverse" if is_here and not wish.is_reversed else ""
        href = address(_PATH, asked, sort="" if name == "trouble" else name, order=order, page="")
        turned = "descending" if wish.is_reversed else "ascending"
        heads.append(
            {
                "name": name,
                "title": title,
                "href": href,
                "sorted": turned if is_here else "none",
                "is_number": name in _NUMBERS,
            }
        )
    return heads


def _neighbours(page: int, pages: int) -> list[int]:
    return sorted({1, pages, *range(max(1, page - 2), min(pages, page + 2) + 1)})
