"""One camera: how it does, what it sees, what its models were worth, and what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup

from walt_edge.contract.labels import Label
from walt_edge.contract.topics import Kind, TopicError, check_name
from walt_train.loop.serve.jobs import Generation, State
from walt_train.loop.web.access.guard import Viewer
from walt_train.loop.web.charts import Dot, Line, Mark, interval_chart, line_chart
from walt_train.loop.web.pages.asked import camera_path, missing, run_path, view_of, word
from walt_train.loop.web.queries import camera as asked
from walt_train.loop.web.queries import folders, runs, waiting
from walt_train.loop.web.queries.rollouts import briefs
from walt_train.loop.web.render import render
from walt_train.loop.web.site import Site, site_of

router = APIRouter()
_CROPS = 24
_GENERATIONS = 30
_ROLLOUTS = 10
_A_DAY_LEAST = 6
_SECOND = 1_000_000


@router.get("/cameras/{camera}")
def camera_page(request: Request, camera: str, person: Viewer) -> Response:
    """The page."""
    site, view = site_of(request), view_of(request)
    check(camera)
    rows = asked.rows_of(view, camera, word(request, "device"))
    row = rows[0] if rows else None
    span, moments = _moments(site, row.key if row is not None else 0, word(request, "span", tuple(asked.SPANS)))
    generations = runs.listed(site.engine, camera=camera, limit=_GENERATIONS)
    crops = asked.newest(site.engine, camera, Kind.CROP, _CROPS)
    if row is None and not generations and not crops:
        raise missing(f"nothing is known of a camera {camera}", "look for it in the fleet, or wait until it is heard")
    now_us = site.clock()
    return render(
        request,
        "camera.html",
        camera=camera,
        row=row,
        others=rows[1:],
        alerts=asked.alerts_of(view, row) if row is not None else [],
        span=span,
        spans=list(asked.SPANS),
        charts=_charts(moments, generations) if row is not None else [],
        drift=asked.drift(site.engine, row.key if row is not None else 0, camera, now_us),
        plates=asked.plates_by_hour(site.engine, camera),
        crops=crops,
        labels={int(label): label.title for label in Label},
        generations=generations,
        verdicts=_verdicts(site, camera),
        shown=shown(site, generations),
        rollouts=briefs(site.engine, camera=camera, limit=_ROLLOUTS),
        waits=waiting.waits(site.engine, camera, generations[0] if generations else None),
        path_of=camera_path,
        run_path=run_path,
    )


def check(camera: str) -> None:
    """Raises the page's error where that can be no camera's name."""
    try:
        check_name(camera, "camera")
    except TopicError as error:
        raise missing(f"'{camera[:64]}' is no camera's name", "look for it in the fleet") from error


def shown(site: Site, generations: Sequence[Generation]) -> dict[str, Any] | None:
    """The newest generation that left pictures: which, whether a sheet of composites, and before/after."""
    for generation in generations[:6]:
        folder = folders.of_generation(site.home, generation)
        if folder is None:
            continue
        sheets, pictures = folders.sheets(folder), folders.pictures(folder)
        if sheets or pictures:
            return {"generation": generation, "sheets": sheets, "pictures": pictures}
    return None


def _moments(site: Site, key: int, span: str) -> tuple[str, list[asked.Moment]]:
    """What was told over the span that was asked for; if none was, over a day, or the hour that a new camera has."""
    moments = asked.history(site.engine, key, span or "day", site.clock())
    if span or len(moments) >= _A_DAY_LEAST:
        return span or "day", moments
    return "hour", asked.history(site.engine, key, "hour", site.clock())


def _charts(moments: Sequence[asked.Moment], generations: Sequence[Generation]) -> list[Markup]:
    at = [one.at_us / _SECOND for one in moments]
    marks = [
        Mark(one.ended_us / _SECOND, f"generation {one.number} was published")
        for one in generations
        if one.ended_us is not None and one.state is State.DONE
    ]

    def line(name: str, values: Sequence[float | None]) -> Line:
        return Line(name, list(zip(at, values, strict=True)))

    ages = [line("median", [one.age_ms for one in moments]), line("slowest", [one.age_ms_most for one in moments])]
    lens = [line("", [None if one.lens is None else 100 * one.lens for one in moments])]
    return [
        line_chart("Frames watched a minute", [line("", [one.watched for one in moments])], marks=marks),
        line_chart("Crops chosen", [line("", [float(one.crops) for one in moments])], marks=marks),
        line_chart("Age of a frame as it was done with", ages, unit=" ms", marks=marks),
        line_chart("Clearness of the lens", lens, unit=" %", high=100.0),
        line_chart("Waiting to be sent", [line("", [one.waiting for one in moments])]),
        line_chart("Objects seen", [line("", [float(one.objects) for one in moments])], marks=marks),
    ]


def _verdicts(site: Site, camera: str) -> Markup:
    """How good each generation was, with the interval of what it was better by."""
    dots = []
    for one in runs.judged(site.engine, camera):
        if one.candidate is None:
            continue
        low, high = None, None
        if one.interval is not None and one.baseline is not None:
            low, high = (one.baseline + end for end in one.interval)
        kind: Any = {"passed": "good", "refused": "bad"}.get(one.decision, "plain")
        dots.append(Dot(f"{one.number}", one.candidate, low, high, kind, f"generation {one.number}: {one.line}"))
    return interval_chart("Mask IoU of what is half hidden, by generation", dots)
