"""What was done, by whom, from where, and how it ended; for admins."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response, StreamingResponse

from walt_train.loop.web.access.guard import Admin, audit
from walt_train.loop.web.access.trail import KEPT_DAYS, OUTCOMES, Filter, Trail
from walt_train.loop.web.render import render, utc
from walt_train.loop.web.site import site_of

router = APIRouter()
_PAGE: Final = 100
_CSV_ROWS: Final = 200
_COLUMNS: Final = ("at", "who", "token", "what", "of", "outcome", "detail", "address")

Word = Annotated[str, Query(max_length=64)]


@router.get("/audit")
def audit_page(
    request: Request,
    person: Admin,
    who: Word = "",
    what: Word = "",
    outcome: Word = "",
    since: Word = "",
    until: Word = "",
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Response:
    """A page of the record, the newest first."""
    asked = {"who": who, "what": what, "outcome": outcome, "since": since, "until": until}
    lines = site_of(request).access.trail.newest(_filter(asked), _PAGE + 1, before)
    older = urlencode({**asked, "before": lines[_PAGE - 1].id}) if len(lines) > _PAGE else ""
    return render(
        request,
        "audit.html",
        lines=lines[:_PAGE],
        asked=asked,
        outcomes=OUTCOMES,
        older=older,
        newest=urlencode(asked) if before is not None else "",
        download=urlencode(asked),
        kept_days=KEPT_DAYS,
    )


@router.get("/audit.csv")
def audit_csv(
    request: Request,
    person: Admin,
    who: Word = "",
    what: Word = "",
    outcome: Word = "",
    since: Word = "",
    until: Word = "",
) -> Response:
    """The whole record that fits, for a table program."""
    asked = {"who": who, "what": what, "outcome": outcome, "since": since, "until": until}
    wanted = _filter(asked)
    audit(request, person, "audit.read", "csv", urlencode({name: word for name, word in asked.items() if word}))
    headers = {"content-disposition": 'attachment; filename="walt-audit.csv"'}
    rows = _rows(site_of(request).access.trail, wanted)
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)


def _rows(trail: Trail, wanted: Filter) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for number, line in enumerate(trail.each(wanted), 1):
        cells = (line.who, line.token, line.what, line.subject, line.outcome, line.detail, line.address)
        writer.writerow([utc(line.at_us), *(_harmless(cell) for cell in cells)])
        if number % _CSV_ROWS == 0:
            yield _taken(text)
    yield _taken(text)


def _taken(text: io.StringIO) -> str:
    found = text.getvalue()
    text.seek(0)
    text.truncate()
    return found


def _harmless(cell: str) -> str:
    """A table program would take these for a formula, and names of failed sign-ins are a stranger's."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _filter(asked: dict[str, str]) -> Filter:
    outcome = asked["outcome"]
    if outcome and outcome not in OUTCOMES:
        raise HTTPException(400, f"an outcome is {', '.join(OUTCOMES)}")
    return Filter(
        who=asked["who"].strip().lower(),
        what=asked["what"].strip(),
        outcome=outcome,
        since_us=_day_us(asked["since"], timedelta()),
        until_us=_day_us(asked["until"], timedelta(days=1)),
    )


def _day_us(text: str, later: timedelta) -> int | None:
    """The beginning of a day, UTC, and so much later; None for ""."""
    if not text:
        return None
    try:
        day = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + later
    except (ValueError, OverflowError) as error:
        raise HTTPException(400, "a day is written as 2026-11-23") from error
    return round(day.timestamp() * 1e6)
