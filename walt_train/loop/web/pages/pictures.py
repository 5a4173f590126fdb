"""Pictures that pages show: of what devices sent, decoded elsewhere and encoded again, and of what we made of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response
from sqlalchemy import select

from walt_edge.contract.errors import WaltError
from walt_edge.contract.topics import Kind
from walt_train.decoding import DecodingError, NoDecoderError
from walt_train.loop.labels.pictures import THUMB_PX, WIDTHS, Pictures, allowed, shared_pictures
from walt_train.loop.serve.folder import Folder
from walt_train.loop.store.errors import StoreError
from walt_train.loop.store.store import Store
from walt_train.loop.store.tables import envelopes
from walt_train.loop.web.access.guard import Viewer
from walt_train.loop.web.site import site_of

router = APIRouter()

_ID: Final = re.compile(r"[0-9a-f]{64}")
_CAMERA: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MADE: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,79}/){0,4}[A-Za-z0-9][A-Za-z0-9_.-]{0,79}\.(?:jpg|png)")
_OURS: Final = ("reports", "train")
# What we make of an id never changes, but how we make it may: the number changes with that.
_VERSION: Final = 1
_KEEP: Final = "private, max-age=86400, immutable"
Width = Annotated[int, Query(ge=1, le=WIDTHS[-1])]
Make = Callable[[Pictures, Store], bytes]


@router.get("/pictures/crops/{name}/small", include_in_schema=False)
@router.get("/pictures/crop/{name}")
def crop(request: Request, name: str, person: Viewer, w: Width = THUMB_PX, outline: bool = True) -> Response:
    """A crop, with its mask's outline."""
    name = name.removesuffix(".jpg")
    made = f"{allowed(w)}-{outline:d}"
    return _picture(request, name, (Kind.CROP,), made, lambda one, store: one.crop(store, name, w, outline=outline))


@router.get("/pictures/place/{name}")
def place(request: Request, name: str, person: Viewer, w: Width = 960) -> Response:
    """A crop where it stood on its plate."""
    name = name.removesuffix(".jpg")
    return _picture(request, name, (Kind.CROP,), f"{allowed(w)}-p", lambda one, store: one.place(store, name, w))


@router.get("/pictures/plates/{name}", include_in_schema=False)
@router.get("/pictures/plate/{name}")
def plate(request: Request, name: str, person: Viewer, w: Width = 960) -> Response:
    """A camera's background."""
    name = name.removesuffix(".jpg")
    return _picture(request, name, (Kind.PLATE,), f"{allowed(w)}", lambda one, store: one.whole(store, name, w))


@router.get("/pictures/frames/{name}", include_in_schema=False)
@router.get("/pictures/frame/{name}")
def frame(request: Request, name: str, person: Viewer, w: Width = 1920) -> Response:
    """A whole frame."""
    name = name.removesuffix(".jpg")
    return _picture(request, name, (Kind.FRAME,), f"{allowed(w)}", lambda one, store: one.whole(store, name, w))


@router.get("/pictures/generations/{camera}/{number}/{name:path}", include_in_schema=False)
@router.get("/pictures/generation/{camera}/{number}/{name:path}")
def generation(request: Request, camera: str, number: int, name: str, person: Viewer) -> Response:
    """A picture that a training or a judging left in its generation's folder."""
    home = site_of(request).home
    if home is None or not (0 < number < 2**31 and _CAMERA.fullmatch(camera) and _MADE.fullmatch(name)):
        raise HTTPException(404, "there is no such picture")
    root = Folder.path(home, camera, number).resolve()
    path = (root / name).resolve()
    # Clip art is a stranger's own bytes; it is shown as crops.
    is_ours = path.parent == root or any(path.is_relative_to(root / folder) for folder in _OURS)
    if not path.is_relative_to(root) or not is_ours or not path.is_file():
        raise HTTPException(404, "there is no such picture; it may have been removed to save space")
    return _file(request, path)


def _file(request: Request, path: Path) -> Response:
    found = path.stat()
    tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    media = "image/jpeg" if path.suffix == ".jpg" else "image/png"
    return FileResponse(path, media_type=media, headers=headers)


def _picture(request: Request, name: str, kinds: tuple[Kind, ...], made: str, make: Make) -> Response:
    """What `make` gives of something that is stored now; browsers keep it."""
    store, pictures = site_of(request).store, shared_pictures()
    if not _ID.fullmatch(name):
        raise HTTPException(404, "there is no such picture")
    wanted = [kind.value for kind in kinds]
    with store.engine.connect() as connection:
        query = select(envelopes.c.id).where(envelopes.c.id == name, envelopes.c.kind.in_(wanted))
        is_stored = connection.scalar(query) is not None
    if not is_stored:
        pictures.drop(name)
        raise HTTPException(404, "there is no such picture; what is forgotten or expired is not shown")
    tag = f'"{name[:32]}-{made}-{_VERSION}"'
    headers = {"etag": tag, "cache-control": _KEEP}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(_made(pictures, store, make), media_type="image/jpeg", headers=headers)


def _made(pictures: Pictures, store: Store, make: Make) -> bytes:
    try:
        return make(pictures, store)
    except NoDecoderError as error:
        raise HTTPException(503, str(error)) from error
    except (DecodingError, StoreError) as error:
        raise HTTPException(422, f"this picture cannot be shown: {error}") from error
    except WaltError as error:
        raise HTTPException(400, str(error)) from error
