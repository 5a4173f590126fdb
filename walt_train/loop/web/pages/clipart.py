"""What cameras sent home: looked through, rejected, and taken back.

Every page is one look into an index, whatever the store holds; nothing is counted. Forms do everything that keys do:
`clipart.js` sends the same forms, and asks for JSON.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import select

from walt_edge.contract.errors import UsageError, WaltError
from walt_edge.contract.labels import Label
from walt_edge.contract.messages import CropHeader
from walt_train.loop.labels.choosing import PAGE, Crops, Order, Place, cameras_of, page, place_of
from walt_train.loop.labels.rejections import (
    REASON_LENGTH,
    Rejected,
    learned_from,
    reject,
    reject_all,
    undo,
    undo_act,
)
from walt_train.loop.labels.tables import rejections
from walt_train.loop.store.errors import StoreError
from walt_train.loop.store.tables import envelopes
from walt_train.loop.web.access.guard import Operator, Person, Role, Viewer, audit
from walt_train.loop.web.pages.asked import address, camera_path, missing, word
from walt_train.loop.web.render import render, see_other
from walt_train.loop.web.site import site_of

router = APIRouter()

_ASKED: Final = (
    *("camera", "device", "boot", "track", "label", "since", "until", "from", "to", "side", "state", "judging"),
    "sort",
)
_STATES: Final = ("free", "held", "rejected")
_IDS_MOST: Final = 500
_CAMERAS_MOST: Final = 500
_PARTS_MOST: Final = 24
_HOUR_US: Final = 3600 * 10**6
Reason = Annotated[str, Form(max_length=REASON_LENGTH)]
Ids = Annotated[list[str], Form(max_length=_IDS_MOST)]
Where = Annotated[str, Form(max_length=2000)]


@router.get("/clipart")
def browser(request: Request, person: Viewer) -> Response:
    """One page of crops."""
    asked = {name: word(request, name) for name in _ASKED}
    crops, order = crops_of(asked), _order(asked["sort"])
    after = _place(word(request, "after"))
    with site_of(request).engine.connect() as connection:
        rows = page(connection, crops, order, after, PAGE + 1)
        cameras = cameras_of(connection)[:_CAMERAS_MOST]
    shown = rows[:PAGE]
    older = address("/clipart", asked, after=str(place_of(shown[-1], order))) if len(rows) > PAGE else ""
    return render(
        request,
        "clipart.html",
        crops=shown,
        asked=asked,
        cameras=cameras,
        labels=_titles(),
        may_change=person.role >= Role.OPERATOR,
        is_bounded=crops.is_bounded,
        is_narrowed=any(asked.values()),
        older=older,
        first=address("/clipart", asked) if after is not None else "",
        here=address("/clipart", asked, after=word(request, "after")),
        act=_whole(word(request, "act")),
        what="\n".join(f"{name}={value}" for name, value in asked.items() if value),
        reason_most=REASON_LENGTH,
    )


@router.get("/clipart/{name}")
def one(request: Request, name: str, person: Viewer) -> Response:
    """Everything that is known of a crop."""
    site = site_of(request)
    with site.engine.connect() as connection:
        query = select(envelopes, rejections.c.by, rejections.c.at_us, rejections.c.reason)
        query = query.outerjoin(rejections, rejections.c.crop == envelopes.c.id)
        row = connection.execute(query.where(envelopes.c.id == name, envelopes.c.label.is_not(None))).first()
        if row is None:
            raise missing(
                "there is no such crop", "it may have expired, or be forgotten; look for it in the clip art"
            )
        learned = learned_from(connection, [name])
    try:
        header = site.store.get(name).envelope.header
    except StoreError:
        # A page that says so is better than none: its picture will say why.
        header = None
    hour_us = row.captured_us // _HOUR_US * _HOUR_US
    return render(
        request,
        "crop.html",
        crop=row,
        header=header if isinstance(header, CropHeader) else None,
        parts=_parts(header),
        label=_titles().get(row.label, "object"),
        learned=learned,
        may_change=person.role >= Role.OPERATOR,
        track=f"device={row.device}\nboot={row.boot_id}\ntrack={row.track_id}",
        hour=f"camera={row.camera}\nsince={minute(hour_us)}\nuntil={minute(hour_us + _HOUR_US)}",
        hour_path=address(
            "/clipart", {"camera": row.camera, "since": minute(hour_us), "until": minute(hour_us + _HOUR_US)}
        ),
        sender=camera_path(row.camera, row.site, row.device),
        track_path=address("/clipart", {"device": row.device, "boot": row.boot_id, "track": row.track_id}),
        reason_most=REASON_LENGTH,
    )


@router.post("/clipart/reject")
def reject_some(
    request: Request, person: Operator, crop: Ids, reason: Reason = "", where: Where = "/clipart"
) -> Response:
    """Has crops train no more."""
    done = reject(site_of(request).engine, _ids(crop), person.name, reason.strip())
    audit(request, person, "crop.reject", _subject(crop), f"{done.count} rejected; {reason.strip()}".strip("; "))
    return _rejected(request, person, done, where)


@router.post("/clipart/reject-all")
def reject_alike(request: Request, person: Operator, what: Where, reason: Reason = "") -> Response:
    """Has everything of a choice train no more: a track, an hour, a camera between two times."""
    asked = _read(what)
    try:
        done = reject_all(site_of(request).engine, crops_of(asked), person.name, reason.strip())
    except UsageError as error:
        return see_other(request, address("/clipart", asked), str(error), is_bad=True)
    told = ", ".join(f"{name} {value}" for name, value in asked.items() if value)
    audit(request, person, "crop.reject-all", told[:200], f"{done.count} rejected; {reason.strip()}".strip("; "))
    return _rejected(request, person, done, address("/clipart", asked))


@router.post("/clipart/undo")
def undo_some(request: Request, person: Operator, crop: Ids, where: Where = "/clipart") -> Response:
    """Has rejected crops train again."""
    count = undo(site_of(request).engine, _ids(crop))
    audit(request, person, "crop.undo", _subject(crop), f"{count} train again")
    return _answer(request, where, f"{_crops(count)} may train again.", count)


@router.post("/clipart/undo-act")
def undo_one_act(
    request: Request, person: Operator, at_us: Annotated[int, Form(ge=0, lt=2**62)], where: Where = "/clipart"
) -> Response:
    """Takes back what this person rejected at once."""
    count = undo_act(site_of(request).engine, person.name, at_us)
    audit(request, person, "crop.undo", f"what was rejected at {at_us}", f"{count} train again")
    return _answer(request, where, f"{_crops(count)} may train again.", count)


def crops_of(asked: dict[str, str]) -> Crops:
    """What a page's parameters mean; what cannot be read means nothing."""
    label = asked.get("label", "").upper()
    state: Any = asked.get("state", "")
    judging = asked.get("judging", "")
    return Crops(
        camera=asked.get("camera", ""),
        device=asked.get("device", ""),
        boot=asked.get("boot", ""),
        track=_whole(asked.get("track", "")),
        label=Label[label] if label in Label.__members__ else None,
        since_us=moment_us(asked.get("since", "")),
        until_us=moment_us(asked.get("until", "")),
        sure_from=_part(asked.get("from", "")),
        sure_to=_part(asked.get("to", "")),
        side_px=_whole(asked.get("side", "")),
        state=state if state in _STATES else "",
        judging=judging == "yes" if judging in ("yes", "no") else None,
    )


