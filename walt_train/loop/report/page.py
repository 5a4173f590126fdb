"""Writes `report.html` (one file, pictures inside), `report.json` and `overview.png`."""

from __future__ import annotations

import base64
import importlib.resources
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import msgspec

from walt_train.loop.report.evidence import Evidence, Picture, ReportError
from walt_train.loop.report.figures import Report
from walt_train.loop.report.overview import best_first, overview
from walt_train.loop.report.pictures import against_truth, example_of, fitted, outlined, scaled, silhouettes, tracks
from walt_train.loop.report.truth import Match

_WIDE_PX = 1280
_HALF_PX = 800
_GALLERY = 36
_JPEG_QUALITY = 86
MEANINGS = {
    "neighbour": "another object touches it or stands too near",
    "border": "it is cut off by the edge of the picture",
    "static occluder": "a pole, a sign or a parked thing may hide a part of it",
    "blurred": "its edge is not sharp",
    "small": "too few pixels to learn from",
    "unclassified": "neither shape nor motion tells what it is",
    "fragment": "only a part of an object was found",
    "merged": "more than one object in one silhouette",
    "short track": "it was not followed for long enough",
    "a better view was taken": "the same object was taken at a better moment",
    "plate not learned yet": "the background was not known yet",
    "disk full": "the spool had no room",
}


def write_report(folder: Path, report: Report, evidence: Evidence, matches: Sequence[Match]) -> Path:
    """Writes the report's three files into `folder`; returns the page's path.

    Raises:
        ReportError: A picture that the journal names is missing, or the folder cannot be written.
    """
    page = _render(report, evidence, matches)
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    sheet = overview(evidence)
    try:
        _replace(folder / "report.json", data)
        if sheet is not None:
            _replace(folder / "overview.png", _encoded(sheet, ".png"))
        _replace(folder / "report.html", page.encode())
    except OSError as error:
        raise ReportError(f"cannot write the report in {folder}: {error.strerror}") from error
    return folder / "report.html"


def _render(report: Report, evidence: Evidence, matches: Sequence[Match]) -> str:
    templates = importlib.resources.files("walt_train.loop.report") / "templates"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "count": lambda value: f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        "percent": lambda value: f"{100 * value:.0f}%" if value >= 0.9995 or value == 0 else f"{100 * value:.1f}%",
        "share": lambda value: f"{100 * value:.0f}%",
        "iou": lambda value: f"{value:.3f}",
        "ms": lambda value: f"{value:.0f} ms",
        "seconds": lambda value: f"{value:.1f} s",
        "short": lambda value: f"{value:.4g}",
        "size": lambda value: f"{value / 1e6:.1f} MB",
    }
    template = environment.from_string((templates / "report.html").read_text())
    # The style is ours, not data: it goes in as it is.
    style = (templates / "style.css").read_text()
    return template.render(report=report, style=style, **_contents(report, evidence, matches))


def _contents(report: Report, evidence: Evidence, matches: Sequence[Match]) -> dict[str, Any]:
    found = sorted((match for match in matches if match.true_mask is not None), key=lambda match: match.iou)
    best, worst = (found[-1], found[0]) if found else (None, None)
    plate = evidence.plate
    pictures = {
        "silhouettes": silhouettes(evidence, _WIDE_PX),
        "plate": scaled(plate, _HALF_PX / plate.shape[1]) if plate is not None else None,
        "tracks": tracks(evidence, _HALF_PX),
        "best": _on_stage(best),
        "worst": _on_stage(worst),
    }
    hidden = worst.truth.occlusion_fraction if worst and worst.truth else 0.0
    return {
        "pictures": {name: _inlined(picture) for name, picture in pictures.items()},
        "gallery": _gallery(evidence),
        "reasons": _reasons(report, evidence),
        "best_iou": best.iou if best else 0.0,
        "worst_iou": worst.iou if worst else 0.0,
        "worst_note": f", {100 * hidden:.0f}% of it hidden" if hidden >= 0.005 else "",
    }


def _gallery(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        {
            "src": _inlined(outlined(clip.bgr, clip.mask, clip.header.label.title, 300, 560)),
            "label": clip.header.label.title,
            "confidence": clip.header.unoccluded_confidence,
            "time_s": round(clip.header.captured.media_time_s),
        }
        for clip in best_first(evidence.clips)[:_GALLERY]
    ]


def _reasons(report: Report, evidence: Evidence) -> list[dict[str, Any]]:
    moments, objects = report.refused_moments, report.rejected_by_reason
    most = max(moments.values(), default=1)
    return [
        {
            "reason": reason,
            "meaning": MEANINGS.get(reason, ""),
            "moments": moments.get(reason, 0),
            "objects": objects.get(reason, 0),
            "share": round(100 * moments.get(reason, 0) / most, 1),
            "src": _inlined(example_of(evidence, reason, 240, 160)),
        }
        for reason in dict.fromkeys([*moments, *objects])
    ]


def _on_stage(match: Match | None) -> Picture | None:
    """A match at the size of its figure, on a canvas of the half column's shape."""
    if match is None:
        return None
    inner = against_truth(match, 420, _HALF_PX - 40)
    height, width = 460, _HALF_PX
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    soft = cv2.GaussianBlur(cv2.resize(fitted(match.clip.bgr, 64, 64), (width, height)), (0, 0), 30)
    canvas = cv2.convertScaleAbs(soft, alpha=0.45)
    canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    picture: Picture = canvas
    return picture


def _inlined(picture: Picture | None) -> str:
    """A data URL, so that the page is one file."""
    if picture is None:
        return ""
    data = _encoded(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def _encoded(picture: Picture, suffix: str, parameters: Sequence[int] = ()) -> bytes:
    done, data = cv2.imencode(suffix, picture, list(parameters))
    assert done, f"an image of shape {picture.shape} was not encoded as {suffix}"
    encoded: bytes = data.tobytes()
    return encoded


def _replace(path: Path, data: bytes) -> None:
    """Writes whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
