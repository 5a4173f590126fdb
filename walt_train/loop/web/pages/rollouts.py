"""Rollouts: which there are, one with its cohorts, and the three things that a person may do to it.

A button leads to a page that asks once more, so that it needs no script; what is done is written down.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from markupsafe import Markup

from walt_train.loop.rollout.model import OPEN, Rollout, RolloutError, State
from walt_train.loop.rollout.rollouts import Rollouts
from walt_train.loop.web.access.guard import Operator, Role, Viewer, audit
from walt_train.loop.web.charts import Line, Mark, line_chart
from walt_train.loop.web.pages.asked import address, camera_path, missing, number, run_path, view_of, word
from walt_train.loop.web.queries import rollouts as asked
from walt_train.loop.web.render import render, see_other
from walt_train.loop.web.site import Site, site_of

router = APIRouter()
_STATES: Final = tuple(state.value for state in State)
_PAGE: Final = 50
_EVENTS: Final = 60
_REASON_MOST: Final = 300
_SECOND: Final = 1_000_000

ACTS: Final = {
    "pause": ("Pause", "Nobody further is told until it is resumed; who was told goes on."),
    "resume": ("Resume", "It goes on with the stage that was at work."),
    "abort": ("Abort and roll back", "It ends: every device that was told returns to what it ran before."),
    "rollback": ("Roll back", "Every device that runs it returns to what it ran before."),
}
"""What can be done: the button's words, and what comes of it."""

_MAY: Final = {
    "pause": (State.WAITING, State.RUNNING),
    "resume": (State.PAUSED,),
    "abort": (State.WAITING, State.RUNNING, State.PAUSED),
    "rollback": (State.DONE,),
}


@router.get("/rollouts")
def listing(request: Request, person: Viewer) -> Response:
    """All of them, the newest first."""
    site = site_of(request)
    state, camera = word(request, "state", _STATES), word(request, "camera")
    before = number(request, "before", 0) or None
    found = asked.briefs(site.engine, state=state, camera=camera, before=before, limit=_PAGE + 1)
    wanted = {"state": state, "camera": camera}
    return render(
        request,
        "rollouts.html",
        rollouts=found[:_PAGE],
        counts=asked.counts(site.engine),
        states=_STATES,
        state=state,
        camera=camera,
        older=address("/rollouts", wanted, before=found[_PAGE - 1].id) if len(found) > _PAGE else "",
        newest=address("/rollouts", wanted) if before else "",
        path_of=camera_path,
        run_path=run_path,
    )


@router.get("/rollouts/{rollout}")
def one(request: Request, rollout: int, person: Viewer) -> Response:
    """One of them."""
    return render(request, "rollout.html", **_values(request, rollout, person.role))


@router.get("/rollouts/{rollout}/part")
def part(request: Request, rollout: int, person: Viewer) -> Response:
    """What of it changes, for the script that asks again."""
    return render(request, "rollout_part.html", **_values(request, rollout, person.role))


@router.get("/rollouts/{rollout}/{act}")
def ask(request: Request, rollout: int, act: str, person: Operator) -> Response:
    """Asks once more."""
    found = read(site_of(request), rollout)
    if act not in ACTS:
        raise missing(f"'{act[:20]}' is nothing that is done to a rollout", f"expected {', '.join(ACTS)}")
    told = sum(member.told_us is not None for member in found.members)
    title, comes = ACTS[act]
    can = found.state in _MAY[act]
    return render(request, "rollout_ask.html", rollout=found, act=act, title=title, comes=comes, told=told, can=can)


@router.post("/rollouts/{rollout}/{act}")
def do(request: Request, rollout: int, act: str, person: Operator, reason: Annotated[str, Form()] = "") -> Response:
    """Does it."""
    path = f"/rollouts/{rollout}"
    try:
        change(site_of(request), rollout, act, person.title, reason.strip()[:_REASON_MOST])
    except RolloutError as error:
        audit(request, person, f"rollout.{act[:20]}", f"rollout {rollout}", str(error), "failed")
        return see_other(request, path, str(error), is_bad=True)
    audit(request, person, f"rollout.{act}", f"rollout {rollout}", reason.strip()[:_REASON_MOST])
    return see_other(request, path, f"Rollout {rollout}: {ACTS[act][0].lower()} is noted, and done within moments.")


def read(site: Site, rollout: int) -> Rollout:
    """The rollout of that number, or the page's error."""
    try:
        if not 0 < rollout < 2**31:
            raise RolloutError(f"no rollout {rollout}")
        return _rollouts(site).read(rollout)
    except RolloutError as error:
        raise missing(f"there is no rollout {rollout}", "take one of those that the list shows") from error


def change(site: Site, rollout: int, act: str, by: str, reason: str) -> None:
    """Pauses, resumes, aborts or rolls back.

    Raises:
        RolloutError: It is in no state for that.
        HTTPException: There is no such rollout, or nothing of that name to do.
    """
    read(site, rollout)
    table = _rollouts(site)
    if act == "pause":
        table.pause(rollout, by, reason)
    elif act == "resume":
        table.resume(rollout, by, reason)
    elif act == "abort":
        table.abort(rollout, by, reason or "no reason was given")
    elif act == "rollback":
        table.rollback(rollout, by, reason or "no reason was given")
    else:
        raise missing(f"'{act[:20]}' is nothing that is done to a rollout", f"expected {', '.join(ACTS)}")


def _rollouts(site: Site) -> Rollouts:
    return site.rollouts if site.rollouts is not None else Rollouts(site.engine, site.clock)


def _values(request: Request, rollout: int, role: Role) -> dict[str, Any]:
    site, view = site_of(request), view_of(request)
    found = read(site, rollout)
    members = sorted(found.members, key=lambda one: (one.outside, one.told_us is None, one.told_us or 0, one.name))
    cameras = {(row.site, row.device): row.camera for row in view.rows if row.camera}
    return {
        "rollout": found,
        "is_open": found.state in OPEN,
        "may": [(act, title) for act, (title, _) in ACTS.items() if found.state in _MAY[act]]
        if role >= Role.OPERATOR
        else [],
        "progress": [_stage(found, number) for number in range(len(found.plan.stages))],
        "control": found.cohort("control"),
        "charts": _charts(site, found, request),
        "events": found.events[::-1][:_EVENTS],
        "members": members[: asked.SHOWN_MEMBERS],
        "count": len(members),
        "cameras": cameras,
        "path_of": camera_path,
        "run_path": run_path,
    }


def _stage(rollout: Rollout, place: int) -> dict[str, Any]:
    """How far a stage is, for people."""
    stage = rollout.plan.stages[place]
    members = rollout.cohort(stage.name).members
    word = "to come"
    if place < rollout.stage or rollout.state is State.DONE:
        word = "passed"
    elif place == rollout.stage:
        word = str(rollout.state)
    return {
        "stage": stage,
        "word": word,
        "is_now": place == rollout.stage and rollout.is_open,
        "members": len(members),
        "told": sum(one.told_us is not None for one in members),
        "running": sum(one.running_us is not None for one in members),
    }


def _charts(site: Site, rollout: Rollout, request: Request) -> list[Markup]:
    marks = [Mark(rollout.created_us / _SECOND, "created")]
    marks += [Mark(one.at_us / _SECOND, one.detail) for one in rollout.events if one.what in ("stage", "rollback")]
    return [
        line_chart(
            signal.name,
            [Line("told", signal.treated), Line("compared with", signal.control)],
            unit=signal.unit,
            marks=marks,
        )
        for signal in asked.signals(site.engine, rollout, view_of(request), site.clock())
    ]
