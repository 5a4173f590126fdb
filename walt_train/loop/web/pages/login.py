"""Signing in and out."""

from __future__ import annotations

import logging
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from walt_train.loop.web.access.asker import asker_of
from walt_train.loop.web.access.attempts import Guessed, guessed
from walt_train.loop.web.access.cookies import BROWSER, SESSION, cookie, set_cookie
from walt_train.loop.web.access.guard import SignedIn, audit
from walt_train.loop.web.access.people import Entry
from walt_train.loop.web.render import render
from walt_train.loop.web.site import site_of

LOGGER = logging.getLogger(__name__)
router = APIRouter()
_HOME: Final = "/fleet"


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = _HOME) -> Response:  # noqa: A002 - as it stands in the address
    """Asks for name and password; who is signed in goes on."""
    if asker_of(request).person is not None:
        return RedirectResponse(own(next), 303)
    if site_of(request).first.is_open():
        return RedirectResponse("/setup", 303)
    return _asked(request, next)


@router.post("/sign-in")
def sign_in(
    request: Request,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=2000)] = "",
    next: Annotated[str, Form(max_length=2000)] = _HOME,  # noqa: A002
) -> Response:
    """Begins a session."""
    access, address = site_of(request).access, asker_of(request).address
    name = name.strip().lower()
    against = counted_against(request, name)
    wait_s = access.attempts.wait_s(against)
    if wait_s > 0:
        seconds = int(wait_s) + 1
        answer = _asked(request, next, name, f"Too many wrong passwords: wait {seconds} s.", 429)
        answer.headers["retry-after"] = str(seconds)
        return answer
    person = access.people.enter(name, password)
    if person is None:
        access.attempts.failed(against)
        access.trail.note(name, "sign-in", name, address=address, outcome="failed")
        LOGGER.warning("a wrong password for %r from %s", name[:64], address)
        return _asked(request, next, name, "That is not the name and password of anybody here.", 401)
    access.attempts.succeeded(against)
    access.trail.note(person.name, "sign-in", person.name, address=address)
    return enter(request, person, next)


def counted_against(request: Request, name: str) -> list[Guessed]:
    """What a wrong password for that name counts against."""
    browser = cookie(request, BROWSER)
    is_known = browser and site_of(request).access.sessions.knows(browser, name)
    return guessed(asker_of(request).address, name, browser if is_known else "")


def enter(request: Request, person: Entry, where: str = _HOME) -> Response:
    """Begins a session of somebody's, in place of the browser's former one, and goes to a page.

    Raises:
        PeopleError: The password that was looked at holds no more.
    """
    sessions = site_of(request).access.sessions
    former, agent = cookie(request, SESSION), request.headers.get("user-agent", "")
    answer = RedirectResponse(own(where), 303)
    secret = sessions.begin(person.name, asker_of(request).address, agent, former, person.changed_us)
    set_cookie(request, answer, SESSION, secret)
    set_cookie(request, answer, BROWSER, sessions.remember(cookie(request, BROWSER), person.name))
    return answer


@router.post("/sign-out")
def sign_out(request: Request, person: SignedIn) -> Response:
    """Ends the session."""
    site_of(request).access.sessions.end(person.name, person.session)
    audit(request, person, "sign-out", person.name)
    answer = RedirectResponse("/sign-in", 303)
    set_cookie(request, answer, SESSION, "")
    return answer


def _asked(request: Request, where: str, name: str = "", wrong: str = "", status: int = 200) -> Response:
    return render(request, "sign-in.html", status, next=own(where), name=name, wrong=wrong)


def own(where: str) -> str:
    """A page of ours; anything else, which may lead to another site, becomes the first page."""
    is_own = (
        where.startswith("/") and not where.startswith(("//", "/\\")) and where.isprintable() and "\\" not in where
    )
    return where if is_own else _HOME
