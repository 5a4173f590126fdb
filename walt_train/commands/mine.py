"""`walt-train mine`: an archive of one camera's recordings and stills into clip art."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from walt_edge.contract.clipart import read_clipart
from walt_edge.contract.errors import UsageError
from walt_edge.contract.topics import check_name

if TYPE_CHECKING:
    from walt_train.mining.sources import Source

MOTION = "motion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add(
        "sources",
        nargs="+",
        type=Path,
        metavar="SOURCE",
        help="a video, or a folder of frames, of dated stills, or of clip art (walt-loop store --export)",
    )
    add("--out", required=True, type=Path, metavar="DIR", help="folder for clipart.json, its images and overview.jpg")
    add("--camera", metavar="NAME", help="the camera's name (default: the source's, or that of the folder of all)")
    add(
        "--teacher",
        default=MOTION,
        metavar="WHO",
        help="motion, general (the package's weights), FILE.walt, FILE.onnx or mmdet:CONFIG:CHECKPOINT (motion)",
    )
    add(
        "--stills", action="store_true", help="folders hold stills that lie minutes apart (dated ones are recognised)"
    )
    add("--begin", metavar="TIME", help="when the recording without a date in its name began, ISO 8601, UTC")
    add("--fps", type=float, metavar="F", help="frames a second, where a source does not say or is wrong")
    add("--workers", default="0", metavar="N", help="processes, or ray, ray:N, ray:HOST:PORT (%(default)s: this one)")


def run(args: argparse.Namespace) -> int:
    """Mines and writes; says what was assumed, and prints one line at the end."""
    from walt_train.mining.archive import mine_archive  # what follows costs a second to import
    from walt_train.mining.sources import find_sources

    _check_teacher(args.teacher)
    if args.camera:
        check_name(args.camera, "camera")
    sources = find_sources(args.sources, stills=args.stills, begin_us=_begin(args.begin), fps=args.fps)
    camera = args.camera or _camera_of(sources) or _name_of(args.sources)
    for source in sources:
        began = dt.datetime.fromtimestamp(source.begin_us / 1e6, tz=dt.UTC)
        kind = "clip art" if source.clipart else "stills" if source.stills else "recording"
        sys.stderr.write(f"{source.name}: {kind} from {began:%Y-%m-%d %H:%M:%S} UTC ({source.assumed})\n")
    record = mine_archive(
        sources, args.out, camera=camera, teacher=args.teacher, workers=args.workers, quiet=not sys.stderr.isatty()
    )
    clips, objects = sum(e.clips for e in record.epochs), sum(e.objects for e in record.epochs)
    sys.stdout.write(
        f"{clips} clips of {objects} objects, {sum(e.plates for e in record.epochs)} plates, "
        f"{sum(e.static for e in record.epochs)} static things, {_epochs(len(record.epochs))}, "
        f"from {record.frames} frames: {args.out / 'clipart.json'}\n"
    )
    return 0


def _epochs(count: int) -> str:
    return "one epoch" if count == 1 else f"{count} epochs (epoch-1 ... beside it)"


def _check_teacher(spec: str) -> None:
    """Opens the teacher once here, so that what is wrong is told at once and not by every worker."""
    if spec != MOTION:
        from walt_train.mining.teachers import open_teacher

        open_teacher(spec)


def _begin(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"begin '{text}' is not an ISO 8601 time, such as 2026-06-01T09:30:00Z") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return max(0, round(moment.timestamp() * 1e6))


def _camera_of(sources: Sequence[Source]) -> str:
    """What clip art calls its camera, if all of it agrees; "" if there is none."""
    names = {read_clipart(source.paths[0]).camera for source in sources if source.clipart}
    if len(names) > 1:
        raise UsageError(f"clip art of the cameras {', '.join(sorted(names))}: mine each apart, or give --camera")
    return min(names, default="")


def _name_of(sources: Sequence[Path]) -> str:
    """The one source's name, or that of the folder that holds them all."""
    path = Path(os.path.commonpath([source.resolve() for source in sources]))
    parent = path.parent.name if path.name.lower() in ("frames", "images") else ""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", parent or path.stem).strip("-_")[:64] or "camera"
