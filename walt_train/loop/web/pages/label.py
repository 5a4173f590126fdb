"""Drawing whole outlines on frames that judge models, and writing them out as truth."""

from __future__ import annotations

import time
from typing import Annotated, Final

from fastapi import APIRouter, Body, Form, Request
from fastapi.responses import JSONResponse, Response

from walt_edge.contract.errors import WaltError
from walt_edge.contract.messages import CropHeader
from walt_train.loop.labels.drawing import DrawingError
from walt_train.loop.labels.drawn import Drawings, Drawn, LeaseError
from walt_train.loop.labels.export import export_labels
from walt_train.loop.web.access.guard import Operator, Person, audit
from walt_train.loop.web.pages.asked import address, missing
from walt_train.loop.web.render import render, see_other
from walt_train.loop.web.site import Site, site_of

router = APIRouter()

HOLDOUTS: Final = "holdouts"
"""Below home: truth that people drew, a folder for each export."""
_CAMERAS_MOST: Final = 200
Camera = Annotated[str, Form(min_length=1, max_length=64)]
# As bytes, whatever is in them: `read_drawing` is what believes nothing.
Sent = Annotated[bytes, Body(media_type="application/octet-stream")]


@router.get("/label")
def cameras(request: Request, person: Operator) -> Response:
    """How far each camera is."""
    site = site_of(request)
    drawings = _drawings(site)
    names = drawings.cameras()
    return render(
        request,
        "label-cameras.html",
        cameras=[drawings.progress(camera) for camera in names[:_CAMERAS_MOST]],
        more=max(0, len(names) - _CAMERAS_MOST),
        may_export=site.home is not None,
    )


@router.post("/label/next")
def go_on(request: Request, person: Operator, camera: Camera) -> Response:
    """To a frame that nobody else draws on."""
    return see_other(request, *_next(request, person, camera))


@router.post("/label/export")
def write_out(request: Request, person: Operator, camera: Camera) -> Response:
    """Writes what was drawn on a camera's frames as truth that judges."""
    site = site_of(request)
    if site.home is None:
        raise missing("this home has no folder for that", "use walt-loop label export --out DIR")
    folder = site.home / HOLDOUTS / f"{camera}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(site.clock() / 1e6))}"
    if camera not in _drawings(site).cameras():
        raise missing(f"no camera {camera[:64]} has frames that judge", "take one of those that the page lists")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        done = export_labels(site.store, camera, folder, by=person.name)
    except (WaltError, OSError) as error:
        return see_other(request, "/label", f"Nothing was written: {error}", is_bad=True)
    audit(request, person, "label.export", camera, f"{folder.name}: {len(done.holdout.frames)} frames")
    frames, objects = len(done.holdout.frames), done.objects
    said = f"{folder}: {frames} frames with {objects} objects, frozen as truth. {done.agreement.line}."
    return see_other(request, "/label", said)


@router.get("/label/{frame}")
def board(request: Request, frame: str, person: Operator) -> Response:
    """The frame to draw on."""
    drawings = _drawings(site_of(request))
    size_wh, camera, captured_us = _frame(request, frame)
    is_mine = drawings.take(frame, person.name)
    return render(
        request,
        "label.html",
        frame=frame,
        camera=camera,
        captured_us=captured_us,
        size_wh=size_wh,
        begun=drawings.begun(frame, person.name) or "",
        is_mine=is_mine,
        history=[_told(one, person) for one in drawings.history(frame)],
        progress=drawings.progress(camera),
    )


@router.post("/label/{frame}/draft")
def draft(request: Request, frame: str, person: Operator, drawing: Sent) -> Response:
    """Keeps what is begun."""
    size_wh, _, _ = _frame(request, frame)
    try:
        _drawings(site_of(request)).save(frame, person.name, drawing, size_wh)
    except (DrawingError, LeaseError) as error:
        return _refused(error)
    return JSONResponse({"at_us": site_of(request).clock()})


@router.post("/label/{frame}/done")
def done(request: Request, frame: str, person: Operator, drawing: Sent) -> Response:
    """Finishes a frame; tells where the next one is."""
    size_wh, camera, _ = _frame(request, frame)
    try:
        number = _drawings(site_of(request)).finish(frame, person.name, drawing, size_wh)
    except (DrawingError, LeaseError) as error:
        return _refused(error)
    audit(request, person, "label.done", f"frame {frame[:12]}", f"{camera}, version {number}")
    path, said = _next(request, person, camera)
    return JSONResponse({"next": path, "said": said})


@router.post("/label/{frame}/skip")
def skip(request: Request, frame: str, person: Operator) -> Response:
    """Nobody can tell what this frame shows."""
    size_wh, camera, _ = _frame(request, frame)
    try:
        _drawings(site_of(request)).finish(frame, person.name, b"", size_wh, "skipped")
    except LeaseError as error:
        return see_other(request, "/label", str(error), is_bad=True)
    audit(request, person, "label.skip", f"frame {frame[:12]}", camera)
    return see_other(request, *_next(request, person, camera))


@router.post("/label/{frame}/leave")
def leave(request: Request, frame: str, person: Operator) -> Response:
    """Lets others have the frame; what is begun stays."""
    _drawings(site_of(request)).leave(frame, person.name)
    return see_other(request, "/label")


@router.get("/label/{frame}/before")
def before(request: Request, frame: str, person: Operator) -> Response:
    """What this person drew on the frame nearest in time: whatever stands still need not be drawn again."""
    _, camera, _ = _frame(request, frame)
    found = _drawings(site_of(request)).before(camera, person.name, frame)
    return Response(found or "null", media_type="application/json")


def _drawings(site: Site) -> Drawings:
    return Drawings(site.engine, site.clock)


def _frame(request: Request, frame: str) -> tuple[tuple[int, int], str, int]:
    """Size, camera and time of a frame that may be drawn on."""
    site = site_of(request)
    try:
        camera, captured_us = _drawings(site).frame(frame)
        envelope = site.store.get(frame).envelope
    except WaltError as error:
        raise missing("there is no such frame to draw on", str(error)) from error
    assert not isinstance(envelope.header, CropHeader)
    return envelope.image_wh, camera, captured_us


def _next(request: Request, person: Person, camera: str) -> tuple[str, str]:
    """Where to go on, and what to say."""
    frame = _drawings(site_of(request)).offer(camera, person.name)
    if frame is None:
        return "/label", f"Nothing is left to draw on camera {camera}."
    return address(f"/label/{frame}", {}), ""


def _refused(error: WaltError) -> Response:
    return JSONResponse({"said": str(error)}, 409 if isinstance(error, LeaseError) else 400)


def _told(one: Drawn, person: Person) -> dict[str, object]:
    """A version, without what another person drew: two who draw the same frame do not see one another's."""
    return {"by": one.by, "at_us": one.at_us, "state": one.state, "number": one.number, "own": one.by == person.name}
