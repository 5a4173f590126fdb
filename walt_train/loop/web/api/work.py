"""Trainings, rollouts and the record of what was done, for programs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from walt_train.loop.rollout.model import CONTROL, RolloutError
from walt_train.loop.rollout.model import Rollout as Told
from walt_train.loop.web.access.guard import Admin, Operator, Person, Viewer, audit
from walt_train.loop.web.access.trail import Filter
from walt_train.loop.web.api import models
from walt_train.loop.web.api.answers import (
    After,
    Limit,
    Name,
    NameWish,
    Number,
    answer,
    camera_name,
    cursor_of,
    cut,
    problems,
    read_cursor,
)
from walt_train.loop.web.pages.rollouts import change, read
from walt_train.loop.web.queries import rollouts as asked
from walt_train.loop.web.queries import runs
from walt_train.loop.web.queries.retry import RetryError, retry
from walt_train.loop.web.site import site_of

router = APIRouter(tags=["work"])
RunState = Literal["", "pending", "running", "done", "failed", "refused"]
RolloutState = Literal[
    "", "waiting", "running", "paused", "rolling-back", "done", "rolled-back", "aborted", "superseded"
]
Moment = Annotated[int | None, Query(ge=0, lt=2**62)]


@router.get("/runs", operation_id="runs", response_model=models.Runs, responses=problems())
def runs_(
    request: Request,
    person: Viewer,
    camera: NameWish = "",
    state: RunState = "",
    # Each comes with its steps.
    limit: Annotated[int, Query(ge=1, le=200, description="items of a page at most")] = 50,
    cursor: After = None,
) -> Response:
    """Trainings, the newest first."""
    before = read_cursor(cursor, tuple[int, str, int])
    found = runs.listed(site_of(request).engine, camera=camera, state=state, before=before, limit=limit + 1)
    items, last = cut(found, limit)
    following = None if last is None else cursor_of((last.created_us, last.camera, last.number))
    return answer(models.Runs(items=tuple(models.Run.model_validate(one) for one in items), next=following))


@router.get("/runs/{camera}/{number}", operation_id="run", response_model=models.Run, responses=problems(404))
def run(request: Request, person: Viewer, camera: Name, number: Number) -> Response:
    """One training."""
    return _run(request, camera, number)


@router.post(
    "/runs/{camera}/{number}/retry", operation_id="retry", response_model=models.Run, responses=problems(404, 409)
)
def retry_(request: Request, person: Operator, camera: Name, number: Number) -> Response:
    """Lets a training that failed go on where it failed."""
    _run(request, camera, number)
    title = f"{camera} generation {number}"
    try:
        retry(site_of(request).engine, camera, number)
    except RetryError as error:
        audit(request, person, "run.retry", title, str(error), "failed")
        raise HTTPException(409, str(error)) from error
    audit(request, person, "run.retry", title)
    return _run(request, camera, number)


@router.get("/rollouts", operation_id="rollouts", response_model=models.Rollouts, responses=problems())
def rollouts(
    request: Request,
    person: Viewer,
    camera: NameWish = "",
    state: RolloutState = "",
    limit: Limit = 50,
    cursor: After = None,
) -> Response:
    """Rollouts, the newest first."""
    before = read_cursor(cursor, int)
    found = asked.briefs(site_of(request).engine, state=state, camera=camera, before=before, limit=limit + 1)
    items, last = cut(found, limit)
    told = tuple(models.RolloutBrief.model_validate(one) for one in items)
    return answer(models.Rollouts(items=told, next=None if last is None else cursor_of(last.id)))


@router.get("/rollouts/{rollout}", operation_id="rollout", response_model=models.Rollout, responses=problems(404))
def rollout_(request: Request, person: Viewer, rollout: Number) -> Response:
    """One rollout."""
    return _rollout(request, rollout)


@router.get(
    "/rollouts/{rollout}/members",
    operation_id="rollout_members",
    response_model=models.Members,
    responses=problems(404),
)
def members(request: Request, person: Viewer, rollout: Number, limit: Limit = 100, cursor: After = None) -> Response:
    """A rollout's devices."""
    after = read_cursor(cursor, tuple[str, str])
    found = sorted(read(site_of(request), rollout).members, key=lambda one: one.who)
    items, last = cut([one for one in found if after is None or one.who > after][: limit + 1], limit)
    told = tuple(models.Member.model_validate(one) for one in items)
    return answer(models.Members(items=told, next=None if last is None else cursor_of(last.who)))


