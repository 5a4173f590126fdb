"""What lies in a generation's folder, read boundedly: logs, curves, reports, and what may be downloaded.

Whatever a name from outside is, only a file that is on the list of its generation is opened: no path is made of it.
Programs write there: what is a link, a pipe or anything but a file in the folder itself is as if it were not there.
"""

from __future__ import annotations

import functools
import os
import re
import stat
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
_CURVES: Final = 64
_ROWS: Final = 200
_LINE: Final = 500
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


class _Band(msgspec.Struct):
    low: float
    high: float


class _Row(msgspec.Struct):
    """A row as a verdict or an evaluation writes it, whatever either calls its figures."""

    dimension: str = ""
    name: str = ""
    band: _Band | None = None
    cases: int = 0
    candidate: float | None = None
    champion: float | None = None
    baseline: float | None = None
    difference: float | None = None
    points: float | None = None
    mask_points: float | None = None
    interval: tuple[float, float] | None = None
    mask_interval: tuple[float, float] | None = None
    decision: str = ""


def logs(folder: Folder) -> list[Log]:
    """The ends of all logs, the newest last."""
    found = [(known.st_mtime_ns, path) for path in folder.logs.glob("*.log") if (known := _known(folder, path))]
    return [_log(path) for _, path in sorted(found)[-12:]]


def downloads(folder: Folder) -> list[File]:
    """What may be downloaded of a generation."""
    named = [folder.root / name for name in _DOWNLOADS] + sorted(folder.logs.glob("*.log"))
    return [
        File(str(path.relative_to(folder.root)), known.st_size) for path in named if (known := _known(folder, path))
    ]


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
    return [name for name in _SHEETS if _known(folder, folder.root / name)]


def curves(folder: Folder) -> list[Curve]:
    """How the losses fell: the total first."""
    known = _known(folder, folder.curves)
    if known is None or known.st_size > _CURVES_BYTES:
        return []
    return list(_curves(folder.curves, known.st_mtime_ns, known.st_size))


def verdict(folder: Folder) -> dict[str, Any]:
    """`verdict.json` as it stands; {} where there is none, or it cannot be read."""
    known = _known(folder, folder.verdict)
    return _json(folder.verdict) if known is not None and known.st_size <= _JSON_BYTES else {}


def slices(told: Mapping[str, Any]) -> list[Slice]:
    """The rows of a verdict that have figures of their own, whatever it calls them."""
    rows = [row for key in ("slices", "bands", "differences") for row in _dicts(told.get(key))]
    return [found for row in rows[:_ROWS] if (found := _slice(row)) is not None]


def findings(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind, line) of everything that a verdict objects to, or notes."""
    rows = _dicts(told.get("findings"))[:_ROWS]
    return [(str(row.get("kind", ""))[:_LINE], str(row.get("line", ""))[:_LINE]) for row in rows]


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
    except (OSError, msgspec.DecodeError, RecursionError):
        return ()
    names = list(dict.fromkeys(name for row in rows[:1] + rows[-1:] for name in row if name != "step"))[:_CURVES]
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


def _known(folder: Folder, path: Path) -> os.stat_result | None:
    """Of a file that lies in the folder itself; None of all else."""
    try:
        found = path.lstat()
        is_own = stat.S_ISREG(found.st_mode) and path.resolve().is_relative_to(folder.root.resolve())
    except OSError:
        return None
    return found if is_own else None


def _json(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, RecursionError):
        return {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _slice(told: Mapping[str, Any]) -> Slice | None:
    """None of a row that is written in no way that is known."""
    try:
        row = msgspec.convert(told, _Row)
    except msgspec.ValidationError:
        return None
    words = ": ".join(filter(None, (row.dimension, row.name)))
    return Slice(
        name=f"{row.band.low:g}-{row.band.high:g} hidden" if row.band is not None else words,
        cases=row.cases,
        candidate=row.candidate,
        baseline=_first(row.champion, row.baseline),
        points=_first(row.difference, row.points, row.mask_points),
        interval=row.interval or row.mask_interval,
        decision=row.decision,
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
