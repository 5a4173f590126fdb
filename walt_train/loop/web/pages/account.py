"""One's own account: the password, where one is signed in, tokens for programs, light or dark; and the help."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from walt_edge.contract.errors import WaltError
from walt_train.loop.web.access.cookies import THEME, THEMES, set_cookie
from walt_train.loop.web.access.guard import SignedIn, Viewer, audit
from walt_train.loop.web.access.person import Person
from walt_train.loop.web.access.tokens import DAYS_MAX, SCOPES
from walt_train.loop.web.pages.login import counted_against, enter, own
from walt_train.loop.web.render import render, see_other
from walt_train.loop.web.site import site_of

router = APIRouter()


@router.get("/account")
def account(request: Request, person: SignedIn) -> Response:
    """Who one is here."""
    return _page(request, person)


@router.post("/account/password")
def change_password(
    request: Request,
    person: SignedIn,
    old: Annotated[str, Form(max_length=2000)] = "",
    password: Annotated[str, Form(max_length=2000)] = "",
    again: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Sets one's password, by the one of now; everywhere else one is signed out."""
    access = site_of(request).access
    against = counted_against(request, person.name)
    if access.attempts.wait_s(against) > 0:
        return _page(request, person, wrong="Too many wrong passwords: wait a while.", status=429)
    if password != again:
        return _page(request, person, wrong="The two new passwords differ.", status=400)
    if access.people.enter(person.name, old) is None:
        access.attempts.failed(against)
        audit(request, person, "people.password", person.name, "the password of now was wrong", "failed")
        return _page(request, person, wrong="That is not your password of now.", status=403)
    try:
        access.people.set_password(person.name, password)
    except WaltError as error:
        return _page(request, person, wrong=f"{error}.", status=400)
    audit(request, person, "people.password", person.name)
    return enter(request, access.people.read(person.name), "/account")


@router.post("/account/sessions/{session}/end")
def end_session(request: Request, person: SignedIn, session: str) -> Response:
    """Signs one out somewhere else."""
    if not site_of(request).access.sessions.end(person.name, session):
        return see_other(request, "/account", "That session has ended already.")
    audit(request, person, "session.end", session)
    return see_other(request, "/account", "Signed out there.")


@router.post("/account/sessions/end")
def end_sessions(request: Request, person: SignedIn) -> Response:
    """Signs one out everywhere, here as well."""
    count = site_of(request).access.sessions.end_all(person.name)
    audit(request, person, "session.end", "all", f"{count} sessions")
    return RedirectResponse("/sign-in", 303)


@router.post("/account/tokens")
def make_token(
    request: Request,
    person: SignedIn,
    label: Annotated[str, Form(max_length=200)] = "",
    scope: Annotated[str, Form(max_length=20)] = "read",
    days: Annotated[int, Form()] = 90,
) -> Response:
    """Makes a token, which this page alone shows."""
    try:
        made = site_of(request).access.tokens.make(person, label, scope, days)
    except WaltError as error:
        return _page(request, person, wrong=f"{error}.", status=400)
    audit(request, person, "token.make", made.split("_")[1], f"{label.strip()}: {scope}, {days} days")
    return _page(request, person, made=made)


@router.post("/account/tokens/{token}/revoke")
def revoke_token(request: Request, person: SignedIn, token: str) -> Response:
    """Ends a token."""
    if not site_of(request).access.tokens.revoke(person.name, token):
        return see_other(request, "/account", "That token has ended already.")
    audit(request, person, "token.revoke", token)
    return see_other(request, "/account", "The token is revoked: who comes with it is refused from now on.")


@router.post("/theme")
def set_theme(
    request: Request,
    person: SignedIn,
    theme: Annotated[str, Form(max_length=20)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/account",  # noqa: A002 - as the form has it
) -> Response:
    """Light, dark, or what the browser prefers."""
    answer = RedirectResponse(own(next), 303)
    set_cookie(request, answer, THEME, theme if theme in THEMES else "")
    return answer


@router.get("/help")
def help_page(request: Request, person: Viewer) -> Response:
    """The keys, the roles, and what programs can do."""
    scheme, host = request.scope["scheme"], request.headers["host"]
    return render(request, "help.html", base=f"{scheme}://{host}/")


def _page(request: Request, person: Person, *, wrong: str = "", made: str = "", status: int = 200) -> Response:
    access = site_of(request).access
    return render(
        request,
        "account.html",
        status,
        sessions=access.sessions.of(person.name),
        tokens=access.tokens.of(person.name),
        scopes=[scope for scope, role in SCOPES.items() if role <= person.role],
        days_max=DAYS_MAX,
        wrong=wrong,
        made=made,
    )
