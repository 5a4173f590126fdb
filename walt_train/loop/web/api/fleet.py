"""The fleet, its cameras and what they have sent, for programs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from walt_edge.contract.labels import Label
from walt_edge.contract.topics import Kind
from walt_train.loop.web.access.guard import Viewer
from walt_train.loop.web.api import models
from walt_train.loop.web.api.answers import (
    After,
    Limit,
    Name,
    answer,
    camera_name,
    cursor_of,
    cut,
    problems,
    read_cursor,
)
from walt_train.loop.web.pages.asked import view_of
from walt_train.loop.web.queries import camera as asked
from walt_train.loop.web.queries import crops, runs, waiting
from walt_train.loop.web.queries.board import AlertRow, Row, View
from walt_train.loop.web.queries.fleet import Wish, after
from walt_train.loop.web.site import site_of

router = APIRouter(tags=["fleet"])
_LEVELS: tuple[Literal["", "warning", "urgent"], ...] = ("", "warning", "urgent")
Search = Annotated[str, Query(max_length=200, description="words that are all in SITE/DEVICE/CAMERA")]
DeviceWish = Annotated[
    str, Query(max_length=129, description="SITE/DEVICE, where several have a camera of that name")
]
KindWish = Annotated[str, Query(max_length=32, description="only where an alert of this kind is raised")]


@router.get("/me", operation_id="me", response_model=models.Me, responses=problems())
def me(request: Request, person: Viewer) -> Response:
    """Who asks, and what that one may do."""
    return answer(models.Me.model_validate({"name": person.name, "role": person.role.word, "token": person.token}))


@router.get("/fleet", operation_id="fleet", response_model=models.Fleet, responses=problems())
def fleet(request: Request, person: Viewer) -> Response:
    """The fleet in a few figures."""
    view = view_of(request)
    totals = view.totals()
    told = models.Fleet(
        devices=totals["devices"],
        online=totals["online"],
        cameras=totals["cameras"],
        alerts=len(view.alerts),
        judged_us=view.judged_us,
        quiet=view.quiet(site_of(request).clock()),
    )
    return answer(told)


@router.get("/alerts", operation_id="alerts", response_model=models.Alerts, responses=problems())
def alerts(
    request: Request, person: Viewer, kind: KindWish = "", limit: Limit = 100, cursor: After = None
) -> Response:
    """What is wrong now, the most urgent first."""
    found = [one for one in view_of(request).alerts if kind in ("", one.subject.kind)]
    first = read_cursor(cursor, int) or 0
    items, last = cut(found[max(first, 0) :][: limit + 1], limit)
    following = None if last is None else cursor_of(max(first, 0) + limit)
    return answer(models.Alerts(items=tuple(map(_alert, items)), next=following))


@router.get("/cameras", operation_id="cameras", response_model=models.Cameras, responses=problems())
def cameras(
    request: Request,
    person: Viewer,
    search: Search = "",
    state: Literal["", "online", "offline", "trouble"] = "",
    kind: KindWish = "",
    release: Annotated[int, Query(ge=-1, lt=2**62, description="of the model that runs; -1: any")] = -1,
    limit: Limit = 100,
    cursor: After = None,
) -> Response:
    """Cameras as they were heard last."""
    view = view_of(request)
    wish = Wish(search=search, state=state, kind=kind, release=release)
    found = after(view, wish, read_cursor(cursor, tuple[str, str, str]), limit + 1)
    items, last = cut(found, limit)
    following = None if last is None else cursor_of(last.name)
    return answer(models.Cameras(items=tuple(_camera(view, row) for row in items), next=following))


@router.get("/cameras/{camera}", operation_id="camera", response_model=models.CameraDetail, responses=problems(404))
def camera_(request: Request, person: Viewer, camera: Name, device: DeviceWish = "") -> Response:
    """One camera."""
    site, view = site_of(request), view_of(request)
    row = next(iter(asked.rows_of(view, camera_name(camera), device)), None)
    last = next(iter(runs.listed(site.engine, camera=camera, limit=1)), None)
    if row is None and last is None and not asked.newest(site.engine, camera, Kind.CROP, 1):
        raise HTTPException(404, f"nothing is known of a camera {camera}: look for it at /api/v1/cameras")
    told = models.CameraDetail(
        camera=camera,
        now=None if row is None else _camera(view, row),
        alerts=tuple(map(_alert, asked.alerts_of(view, row))) if row is not None else (),
        waits=waiting.waits(site.engine, camera, last).line,
        generations=last.number if last is not None else 0,
        newest_release=runs.newest_release(site.engine, camera),
    )
    return answer(told)


@router.get(
    "/cameras/{camera}/history",
    operation_id="camera_history",
    response_model=models.History,
    responses=problems(404),
)
def history(
    request: Request,
    person: Viewer,
    camera: Name,
    span: Literal["hour", "day", "week", "year"] = "day",
    device: DeviceWish = "",
) -> Response:
    """A camera's figures over a day, a week or a year."""
    row = next(iter(asked.rows_of(view_of(request), camera_name(camera), device)), None)
    if row is None:
        raise HTTPException(404, f"no device is heard that has a camera {camera}: look for it at /api/v1/cameras")
    site = site_of(request)
    moments = asked.history(site.engine, row.key, span, site.clock())
    items = tuple(models.Moment.model_validate(one) for one in moments)
    return answer(models.History(camera=camera, span=span, items=items))


