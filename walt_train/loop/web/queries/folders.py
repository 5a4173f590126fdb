"""What lies in a generation's folder, read boundedly: logs, curves, reports, and what may be downloaded.

Whatever a name from outside is, only a file that is on the list of its generation is opened: no path is made of it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from walt_train.loop.serve.folder import Folder
from walt_train.loop.serve.jobs import Generation

_LOG_BYTES: Final = 24 * 1024
_LOG_LINES: Final = 120
_LINE_LETTERS: Final = 400
_CURVES_BYTES: Final = 64 << 20
_JSON_BYTES: Final = 8 << 20
_POINTS: Final = 160
_CLEAN: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DOWNLOADS: Final = (
    "bundle.walt",
    "verdict.json",
    "progress.json",
    "train/curves.json",
    "train/manifest.json",
    "reports/motion.json",
    "reports/champion.json",
    "reports/candidate.json",
)
_PICTURES: Final = 12
_SHEETS: Final = ("composites.jpg", "train/composites.jpg")
_PICTURE_KINDS: Final = (".png", ".jpg")


@dataclass(frozen=True, slots=True)
class Log:
    """The end of what a program said; `is_cut`: there is more before it."""

    name: str
    text: str
    bytes: int
    is_cut: bool


@dataclass(frozen=True, slots=True)
class File:
    """A file that may be downloaded; `name` is below the generation's folder."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Curve:
    """One figure of a training over its steps: at most 160 points, each the mean of its stretch."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """A row of a verdict's or an evaluation's table: a stretch of occlusion, a class or a part of the day."""

    name: str
    cases: int
    candidate: float | None
    baseline: float | None
    points: float | None
    interval: tuple[float, float] | None
    decision: str = ""


def logs(folder: Folder) -> list[Log]:
    """The ends of all logs, the newest last."""
    found = sorted((folder.root / "logs").glob("*.log"), key=_age)
    return [_log(path) for path in found[-12:]]


def downloads(folder: Folder) -> list[File]:
    """What may be downloaded of a generation."""
    named = [folder.root / name for name in _DOWNLOADS] + sorted((folder.root / "logs").glob("*.log"))
    return [File(str(path.relative_to(folder.root)), path.stat().st_size) for path in named if path.is_file()]


def download(folder: Folder, name: str) -> Path | None:
    """The file of that name, if it may be downloaded."""
    return folder.root / name if name in {one.name for one in downloads(folder)} else None


def pictures(folder: Folder) -> list[tuple[str, list[str]]]:
    """Names of pictures that the gate left of what it judged: (of one frame, by whom), at most 12 frames."""
    root = folder.root / "reports" / "pictures"
    by_name: dict[str, list[str]] = {}
    for who in ("champion", "motion", "candidate"):
        for path in sorted((root / who).glob("*")):
            if path.suffix in _PICTURE_KINDS:
                by_name.setdefault(path.name, []).append(who)
    return sorted(by_name.items())[:_PICTURES]


def sheets(folder: Folder) -> list[str]:
    """Names of pictures of what it learned from, below its folder: the sheet of composites."""
    return [name for name in _SHEETS if (folder.root / name).is_file()]


def curves(folder: Folder) -> list[Curve]:
    """How the losses fell: the total first."""
    path = folder.train / "curves.json"
    try:
        stat = path.stat()
    except OSError:
        return []
    return list(_curves(path, stat.st_mtime_ns, stat.st_size)) if stat.st_size <= _CURVES_BYTES else []


def verdict(folder: Folder) -> dict[str, Any]:
    """`verdict.json` as it stands; {} where there is none, or it cannot be read."""
    return _json(folder.verdict)


def slices(told: Mapping[str, Any]) -> list[Slice]:
    """The rows of a verdict that have figures of their own, whatever it calls them."""
    rows = [row for key in ("slices", "bands", "differences") for row in told.get(key) or ()]
    return [_slice(row) for row in rows if isinstance(row, dict)]


def findings(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind, line) of everything that a verdict objects to, or notes."""
    rows = [row for row in told.get("findings") or () if isinstance(row, dict)]
    return [(str(row.get("kind", "")), str(row.get("line", ""))) for row in rows]


def of_generation(home: Path | None, generation: Generation) -> Folder | None:
    """Its folder, if home has one."""
    if home is None:
        return None
    folder = Folder.of(home, generation)
    return folder if folder.root.is_dir() else None


@functools.lru_cache(maxsize=64)
def _curves(path: Path, changed_ns: int, size: int) -> Sequence[Curve]:
    """Of a file as it was at that time."""
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=list[dict[str, float | None]])
    except (OSError, msgspec.DecodeError):
        return ()
    names = list(dict.fromkeys(name for row in rows[:1] + rows[-1:] for name in row if name != "step"))
    return tuple(Curve(name, _thinned(rows, name)) for name in names)


def _thinned(rows: Sequence[Mapping[str, float | None]], name: str) -> tuple[tuple[float, float], ...]:
    known = [
        (float(row.get("step") or n), value) for n, row in enumerate(rows) if (value := row.get(name)) is not None
    ]
    width = max(1, -(-len(known) // _POINTS))
    parts = [known[first : first + width] for first in range(0, len(known), width)]
    return tuple((part[len(part) // 2][0], sum(value for _, value in part) / len(part)) for part in parts)


def _log(path: Path) -> Log:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LOG_BYTES))
        text = file.read(_LOG_BYTES).decode(errors="replace")
    # A progress bar writes over itself: only the last of it is worth reading.
    lines = [line.rstrip("\r").rpartition("\r")[2][:_LINE_LETTERS] for line in text.split("\n")]
    shown = [_CLEAN.sub("", line) for line in lines[-_LOG_LINES:]]
    return Log(path.name, "\n".join(shown).strip("\n"), size, size > _LOG_BYTES or len(lines) > _LOG_LINES)


def _age(path: Path) -> tuple[int, str]:
    return (path.stat().st_mtime_ns, path.name)


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _JSON_BYTES:
            return {}
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}


def _slice(row: Mapping[str, Any]) -> Slice:
    band = row.get("band")
    words = (row.get("dimension"), row.get("name"))
    name = f"{band['low']:g}-{band['high']:g} hidden" if isinstance(band, dict) else ": ".join(filter(None, words))
    interval = row.get("interval") or row.get("mask_interval")
    return Slice(
        name=name,
        cases=int(row.get("cases") or 0),
        candidate=row.get("candidate"),
        baseline=row.get("champion", row.get("baseline")),
        points=row.get("difference", row.get("points", row.get("mask_points"))),
        interval=(float(interval[0]), float(interval[1])) if interval else None,
        decision=str(row.get("decision", "")),
    )