def moment_us(text: str) -> int | None:
    """A date and time of a form, UTC, as microseconds; None of what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return round(found.timestamp() * 1e6) if found.year > 1 else None


def minute(at_us: int) -> str:
    """As a form's field for date and time holds it; "" where a device's clock told what no calendar has."""
    try:
        return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M")
    except (OverflowError, ValueError, OSError):
        return ""


def _rejected(request: Request, person: Person, done: Rejected, where: str) -> Response:
    told = [f"{_crops(done.count)} rejected: they train no more."]
    if done.more:
        told.append("There are more: reject all once more.")
    learned = [one.line for one in done.learned if one.learned]
    if learned:
        told.append("Models that know them already keep what they learned: " + "; ".join(learned[:4]) + ".")
    return _answer(request, where, " ".join(told), done.count, done.at_us if done.count else 0)


def _answer(request: Request, where: str, said: str, count: int, act: int = 0) -> Response:
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse({"said": said, "count": count, "act": act})
    # Never to another place than ours.
    path = where if where.startswith("/clipart") and "\\" not in where and "//" not in where else "/clipart"
    if act:
        path += f"{'&' if '?' in path else '?'}act={act}"
    return see_other(request, path, said)


def _read(what: str) -> dict[str, str]:
    """A choice as a form carries it: `name=value` lines."""
    pairs = (line.partition("=") for line in what.splitlines())
    return {name: value.strip() for name, _, value in pairs if name in _ASKED}


def _ids(names: Sequence[str]) -> list[str]:
    found = [name for name in names if len(name) == 64 and not set(name) - set("0123456789abcdef")]
    if len(found) != len(names) or not found:
        raise HTTPException(400, "choose at least one crop")
    return found


def _subject(names: Sequence[str]) -> str:
    return f"crop {names[0][:12]}" if len(names) == 1 else f"{len(names)} crops"


def _crops(count: int) -> str:
    return "1 crop" if count == 1 else f"{count} crops"


def _parts(header: object) -> list[tuple[str, float]]:
    """What lowers a crop's confidence, the least sure first; a device may tell of any number."""
    told = header.confidence_parts if isinstance(header, CropHeader) else {}
    return heapq.nsmallest(_PARTS_MOST, told.items(), key=lambda one: one[1])


def _titles() -> dict[int, str]:
    return {int(label): label.title for label in Label}


def _order(text: str) -> Order:
    return Order(text) if text in set(Order) else Order.NEWEST


def _place(text: str) -> Place | None:
    try:
        return Place.read(text) if text else None
    except WaltError:
        return None


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _part(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 <= found <= 1 else None
