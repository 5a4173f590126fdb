"""Who may sign in, and what each may do; for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import Response

from walt_edge.contract.errors import WaltError
from walt_train.loop.web.access.guard import Admin, AdminInPerson, audit
from walt_train.loop.web.access.people import PeopleError
from walt_train.loop.web.access.person import Person, Role
from walt_train.loop.web.render import render, see_other
from walt_train.loop.web.site import site_of

router = APIRouter()


@router.get("/people")
def people(request: Request, person: Admin) -> Response:
    """Everybody."""
    return _page(request)


@router.post("/people")
def add(
    request: Request,
    person: AdminInPerson,
    name: Annotated[str, Form(max_length=200)] = "",
    role: Annotated[str, Form(max_length=20)] = "viewer",
    password: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Lets somebody in."""
    try:
        made = site_of(request).access.people.add(name, _role(role), password)
    except WaltError as error:
        return _page(request, wrong=f"{error}.", name=name, role=role, status=400)
    audit(request, person, "people.add", made.name, made.role.word)
    return see_other(
        request, "/people", f"{made.name} may sign in as {made.role.word}. Tell the password by a safe way."
    )


@router.post("/people/{name}/role")
def set_role(
    request: Request, person: AdminInPerson, name: str, role: Annotated[str, Form(max_length=20)] = ""
) -> Response:
    """Changes what somebody may do."""
    wanted = _role(role)
    try:
        site_of(request).access.people.set_role(name, wanted)
    except PeopleError as error:
        return _refused(request, person, "people.role", name, error)
    audit(request, person, "people.role", name, wanted.word)
    return see_other(request, "/people", f"{name} is {wanted.word} now.")


@router.post("/people/{name}/password")
def set_password(
    request: Request, person: AdminInPerson, name: str, password: Annotated[str, Form(max_length=2000)] = ""
) -> Response:
    """Sets somebody's password, who is then signed out everywhere."""
    try:
        site_of(request).access.people.set_password(name, password)
    except WaltError as error:
        return _refused(request, person, "people.password", name, error)
    audit(request, person, "people.password", name, "set by an admin")
    return see_other(request, "/people", f"{name} has a new password, and is signed out everywhere.")


@router.post("/people/{name}/disable")
def disable(request: Request, person: AdminInPerson, name: str) -> Response:
    """Locks somebody out."""
    try:
        site_of(request).access.people.disable(name)
    except PeopleError as error:
        return _refused(request, person, "people.disable", name, error)
    audit(request, person, "people.disable", name)
    return see_other(request, "/people", f"{name} may not sign in any more; sessions and tokens have ended.")


@router.post("/people/{name}/enable")
def enable(request: Request, person: AdminInPerson, name: str) -> Response:
    """Lets somebody in again."""
    try:
        site_of(request).access.people.enable(name)
    except PeopleError as error:
        return _refused(request, person, "people.enable", name, error)
    audit(request, person, "people.enable", name)
    return see_other(request, "/people", f"{name} may sign in again.")


def _role(word: str) -> Role:
    try:
        return Role.of(word)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


def _refused(request: Request, person: Person, what: str, name: str, error: WaltError) -> Response:
    audit(request, person, what, name, str(error), "failed")
    return see_other(request, "/people", f"{error}.", is_bad=True)


def _page(request: Request, *, wrong: str = "", name: str = "", role: str = "viewer", status: int = 200) -> Response:
    found = site_of(request).access.people.all()
    roles = [one.word for one in Role]
    return render(request, "people.html", status, people=found, roles=roles, wrong=wrong, name=name, role=role)