@router.get(
    "/cameras/{camera}/verdicts",
    operation_id="camera_verdicts",
    response_model=models.Verdicts,
    responses=problems(404),
)
def verdicts(request: Request, person: Viewer, camera: Name) -> Response:
    """What the gate said of a camera's newest sixty generations."""
    found = runs.judged(site_of(request).engine, camera_name(camera))
    return answer(models.Verdicts(items=tuple(models.Verdict.model_validate(one) for one in found)))


@router.get("/crops", operation_id="crops", response_model=models.Crops, responses=problems())
def crops_(
    request: Request,
    person: Viewer,
    camera: Annotated[str, Query(min_length=1, max_length=64)],
    kind: Literal["crop", "plate", "frame"] = "crop",
    limit: Limit = 100,
    cursor: After = None,
) -> Response:
    """What is stored of a camera, the newest first."""
    before = read_cursor(cursor, tuple[int, str])
    found = crops.listed(site_of(request).engine, camera, Kind(kind), before, limit + 1)
    items, last = cut(found, limit)
    following = None if last is None else cursor_of((last["captured_us"], last["id"]))
    return answer(models.Crops(items=tuple(map(_crop, items)), next=following))


@router.get("/crops/{id}", operation_id="crop", response_model=models.Crop, responses=problems(404))
def crop(request: Request, person: Viewer, id: models.Id) -> Response:  # noqa: A002 (as the model names it)
    """One crop, plate or frame."""
    row = crops.one(site_of(request).engine, id)
    if row is None:
        raise HTTPException(404, f"{id[:12]} is not stored: it may have been forgotten, or have expired")
    return answer(_crop(row))


def _alert(alert: AlertRow) -> models.Alert:
    words = {name: getattr(alert, name) for name in ("level", "title", "detail", "remedy", "since_us")}
    return models.Alert(**alert.subject._asdict(), **words)


def _camera(view: View, row: Row) -> models.Camera:
    fields = {name: getattr(row, name) for name in models.Camera.model_fields if name != "level"}
    return models.Camera(**fields, level=_LEVELS[view.level(row)])


def _crop(row: Any) -> models.Crop:
    box = tuple(row[name] for name in ("x0", "y0", "x1", "y1"))
    fields = {name: row[name] for name in models.Crop.model_fields if name in row}
    return models.Crop.model_validate(
        {
            **fields,
            "label": None if row["label"] is None else Label(row["label"]).title,
            "track": row["track_id"],
            "box_xyxy": None if box[0] is None else box,
            "rejected": row["rejected"] is not None,
        }
    )