_CHANGES: dict[str, Any] = {"response_model": models.Rollout, "responses": problems(404, 409, 413)}


@router.post("/rollouts/{rollout}/pause", operation_id="pause", **_CHANGES)
def pause(request: Request, person: Operator, rollout: Number, body: models.Reason) -> Response:
    """Nobody further is told until it is resumed; who was told goes on."""
    return _change(request, person, rollout, "pause", body.reason)


@router.post("/rollouts/{rollout}/resume", operation_id="resume", **_CHANGES)
def resume(request: Request, person: Operator, rollout: Number, body: models.Reason) -> Response:
    """It goes on with the stage that was at work."""
    return _change(request, person, rollout, "resume", body.reason)


@router.post("/rollouts/{rollout}/abort", operation_id="abort", **_CHANGES)
def abort(request: Request, person: Operator, rollout: Number, body: models.Reason) -> Response:
    """It ends, and every device that was told returns to what it ran before."""
    return _change(request, person, rollout, "abort", body.reason)


@router.post("/rollouts/{rollout}/rollback", operation_id="rollback", **_CHANGES)
def rollback(request: Request, person: Operator, rollout: Number, body: models.Reason) -> Response:
    """The same of a rollout that is done."""
    return _change(request, person, rollout, "rollback", body.reason)


@router.get("/audit", operation_id="audit", response_model=models.Audit, responses=problems())
def audit_(
    request: Request,
    person: Admin,
    who: NameWish = "",
    what: Annotated[str, Query(max_length=64, description="begins so, as `rollout.`")] = "",
    outcome: Literal["", "done", "refused", "failed"] = "",
    since_us: Moment = None,
    until_us: Moment = None,
    limit: Limit = 100,
    cursor: After = None,
) -> Response:
    """The record of what was done, the newest first."""
    wanted = Filter(who=who, what=what, outcome=outcome, since_us=since_us, until_us=until_us)
    found = site_of(request).access.trail.newest(wanted, limit + 1, read_cursor(cursor, int))
    items, last = cut(found, limit)
    told = tuple(models.Entry.model_validate(one) for one in items)
    return answer(models.Audit(items=told, next=None if last is None else cursor_of(last.id)))


def _run(request: Request, camera: str, number: int) -> Response:
    found = runs.one(site_of(request).engine, camera_name(camera), number)
    if found is None:
        raise HTTPException(404, f"{camera} has no generation {number}: look for it at /api/v1/runs")
    return answer(models.Run.model_validate(found))


def _rollout(request: Request, rollout: int) -> Response:
    return answer(_told(read(site_of(request), rollout)))


def _change(request: Request, person: Person, rollout: int, act: str, reason: str) -> Response:
    try:
        change(site_of(request), rollout, act, person.title, reason)
    except RolloutError as error:
        audit(request, person, f"rollout.{act}", f"rollout {rollout}", str(error), "failed")
        raise HTTPException(409, str(error)) from error
    audit(request, person, f"rollout.{act}", f"rollout {rollout}", reason)
    return _rollout(request, rollout)


def _told(rollout: Told) -> models.Rollout:
    devices = [one for one in rollout.members if not one.outside]
    plain = msgspec.structs.asdict(rollout)
    fields = {name: plain[name] for name in models.RolloutBrief.model_fields if name in plain}
    return models.Rollout.model_validate(
        {
            **fields,
            "sha256": rollout.sha256,
            "stage": rollout.now.name,
            "told": sum(one.told_us is not None for one in devices),
            "members": len(devices),
            "stages": [
                {
                    "name": cohort.name,
                    "members": len(cohort.members),
                    "told": sum(one.told_us is not None for one in cohort.members),
                    "running": sum(one.running_us is not None for one in cohort.members),
                }
                for cohort in rollout.cohorts
                if cohort.name != CONTROL
            ],
            "findings": rollout.evidence.findings,
            "events": rollout.events,
        }
    )
