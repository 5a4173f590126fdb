"""Trainings: which there are, and one with its steps, figures, verdict, logs and files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from markupsafe import Markup

from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import Generation, State, StepName
from walt_train.loop.web.access.guard import Operator, Viewer, audit
from walt_train.loop.web.charts import Line, line_chart
from walt_train.loop.web.pages.asked import address, camera_path, missing, run_path, word
from walt_train.loop.web.pages.camera import check
from walt_train.loop.web.queries import folders, runs
from walt_train.loop.web.queries.retry import RetryError, retry
from walt_train.loop.web.render import render, see_other
from walt_train.loop.web.site import Site, site_of

router = APIRouter()
_STATES: Final = tuple(state.value for state in State)


@router.get("/runs")
def listing(request: Request, person: Viewer) -> Response:
    """All of them, the newest first."""
    site = site_of(request)
    camera, state = word(request, "camera"), word(request, "state", _STATES)
    before = runs.parse_cursor(word(request, "before"))
    found = runs.listed(site.engine, camera=camera, state=state, before=before, limit=runs.PAGE + 1)
    asked = {"camera": camera, "state": state}
    older = address("/runs", asked, before=runs.cursor_of(found[runs.PAGE - 1])) if len(found) > runs.PAGE else ""
    return render(
        request,
        "runs.html",
        generations=found[: runs.PAGE],
        counts=runs.counts(site.engine),
        states=_STATES,
        camera=camera,
        state=state,
        older=older,
        newest=address("/runs", asked) if before is not None else "",
        path_of=camera_path,
        run_path=run_path,
    )


@router.get("/runs/{camera}/{number}")
def one(request: Request, camera: str, number: int, person: Viewer) -> Response:
    """One of them."""
    return render(request, "run.html", **_values(request, camera, number))


@router.get("/runs/{camera}/{number}/part")
def part(request: Request, camera: str, number: int, person: Viewer) -> Response:
    """What of it changes while it goes on, for the script that asks again."""
    return render(request, "run_part.html", **_values(request, camera, number))


@router.get("/runs/{camera}/{number}/files/{name:path}")
def file(request: Request, camera: str, number: int, name: str, person: Viewer) -> Response:
    """A file of it, to be kept."""
    generation, folder = _found(site_of(request), camera, number)
    path = folders.download(folder, name) if folder is not None else None
    if path is None:
        raise missing(f"{generation.title} has no file {name[:80]}", "take one of those that its page lists")
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    kept = f"{camera}-{number}-{path.name}"
    return FileResponse(path, media_type="application/octet-stream", filename=kept, headers=headers)


@router.post("/runs/{camera}/{number}/retry")
def again(request: Request, camera: str, number: int, person: Operator) -> Response:
    """Lets a training that failed go on where it failed."""
    generation, _ = _found(site_of(request), camera, number)
    path = run_path(camera, number)
    try:
        retry(site_of(request).engine, camera, number)
    except RetryError as error:
        audit(request, person, "run.retry", generation.title, str(error), "failed")
        return see_other(request, path, str(error), is_bad=True)
    audit(request, person, "run.retry", generation.title, f"it had failed: {generation.reason}")
    return see_other(request, path, f"{generation.title} goes on where it failed, as soon as a worker is free.")


def _values(request: Request, camera: str, number: int) -> dict[str, Any]:
    site = site_of(request)
    generation, folder = _found(site, camera, number)
    told = folders.verdict(folder) if folder is not None else {}
    verdict = _verdict(generation)
    return {
        "generation": generation,
        "is_open": runs.is_open(generation),
        "can_retry": generation.state is State.FAILED,
        "verdict": verdict,
        "slices": folders.slices(told),
        "findings": folders.findings(told),
        "sources": runs.sources(site.engine, generation),
        "published": generation.step(StepName.PUBLISH).result if generation.steps else {},
        "charts": _charts(folder),
        "logs": folders.logs(folder) if folder is not None else [],
        "files": folders.downloads(folder) if folder is not None else [],
        "sheets": folders.sheets(folder) if folder is not None else [],
        "pictures": folders.pictures(folder) if folder is not None else [],
        "has_folder": folder is not None,
        "trained": folder.trained_steps() if folder is not None and runs.is_open(generation) else None,
        "path_of": camera_path,
        "run_path": run_path,
    }


def _found(site: Site, camera: str, number: int) -> tuple[Generation, Folder | None]:
    check(camera)
    generation = runs.one(site.engine, camera, number) if 0 < number < 2**31 else None
    if generation is None:
        raise missing(f"{camera} has no generation {number}", "take one of those that its page lists")
    return generation, folders.of_generation(site.home, generation)


def _verdict(generation: Generation) -> runs.Judged | None:
    judge = next((step for step in generation.steps if step.name is StepName.JUDGE), None)
    if judge is None or not judge.result:
        return None
    return runs.judged_from(generation.camera, generation.number, judge.result, judge.ended_us)


def _charts(folder: Folder | None) -> Sequence[Markup]:
    curves = folders.curves(folder) if folder is not None else []
    losses = [curve for curve in curves if curve.name.startswith("loss")]
    parts = [Line(one.name.removeprefix("loss_"), one.points) for one in losses if one.name != "loss"]
    charts = [line_chart("Loss", [Line("", one.points)], is_time=False) for one in losses if one.name == "loss"]
    charts += [
        line_chart("Its parts", parts[first : first + 4], is_time=False) for first in range(0, min(len(parts), 8), 4)
    ]
    others = [curve for curve in curves if not curve.name.startswith("loss")][:4]
    return charts + [line_chart(one.name, [Line("", one.points)], is_time=False) for one in others]
