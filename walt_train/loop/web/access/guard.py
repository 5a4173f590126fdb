"""What a page asks for: somebody who may see it, and the record of what was done.

@router.post("/rollouts/{number}/pause")
def pause(request: Request, number: int, person: Operator) -> Response:
    ...
    audit(request, person, "rollout.pause", f"rollout {number}")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from walt_train.loop.web.access.asker import asker_of
from walt_train.loop.web.access.person import Person as Person
from walt_train.loop.web.access.person import Role as Role
from walt_train.loop.web.site import site_of


def audit(
    request: Request, person: Person | None, what: str, subject: str, detail: str = "", outcome: str = "done"
) -> None:
    """Writes down what was done.

    Args:
        request: By which.
        person: Who; None = nobody known.
        what: An area and an act, as `rollout.pause`.
        subject: What it was done to, as `rollout 7`.
        detail: More of it, for people.
        outcome: `done`, `refused` (it was not allowed) or `failed`.
    """
    site_of(request).access.trail.note(
        person.name if person else "",
        what,
        subject,
        detail=detail,
        token=person.token if person else "",
        address=asker_of(request).address,
        outcome=outcome,
    )


def _at_least(role: Role) -> Callable[[Request], Person]:
    def dependency(request: Request) -> Person:
        person = asker_of(request).person
        if person is None:
            raise HTTPException(401, "sign in first", {"WWW-Authenticate": "Bearer"})
        if person.role < role:
            audit(request, person, "access", request.url.path, f"needs {role.word}, is {person.role.word}", "refused")
            raise HTTPException(403, f"this needs the role {role.word}, and you are {person.role.word}")
        return person

    return dependency


def _in_person(role: Role) -> Callable[[Request], Person]:
    def dependency(request: Request) -> Person:
        person = _at_least(role)(request)
        if person.token:
            audit(request, person, "access", request.url.path, "needs a person", "refused")
            raise HTTPException(403, "this is done by a person who is signed in, not with a token")
        return person

    return dependency


Viewer = Annotated[Person, Depends(_at_least(Role.VIEWER))]
Operator = Annotated[Person, Depends(_at_least(Role.OPERATOR))]
Admin = Annotated[Person, Depends(_at_least(Role.ADMIN))]

SignedIn = Annotated[Person, Depends(_in_person(Role.VIEWER))]
"""Anybody, but in person: what one does to one's own account."""

AdminInPerson = Annotated[Person, Depends(_in_person(Role.ADMIN))]
"""An admin, but no token: one that could let people in would outlive its end."""
