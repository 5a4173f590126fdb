"""The first admin, let in by the token that was printed where the dashboard was started."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from walt_edge.contract.errors import WaltError
from walt_train.loop.web.access.asker import asker_of
from walt_train.loop.web.access.attempts import guessed
from walt_train.loop.web.access.first import WrongTokenError
from walt_train.loop.web.pages.login import enter
from walt_train.loop.web.render import render
from walt_train.loop.web.site import site_of

router = APIRouter()


@router.get("/setup")
def setup_page(request: Request) -> Response:
    """Asks for the token, a name and a password; once somebody is there, there is nothing to set up."""
    if not site_of(request).first.is_open():
        return RedirectResponse("/sign-in", 303)
    return _asked(request)


@router.post("/setup")
def setup(
    request: Request,
    token: Annotated[str, Form(max_length=200)] = "",
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=2000)] = "",
    again: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Makes the first admin, who is then signed in."""
    site, address = site_of(request), asker_of(request).address
    against = guessed(address, "the set-up token")
    if site.access.attempts.wait_s(against) > 0:
        return _asked(request, name, "Too many wrong tokens: wait a while.", 429)
    if password != again:
        return _asked(request, name, "The two passwords differ.", 400)
    try:
        first = site.first.enter(token, name, password)
    except WrongTokenError as error:
        site.access.attempts.failed(against)
        site.access.trail.note("", "people.first", name, address=address, outcome="failed")
        return _asked(request, name, str(error), 403)
    except WaltError as error:
        return _asked(request, name, str(error), 400)
    site.access.trail.note(first.name, "people.first", first.name, address=address)
    return enter(request, first)


def _asked(request: Request, name: str = "", wrong: str = "", status: int = 200) -> Response:
    return render(request, "setup.html", status, name=name, wrong=wrong)
