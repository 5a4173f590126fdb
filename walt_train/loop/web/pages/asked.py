"""Reading what a page was asked for, and making addresses of it: whatever stands there, a page comes back."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

from fastapi import HTTPException, Request
from sqlalchemy import Engine

from walt_train.loop.web.queries.board import Board, View
from walt_train.loop.web.queries.fleet import SORTS, STATES, Wish
from walt_train.loop.web.site import site_of

_WORD_MOST: Final = 200
_NUMBER_MOST: Final = 2**31


@functools.lru_cache(maxsize=8)
def board_of(engine: Engine) -> Board:
    """The board of a database: one for all pages and the API."""
    return Board(engine)


def view_of(request: Request) -> View:
    """The fleet as it is now."""
    return board_of(site_of(request).engine).view()


def word(request: Request, name: str, among: tuple[str, ...] | None = None) -> str:
    """A parameter; "" where it is missing, too long, or none of `among`."""
    found = request.query_params.get(name, "").strip()
    if len(found) > _WORD_MOST or (among is not None and found not in among):
        return ""
    return found


def number(request: Request, name: str, otherwise: int) -> int:
    """A whole number that is not negative."""
    found = request.query_params.get(name, "")
    is_small = found.isascii() and found.isdecimal() and len(found) < 12
    return int(found) if is_small and int(found) < _NUMBER_MOST else otherwise


def fleet_wish(request: Request) -> Wish:
    """What of the fleet is asked for."""
    sort = word(request, "sort", tuple(SORTS)) or "trouble"
    return Wish(
        search=word(request, "q"),
        state=word(request, "state", STATES),
        kind=word(request, "kind"),
        release=number(request, "release", -1),
        sort=sort,
        is_reversed=word(request, "order") == "reverse",
        page=number(request, "page", 1),
    )


def address(path: str, values: Mapping[str, object], **changes: object) -> str:
    """A path with parameters; those that are empty are left out."""
    kept = {name: value for name, value in {**values, **changes}.items() if value not in ("", None)}
    return f"{path}?{urlencode(kept)}" if kept else path


def camera_path(camera: str, site: str = "", device: str = "") -> str:
    """Where a camera's page is; the device is named where its name alone does not do."""
    path = f"/cameras/{quote(camera, safe='')}"
    return f"{path}?device={quote(f'{site}/{device}', safe='')}" if device else path


def run_path(camera: str, generation: int) -> str:
    """Where a generation's page is."""
    return f"/runs/{quote(camera, safe='')}/{generation}"


def missing(what: str, remedy: str) -> HTTPException:
    """There is no such thing."""
    return HTTPException(404, f"{what}: {remedy}")
