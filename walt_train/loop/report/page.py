"""Writes `report.html` (one file, pictures inside), `report.json`, `overview.png` and `loop.png`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jinja2
import msgspec
import numpy as np

from walt_edge.contract.files import write_whole
from walt_train.loop.report.beforeafter import closest, whole_frame
from walt_train.loop.report.evidence import Evidence, Picture, ReportError
from walt_train.loop.report.figures import Report
from walt_train.loop.report.learning import curve_path
from walt_train.loop.report.overview import best_first, loop_sheet, overview
from walt_train.loop.report.pictures import against_truth, example_of, fitted, outlined, scaled, silhouettes, tracks
from walt_train.loop.report.truth import Match

_WIDE_PX = 1280
_HALF_PX = 800
_GALLERY = 36
_PAIRS, _PAIR_W, _PAIR_H = 6, 360, 270
_CURVE_W, _CURVE_H = 640.0, 180.0
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


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What the pictures of the closed loop are made of.

    Attributes:
        later: What the agent left of its second watch; None if there was none.
        composites: A sheet of composites with their layers, or None.
    """

    later: Evidence | None = None
    composites: Picture | None = None


NOTHING_LEARNED = Learned()


def write_report(
    folder: Path,
    report: Report,
    evidence: Evidence,
    matches: Sequence[Match],
    learned: Learned = NOTHING_LEARNED,
) -> Path:
    """Writes the report's files into `folder`; returns the page's path.

    Raises:
        ReportError: A picture that the journal names is missing, or the folder cannot be written.
    """
    page = _render(report, _contents(report, evidence, matches) | _learned(report, learned))
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    sheets = {"overview.png": overview(evidence)}
    if learned.later is not None and learned.composites is not None:
        sheets["loop.png"] = loop_sheet(learned.later, learned.composites)
    try:
        write_whole(folder / "report.json", data)
        for name, sheet in sheets.items():
            if sheet is not None:
                write_whole(folder / name, _encoded(sheet, ".png"))
        write_whole(folder / "report.html", page.encode())
    except OSError as error:
        raise ReportError(f"cannot write the report in {folder}: {error.strerror}") from error
    return folder / "report.html"


def _render(report: Report, contents: dict[str, Any]) -> str:
    loader = jinja2.PackageLoader("walt_train.loop.report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        "percent": lambda value: f"{100 * value:.0f}%" if value >= 0.9995 or value == 0 else f"{100 * value:.1f}%",
        "share": lambda value: f"{100 * value:.0f}%",
        "iou": lambda value: f"{value:.3f}",
        "ms": lambda value: f"{value:.0f} ms",
        "seconds": lambda value: f"{value:.1f} s",
        "short": lambda value: f"{value:.4g}",
        "points": lambda value: f"{value:+.1f}",
        "tenth": lambda value: f"{value:.1f}",
        "size": lambda value: f"{value / 1e6:.1f} MB",
    }
    # The style is ours, not data: it goes in as it is.
    style, _, _ = loader.get_source(environment, "style.css")
    return environment.get_template("report.html").render(report=report, style=style, **contents)


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


def _learned(report: Report, learned: Learned) -> dict[str, Any]:
    """Pictures of the closed loop; empty where it was not asked to close."""
    points = report.learning.curve if report.learning else []
    pair = whole_frame(learned.later, _HALF_PX) if learned.later else None
    pairs = closest(learned.later, _PAIRS, _PAIR_W, _PAIR_H) if learned.later else []
    return {
        "composites": _inlined(learned.composites),
        "curve": curve_path(points, _CURVE_W, _CURVE_H),
        "curve_top": max((point.loss for point in points), default=0.0),
        "frame_pair": [_inlined(picture) for picture in pair] if pair else [],
        "close_pairs": [
            {
                "before": _inlined(one.before),
                "after": _inlined(one.after),
                "label": one.label,
                "hidden": one.occlusion_fraction,
                "time_s": round(one.time_s),
            }
            for one in pairs
        ],
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


def picture_of(path: Path) -> Picture:
    """Reads a picture; raises ReportError."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ReportError(f"{path} cannot be read as a picture")
    return np.asarray(bgr, np.uint8)


def _encoded(picture: Picture, suffix: str, parameters: Sequence[int] = ()) -> bytes:
    done, data = cv2.imencode(suffix, picture, list(parameters))
    assert done, f"an image of shape {picture.shape} was not encoded as {suffix}"
    encoded: bytes = data.tobytes()
    return encoded
